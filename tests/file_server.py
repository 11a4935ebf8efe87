"""A server of files on this machine, to test downloads with."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fers.datasets import archive


class FileServer:
    """Files over HTTP with Range; a response may break off, go round in a circle, or never end."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.break_after: int | None = None  # bytes of each response's body
        self.goes_on = True  # answers a Range with the rest of the file, else with all of it
        self.endless: set[str] = set()  # paths whose answer never ends
        self.moved: dict[str, str] = {}  # paths that are answered with another address
        self.requests: list[str | None] = []  # the Range header of each
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.headers.get("Range"))
                if self.path in outer.moved:
                    self.send_response(302)
                    self.send_header("Location", outer.moved[self.path])
                    self.end_headers()
                    return
                if self.path in outer.endless:
                    self.send_response(200)
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        while True:
                            self.wfile.write(bytes(1 << 16))
                    return
                body = outer.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                match = re.fullmatch(r"bytes=(\d+)-", (outer.goes_on and self.headers.get("Range")) or "")
                start = int(match[1]) if match else 0
                if match and start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206 if match else 200)
                if match:
                    self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(body) - start))
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                # the client that goes on reads the headers of the whole file, hangs up, and asks for the rest
                with contextlib.suppress(OSError):
                    self.end_headers()
                    self.wfile.write(body[start:][: outer.break_after])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop, so that nobody answers at its address."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch):
    """A server without files; downloads try once."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(archive, "RETRIES", 0)
    server = FileServer()
    yield server
    server.close()

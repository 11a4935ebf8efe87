"""Damage good files: their bytes, numbers, structure, JSON, tensors. A seeded generator draws the damage."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import torch

_NUMBERS = [b"0", b"-1", b"99", b"1e9", b"2147483648", b"nan", b"{1}", b"", b"x", b"18446744073709551616"]
_VALUES: list[Any] = [
    None, True, 0, -1, 1e308, float("nan"), float("inf"), 2**64, 10**400, "", "x", "../../x", "\ud800", "$\\frac{$",
    [], {}, [[]], {"a": {"b": []}}, "9" * 300,
]  # fmt: skip


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip bits, overwrite, cut, remove or repeat bytes, or replace a number: one to three times."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        # half of the damage goes into the first kilobyte, where headers are
        place = rng.randrange(min(len(data), 1024) if rng.random() < 0.5 else len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            pattern = rng.choice((b"\0", b"\xff", b"\x7f", rng.randbytes(1)))
            data[place : place + rng.choice((1, 2, 4, 8))] = pattern * rng.choice((1, 2, 4, 8))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + rng.randint(1, 64)]
        elif kind == 4:
            data[place:place] = data[place : place + rng.randint(1, 64)]
        else:
            digits = [i for i, byte in enumerate(data[:8192]) if 48 <= byte <= 57]
            if digits:
                start = rng.choice(digits)
                data[start : start + 1] = rng.choice(_NUMBERS)
    return bytes(data)


_NUMBER = re.compile(rb"(?<![\w.+-])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![\w.])")
_IMPOSSIBLE = [b"nan", b"inf", b"-inf", b"NaN", b"1e308", b"-1", b"0", b"1e-300", b"1e6"]


def damage_numbers(content: bytes, rng: random.Random) -> bytes:
    """Replace one to three whole numbers of a text by impossible ones."""
    for _ in range(rng.randint(1, 3)):
        if found := list(_NUMBER.finditer(content[:100_000])):
            one = rng.choice(found)
            content = content[: one.start()] + rng.choice(_IMPOSSIBLE) + content[one.end() :]
    return content


def _again(value: Callable[[h5py.Dataset], Any]) -> Callable[[h5py.Group, str, random.Random], None]:
    """A change that stores other values under the name of a dataset."""

    def change(parent: h5py.Group, name: str, rng: random.Random) -> None:
        if not isinstance(parent[name], h5py.Dataset) or parent[name].size > 1_000_000:  # one that is huge already
            return

        new = value(parent[name])
        attributes = {k: v for k, v in parent[name].attrs.items() if k not in ("DIMENSION_LIST", "REFERENCE_LIST")}
        del parent[name]
        parent[name] = new
        parent[name].attrs.update(attributes)

    return change


def _link(target: Callable[[h5py.Group], Any], count: int = 1) -> Callable[[h5py.Group, str, random.Random], None]:
    """A change that puts links in the place of something, or many beside it."""

    def change(parent: h5py.Group, name: str, rng: random.Random) -> None:
        if count == 1:
            del parent[name]
        for _ in range(count):
            parent[name if count == 1 else f"link{len(parent)}"] = target(parent)

    return change


def _huge(parent: h5py.Group, name: str, rng: random.Random) -> None:
    item = parent[name]
    sides = [(300_000_000,), (1 << 40,), (60_000, 60_000), (0,), (*getattr(item, "shape", (3,)), 100_000)]
    del parent[name]
    parent.create_dataset(name, rng.choice(sides), rng.choice(("f8", "u1")), chunks=True, maxshape=None)


def _attribute(parent: h5py.Group, name: str, rng: random.Random) -> None:
    item = rng.choice((parent[name], parent.file))
    values = [np.nan, np.inf, -1.0, 0.0, 1e308, "", "x" * 50_000, "nan", np.full(3, np.nan), np.zeros(7000), "EPSG:0"]
    names = [key for key in item.attrs if key not in ("DIMENSION_LIST", "REFERENCE_LIST", "CLASS")]
    item.attrs[rng.choice(names or ["units"])] = rng.choice(values)


def _numbers_of(item: h5py.Dataset) -> np.ndarray:
    return np.asarray(item[()], "f4") if item.dtype.kind in "biuf" else np.zeros(3, "f4")


_STRUCTURE: tuple[Callable[[h5py.Group, str, random.Random], None], ...] = (
    lambda parent, name, rng: parent.__delitem__(name),
    _link(lambda parent: parent.file["/"]),
    _link(lambda parent: parent.file["/"], 12),
    _link(lambda parent: h5py.SoftLink("/loop")),
    _link(lambda parent: h5py.ExternalLink("/etc/passwd", "/")),
    _huge,
    _huge,
    _attribute,
    _attribute,
    _attribute,
    _again(lambda item: np.full(item.shape, np.nan, "f4")),
    _again(lambda item: _numbers_of(item) * np.inf),
    _again(lambda item: _numbers_of(item) * 1e6),
    _again(lambda item: _numbers_of(item)[..., :-1] if item.ndim else 1.0),
    _again(lambda item: np.concatenate([_numbers_of(item)] * 2) if item.ndim else [1.0, 2.0]),
    _again(lambda item: _numbers_of(item).T),
    _again(lambda item: "text"),
    _again(lambda item: np.zeros(item.shape, "c8")),
    _again(lambda item: np.zeros(item.shape, [("a", "f4"), ("b", "i2")])),
)


def damage_hdf5(content: bytes, rng: random.Random) -> bytes:
    """Change what an HDF5 file holds, once or twice, by the library itself: the file is whole, and makes no sense."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        for _ in range(rng.randint(1, 2)):
            names: list[str] = []
            file.visit(names.append)
            if names:
                place, _, name = rng.choice(names).rpartition("/")
                rng.choice(_STRUCTURE)(file[place or "/"], name, rng)
    return buffer.getvalue()


def damage_scene(content: bytes, rng: random.Random) -> bytes:
    """Damage the structure of an HDF5 file, the numbers of a text, or bytes."""
    if content.startswith(b"\x89HDF") and rng.random() < 0.6:
        return damage_hdf5(content, rng)
    if b"\0" not in content and rng.random() < 0.5:
        return damage_numbers(content, rng)
    return damage_bytes(content, rng)


def damage_json(content: bytes, rng: random.Random) -> bytes:
    """Replace a value, or remove, rename or move a key, in one line of JSON; or damage the bytes."""
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    try:
        documents = [json.loads(content)]
    except ValueError:
        documents = [json.loads(line) for line in content.splitlines()]
    index = rng.randrange(len(documents))
    for _ in range(rng.randint(1, 2)):
        documents[index] = _changed(documents[index], rng)
    return "\n".join(json.dumps(document) for document in documents).encode() + b"\n"


def _changed(value: Any, rng: random.Random) -> Any:
    inside = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inside or rng.random() < 0.1:
        return rng.choice(_VALUES)
    key = rng.choice(inside)
    kind = rng.randrange(6)
    if kind == 0:
        del value[key]
    elif kind == 1 and isinstance(value, dict):
        value[rng.choice(("", "odd", "../../x", "a/b"))] = value.pop(key)
    elif kind == 2:
        value[key] = value[rng.choice(inside)]
    elif kind == 3 and isinstance(value[key], (int, float)):
        value[key] = value[key] * rng.choice((-1, 1.5, 10**9)) + rng.choice((0, 1))
    else:
        value[key] = _changed(value[key], rng)
    return value


def damage_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Change the header's JSON or its metadata; or damage the bytes."""
    if rng.random() < 0.4:
        return damage_bytes(content, rng)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if metadata and rng.random() < 0.6:
        key = rng.choice(list(metadata))
        metadata[key] = rng.choice(
            (json.dumps(rng.choice(_VALUES)), damage_bytes(metadata[key].encode(), rng).decode("latin-1"))
        )
    else:
        header = _changed(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def damage_state(content: bytes, rng: random.Random) -> bytes:
    """Replace, remove or reshape a tensor or number in a file of ``torch.save``; or damage the bytes."""
    if rng.random() < 0.5:
        return damage_bytes(content, rng)
    state = torch.load(io.BytesIO(content), weights_only=True)
    place, key = state, rng.choice(list(state))
    while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.9:
        place = place[key]
        key = rng.choice(list(place) if isinstance(place, dict) else list(range(len(place))))
    value = place[key]
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        place[key] = rng.choice(
            (
                value * float("nan"),
                value * 1e38,
                value.double(),
                value.int(),
                value.to(torch.complex64),
                value[None],
                value.new_zeros(0),
            )
        )
    elif isinstance(place, dict) and rng.random() < 0.3:
        del place[key]
    else:
        place[key] = rng.choice(_VALUES[:-1])
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()

"""Damage good files: their bytes, their JSON, their tensors. A seeded generator draws the damage."""

from __future__ import annotations

import io
import json
import random
from typing import Any

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

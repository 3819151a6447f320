"""Damage of all kinds, from a seed: the same case is the same damage on every machine."""

from __future__ import annotations

import copy
import random
from contextlib import suppress
from typing import Any

TOKENS = (
    *(b"\0", b"\x1b[2J", b"\n", b"\r\n", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 3_000, b"{" * 300),
    *(b'"', b"'", b"\\", b": ", b", ", b"- ", b"&a ", b"*a", b"<<: ", b"!!python/none ", b"#"),
    *(b"9" * 5_000, b"-1", b"1e999", b"NaN", b"0x7f", b"1_0", b"null", b"~", b"true", b"../", b"/"),
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**40,
        2**63,
        2**64,
        -(2**70),
        10**30,
        10**400,
        0.5,
        -0.0,
    ),
    *(
        1e-320,
        1e30,
        1e308,
        -1e308,
        "",
        "x",
        "a\0b",
        "../x",
        "/etc/passwd",
        "\x1b[2J",
        "x" * 100_000,
    ),
    *("\u202e", "é" * 300, "٣", [], {}, [[]], [None], [0] * 50_000, [""] * 100, {"": None}),
    *({"a" * 10_000: 1}, {str(n): n for n in range(3_000)}, [[[[[[[[]]]]]]]]),
)


def damage_bytes(data: bytes, rng: random.Random, most: int = 6) -> bytes:
    """Change a few places: bits, bytes, pieces that go or come twice, tokens, the end."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(damaged) + 1)
        size = rng.choice((1, 2, 4, 16, 100, 512))
        kind = rng.randrange(7)
        if kind == 0 and at < len(damaged):
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del damaged[at : at + size]
        elif kind == 3:
            other = rng.randrange(len(damaged) + 1)
            damaged[other:other] = damaged[at : at + size]
        elif kind == 4:
            damaged[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            damaged[at : at + size] = bytes(size)
        elif rng.random() < 0.3:
            del damaged[at:]
    return bytes(damaged)


def damage_tree(tree: Any, rng: random.Random, most: int = 3) -> Any:
    """Change a few values of a tree of dicts and lists: another value, a key that goes or comes."""
    damaged = copy.deepcopy(tree)
    for _ in range(rng.randint(1, most)):
        holder = damaged
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.85:
                holder = holder[key]
                continue
            kind = rng.randrange(4)
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, dict):
                holder[rng.choice(("x", "", "a\0", "\x1b[2J", "x" * 500))] = rng.choice(VALUES)
            elif kind == 2 and isinstance(holder[key], int | float):
                with suppress(OverflowError):
                    holder[key] *= rng.choice((-1, 0, 2, 1_000, 10**9, 0.999, 1e300))
            else:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
            break
    return damaged

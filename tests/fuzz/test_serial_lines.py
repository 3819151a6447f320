"""Damaged serial lines: the reader gives an estimate, or nothing."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emotion_edge.runtime.sinks.serial_format import encode_frame, encode_line, encode_name_frames

from ..runtime.sinks.test_serial_format import ESTIMATE, OPTIMISTS, THREE
from .conftest import Fuzz
from .mutations import damage_bytes

READER = Path(__file__).parents[2] / "scripts/read_serial"

pytestmark = pytest.mark.skipif(
    not READER.exists(), reason="the scripts are not part of the installed package"
)


@pytest.fixture(scope="module")
def reader() -> dict[str, Any]:
    return runpy.run_path(str(READER))


def test_lines(fuzz: Fuzz, reader: dict[str, Any]) -> None:
    """JSON: a mapping or nothing."""
    decode: Callable[[bytes], object] = reader["decode_line"]
    line = encode_line(ESTIMATE)

    def case(rng: random.Random) -> None:
        fields = decode(damage_bytes(line, rng))
        assert fields is None or isinstance(fields, dict)

    fuzz(3_000, case)


@pytest.mark.parametrize("whole", [encode_frame(ESTIMATE), encode_frame(THREE)], ids=["1", "2"])
def test_frames(fuzz: Fuzz, reader: dict[str, Any], whole: bytes) -> None:
    """Binary: the frame itself, or nothing, whatever came before on the line. A damage that the
    checksum does not show needs 65,536 of them."""
    names = encode_name_frames(OPTIMISTS)

    def case(rng: random.Random) -> None:
        frames = reader["FrameReader"]()
        stream = names + whole + damage_bytes(names + whole, rng) + b"\0" + names + whole
        answers = [frames.decode(piece) for piece in stream.split(b"\0")]
        for fields in filter(None, answers):
            assert set(fields) in ({"labels"}, set(reader["KEYS"]))
        assert answers[-2]["t_ms"] == ESTIMATE.t_ns // 1_000_000

    fuzz(2_000, case)

"""JSON lines: the frozen keys, numbers, times of day, and which files are of this kind."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from emotion_edge.runtime.messages import FaceEstimate
from emotion_edge.runtime.sinks.jsonl import JsonLines, encode_estimate

from . import estimates

ESTIMATE = replace(
    estimates.ESTIMATE,
    t_ns=1_234_567_890,
    index=7,
    confidence=0.81234567,
    probabilities={"happy": 0.81234567, "sad": 0.18765433},
    face={"happy": 0.9, "sad": 0.1},
    voice=None,
    skew_ns=1_234_567,
    stages_us={"wait": 1.0, "face": 8_765.4321},
)


def test_line_has_the_frozen_keys() -> None:
    """Other programs read them: order, names, units and digits stay."""
    line = encode_estimate(ESTIMATE)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert list(json.loads(line).items()) == [
        ("t_ns", 1_234_567_890),
        ("index", 7),
        ("label", "happy"),
        ("confidence", 0.812346),
        ("probabilities", {"happy": 0.812346, "sad": 0.187654}),
        ("modalities", {"face": 0.7, "voice": 0.3}),
        ("face", {"happy": 0.9, "sad": 0.1}),
        ("voice", None),
        ("abstained", False),
        ("skew_ms", 1.235),
        ("latency_ms", 12.346),
        ("stages_ms", {"wait": 0.001, "face": 8.765}),
        ("level", "full"),
        ("faces", []),
        ("voice_activity", 0.0),
    ]


def test_faces_of_a_line() -> None:
    """Each with its box in pixels and its own result, null where it abstained."""
    anna = FaceEstimate(
        "kqwxyz", (10.123, -3.0, 99.96), 0.9, "happy", 0.8, {"happy": 0.8, "sad": 0.2}
    )
    ben = FaceEstimate("abcdef", (300.0, 3.0, 80.0), np.float32(0.5), None, 0.0, {})
    fields = json.loads(encode_estimate(replace(ESTIMATE, faces=(anna, ben))))
    assert [list(face.items()) for face in fields["faces"]] == [
        [
            ("id", "kqwxyz"),
            ("box", [10.1, -3.0, 100.0]),
            ("score", 0.9),
            ("label", "happy"),
            ("confidence", 0.8),
            ("probabilities", {"happy": 0.8, "sad": 0.2}),
        ],
        [
            ("id", "abcdef"),
            ("box", [300.0, 3.0, 80.0]),
            ("score", 0.5),
            ("label", None),
            ("confidence", 0.0),
            ("probabilities", {}),
        ],
    ]


def test_numbers_that_are_not_finite() -> None:
    """A faulty network does not make the file unreadable. NumPy's scalars are accepted."""
    wrong = {"happy": float("nan"), "sad": float("inf")}
    estimate = replace(ESTIMATE, probabilities=wrong, confidence=np.float32(0.5), label=None)
    fields = json.loads(encode_estimate(estimate), parse_constant=pytest.fail)
    assert fields["probabilities"] == {"happy": None, "sad": None}
    assert fields["confidence"] == 0.5
    assert fields["label"] is None


@pytest.mark.parametrize("utc", ["2026-11-30T18:36:00.123Z", None])
def test_time_of_day(utc: str | None) -> None:
    """It comes last, null where it is unknown. Without `output.clock: utc` there is no key."""
    line = JsonLines(lambda _: utc).encode(ESTIMATE)
    assert list(json.loads(line).items())[-1] == ("utc", utc)
    assert JsonLines().encode(ESTIMATE) == encode_estimate(ESTIMATE)


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[1]", b"{}", b"\xff\xfe", b'{"t_ns":0', b'{"t_ns":0,"index":1}', b"\0" * 99],
)
def test_lines_of_other_programs(line: bytes) -> None:
    """They are not of this kind; the encoder's own lines are."""
    assert not JsonLines().is_own(line)
    assert JsonLines().is_own(encode_estimate(ESTIMATE).rstrip())

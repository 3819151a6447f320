"""JSON lines: the frozen keys, and failures to write them."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.runtime.messages import FaceEstimate, SinkClosed
from emotion_edge.runtime.sinks.jsonl import JsonlSink, encode_estimate

from ... import processes
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


def read_indices(lines: str | bytes) -> list[int]:
    return [json.loads(line)["index"] for line in lines.splitlines()]


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


def test_each_line_is_written_at_once(tmp_path: Path) -> None:
    """An old file is overwritten, and each estimate can be read before the next."""
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    with JsonlSink(path) as sink:
        for index in range(3):
            sink.publish(replace(ESTIMATE, index=index))
            assert read_indices(path.read_text()) == list(range(index + 1))
    sink.close()
    sink.publish(ESTIMATE)
    assert len(path.read_text().splitlines()) == 3


def test_full_disk_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on without its file."""
    with caplog.at_level(logging.ERROR), JsonlSink("/dev/full") as sink:
        for _ in range(3):
            sink.publish(ESTIMATE)
    (message,) = caplog.messages
    assert "/dev/full" in message
    assert os.strerror(errno.ENOSPC) in message


def test_disk_that_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that the full disk cut off is completed first, so every line is whole."""
    path = tmp_path / "out.jsonl"
    real_write = os.write
    room = 500

    def write_until_full(file: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real_write(file, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write_until_full)
    assert 250 < len(encode_estimate(ESTIMATE)) < 500
    with caplog.at_level(logging.INFO), JsonlSink(path) as sink:
        for index in range(4):
            sink.publish(replace(ESTIMATE, index=index))
        room = 10_000
        sink.publish(replace(ESTIMATE, index=4))
        room = 0
        sink.publish(replace(ESTIMATE, index=5))
    assert read_indices(path.read_text()) == [0, 1, 4]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"]


def test_closed_pipe_ends_the_run() -> None:
    """As with `| head -1`. Nothing is written afterwards."""
    reading, writing = os.pipe()
    with JsonlSink(f"/proc/self/fd/{writing}") as sink:
        os.close(writing)
        sink.publish(ESTIMATE)
        os.close(reading)
        with pytest.raises(SinkClosed):
            sink.publish(ESTIMATE)
        sink.publish(ESTIMATE)


def test_reader_that_sleeps_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A full pipe loses whole estimates, and recovers when it is read."""
    reading, writing = os.pipe()
    with JsonlSink(f"/proc/self/fd/{writing}", write_timeout_ms=0) as sink:
        for index in range(2000):
            sink.publish(replace(ESTIMATE, index=index))
        data = os.read(reading, 1 << 20)
        sink.publish(replace(ESTIMATE, index=9999))
        data += os.read(reading, 1 << 20)
    os.close(reading)
    os.close(writing)
    indices = read_indices(data)
    assert 50 < len(indices) < 1900
    assert indices == [*range(len(indices) - 1), 9999]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_closed_stdout_leaves_no_traceback() -> None:
    """`jsonl:-` into a closed pipe raises SinkClosed. The exit prints nothing on stderr."""
    code = (
        "import sys\n"
        "from emotion_edge.runtime.messages import Estimate, SinkClosed\n"
        "from emotion_edge.runtime.sinks.jsonl import JsonlSink\n"
        "print('first')\n"
        "sink = JsonlSink('-')\n"
        "estimate = Estimate(0, 0, None, 0.0, {}, {}, None, None, True, 0, 0.0, {}, '')\n"
        "sys.stdin.read(1)\n"
        "try:\n"
        "    sink.publish(estimate)\n"
        "except SinkClosed:\n"
        "    sys.exit(3)\n"
    )
    pipe = subprocess.PIPE
    environment = {name: value for name, value in os.environ.items() if "UNBUFFERED" not in name}
    with processes.start(
        [sys.executable, "-c", code], env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"x", timeout=500)
    assert (process.returncode, errors) == (3, b"")

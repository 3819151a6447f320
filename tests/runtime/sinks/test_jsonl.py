"""JSON lines: the frozen keys, and what happens when they cannot be written."""

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

from emotion_edge.runtime.messages import Estimate, SinkClosed
from emotion_edge.runtime.sinks.jsonl import JsonlSink, encode_estimate

from ... import processes

ESTIMATE = Estimate(
    t_ns=1_234_567_890,
    index=7,
    label="happy",
    confidence=0.81234567,
    probabilities={"happy": 0.81234567, "sad": 0.18765433},
    modalities={"face": 0.7, "voice": 0.3},
    face={"happy": 0.9, "sad": 0.1},
    voice=None,
    abstained=False,
    skew_ns=1_234_567,
    latency_us=12_345.678,
    stages_us={"wait": 1.0, "face": 8_765.4321},
    level="full",
)


def test_line_has_the_frozen_keys() -> None:
    """Others read these: the order, the names, the units and the digits stay."""
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
    ]


def test_numbers_that_are_not_finite() -> None:
    """A network that went wrong must not make the file unreadable; NumPy's numbers are fine."""
    wrong = {"happy": float("nan"), "sad": float("inf")}
    estimate = replace(ESTIMATE, probabilities=wrong, confidence=np.float32(0.5), label=None)
    fields = json.loads(encode_estimate(estimate), parse_constant=pytest.fail)
    assert fields["probabilities"] == {"happy": None, "sad": None}
    assert fields["confidence"] == 0.5
    assert fields["label"] is None


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    """An old file is overwritten, and each estimate can be read before the next."""
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    with JsonlSink(path) as sink:
        for index in range(3):
            sink.publish(replace(ESTIMATE, index=index))
            lines = path.read_text().splitlines()
            assert [json.loads(line)["index"] for line in lines] == list(range(index + 1))
    sink.close()
    sink.publish(ESTIMATE)
    assert len(path.read_text().splitlines()) == 3


def test_full_disk_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """The program goes on without its file."""
    with caplog.at_level(logging.ERROR), JsonlSink("/dev/full") as sink:
        for _ in range(3):
            sink.publish(ESTIMATE)
    assert [record.message for record in caplog.records] == [
        "cannot write /dev/full: No space left on device; estimates are lost"
    ]


def test_disk_that_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that was cut off by a full disk is finished first: no line is ever broken."""
    path = tmp_path / "out.jsonl"
    real_write = os.write
    room = 500

    def write_until_full(file: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
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
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == [0, 1, 4]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"]


def test_other_cause_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full, and then broken: once each."""
    codes = [errno.ENOSPC] * 3 + [errno.EIO] * 3

    def fail(file: int, data: bytes) -> int:
        raise OSError(codes[0], os.strerror(codes.pop(0)))

    with JsonlSink(tmp_path / "out.jsonl") as sink:
        monkeypatch.setattr(os, "write", fail)
        while codes:
            sink.publish(ESTIMATE)
        monkeypatch.undo()
    full, broken = caplog.messages
    assert os.strerror(errno.ENOSPC) in full
    assert os.strerror(errno.EIO) in broken


def test_closed_pipe_ends_the_run() -> None:
    """`| head -1` has seen enough: a clean end, and nothing more is written."""
    reading, writing = os.pipe()
    with JsonlSink(f"/proc/self/fd/{writing}") as sink:
        os.close(writing)
        sink.publish(ESTIMATE)
        os.close(reading)
        with pytest.raises(SinkClosed, match="nobody reads"):
            sink.publish(ESTIMATE)
        sink.publish(ESTIMATE)


def test_reader_that_sleeps_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """A pipe nobody empties loses estimates, whole ones, and works again when it is read."""
    reading, writing = os.pipe()
    with JsonlSink(f"/proc/self/fd/{writing}", write_timeout_ms=0) as sink:
        for index in range(2000):
            sink.publish(replace(ESTIMATE, index=index))
        held = os.read(reading, 1 << 20)
        sink.publish(replace(ESTIMATE, index=9999))
        held += os.read(reading, 1 << 20)
    os.close(reading)
    os.close(writing)
    indices = [json.loads(line)["index"] for line in held.splitlines()]
    assert 50 < len(indices) < 1900
    assert indices[-1] == 9999
    assert indices[:-1] == list(range(len(indices) - 1))
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_stdout_is_not_closed_with_the_sink() -> None:
    """`jsonl:-` into a closed pipe: SinkClosed, no traceback, nothing on stderr at the end."""
    code = (
        "import sys\n"
        "from emotion_edge.runtime.messages import Estimate\n"
        "from emotion_edge.runtime.sinks import SinkClosed, open_sinks\n"
        "print('first')\n"
        "opened = open_sinks(['jsonl:-'])\n"
        "sink = opened.__enter__().publishers[0]\n"
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

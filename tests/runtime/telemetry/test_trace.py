"""Traces: the ring of the newest frames, the events in a file, and when a file is written."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.telemetry.latency import STAGES
from emotion_edge.runtime.telemetry.trace import (
    MAX_FILES,
    Trace,
    TraceWriter,
    chrome_events,
    write_trace,
)

from ..sinks.estimates import ESTIMATE
from .concurrency import read_while_writing

SECOND = 1_000_000_000
NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)
Event = dict[str, Any]


def make_estimate(
    index: int,
    stages_us: dict[str, float] | None = None,
    label: str = "happy",
    level: str = "full",
) -> Estimate:
    """Without `stages_us`, the stages' durations identify the frame."""
    if stages_us is None:
        stages_us = {name: index + number / 8 for number, name in enumerate(STAGES)}
    return replace(
        ESTIMATE,
        index=index,
        label=label,
        confidence=0.123456,
        probabilities={label: 0.123456},
        face={label: 0.123456},
        voice=None,
        latency_us=sum(stages_us[name] for name in STAGES[:-1]),
        stages_us=stages_us,
        level=level,
    )


def make_stages(**stages_us: float) -> dict[str, float]:
    return {**dict.fromkeys(STAGES, 0.0), **stages_us}


# The ring


def test_rows_hold_what_was_added() -> None:
    """Every field, with the publication of this result and not of the one before."""
    trace = Trace(["full", "lean"])
    trace.add(make_estimate(7, level="lean"), 1_000, 2_000, 3, "face", publish_us=42.5)
    trace.add(make_estimate(8, level="unknown"), -5, 4_000)
    first, second = trace.rows()
    assert (first.number, first.index, first.captured_ns, first.woke_ns) == (1, 7, 1_000, 2_000)
    assert (first.dropped, first.level, first.cause) == (3, "lean", "face")
    stages_us = {name: 7 + number / 8 for number, name in enumerate(STAGES)}
    assert first.latency_us == sum(list(stages_us.values())[:-1])
    assert first.stages_us == {**stages_us, "publish": 42.5}
    assert (second.captured_ns, second.dropped, second.level, second.cause) == (-5, 0, "", None)


@given(st.integers(0, 40), st.integers(1, 12))
def test_ring_holds_the_newest(number: int, capacity: int) -> None:
    """The last `capacity` rows, oldest first, in memory that does not grow."""
    trace = Trace(["full"], capacity)
    memory, size = trace._rows, len(trace._rows)
    for index in range(number):
        trace.add(make_estimate(index), index, index)
    kept = list(range(number))[-capacity:]
    assert [row.index for row in trace.rows()] == kept
    assert [row.number for row in trace.rows()] == [index + 1 for index in kept]
    assert trace._rows is memory
    assert len(memory) == size < 200 * capacity


def test_newest_events() -> None:
    trace = Trace([], num_events=3)
    for number in range(5):
        trace.add_event(number, f"event {number}")
    assert trace.events() == [(2, "event 2"), (3, "event 3"), (4, "event 4")]


def test_read_while_writing() -> None:
    """Another thread never reads half a row."""
    trace = Trace(["full"], capacity=4)
    torn: list[object] = []

    def read() -> None:
        for row in trace.rows():
            whole = row.captured_ns == row.woke_ns == row.index == row.number
            if not whole or row.stages_us["wait"] != row.index:
                torn.append(row)

    def write() -> None:
        for index in range(1, 3000):
            trace.add(make_estimate(index), index, index)

    read_while_writing(read, write)
    assert torn == []


# The events of a file


def run_frames(trace: Trace, gaps_us: list[float], stages: list[dict[str, float]]) -> None:
    """Add frames as the main thread does: each is published before the next begins."""
    now_ns = SECOND
    for index, (gap_us, stages_us) in enumerate(zip(gaps_us, stages, strict=True)):
        now_ns += round(gap_us * 1e3)
        captured_ns = now_ns - round(stages_us["wait"] * 1e3)
        estimate = make_estimate(index, stages_us)
        trace.add(estimate, captured_ns, now_ns, publish_us=stages_us["publish"])
        now_ns += round(sum(stages_us[name] for name in STAGES[1:]) * 1e3)


def list_names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def list_events(trace: Trace) -> list[Event]:
    groups = chrome_events(trace.rows(), trace.events())
    return json.loads(json.dumps([event for group in groups for event in group]))


def check_format(events: list[Event]) -> None:
    """Assert what the Trace Event Format requires of each kind of event. The slices of a lane nest
    strictly."""
    lanes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    waiting: dict[tuple[str, str, str], int] = {}
    for event in events:
        assert event["ph"] in ("M", "X", "b", "e", "i", "C")
        assert isinstance(event["name"], str)
        assert type(event["pid"]) is type(event["tid"]) is int
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)
            continue
        assert type(event["ts"]) is int
        key = (event.get("cat", ""), event.get("id", ""), event["name"])
        if event["ph"] == "X":
            assert event["dur"] >= 0
            lanes[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] == "b":
            assert key[1]
            waiting[key] = event["ts"]
        elif event["ph"] == "e":
            assert waiting.pop(key) <= event["ts"]
        elif event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        else:
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
    assert not waiting
    for slices in lanes.values():
        open_ends: list[int] = []
        for begin, end in sorted(slices, key=lambda times: (times[0], -times[1])):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


STAGE_US = st.one_of(st.just(0.0), st.integers(1, 90_000_000).map(lambda ns: ns / 1e3))
FRAMES = st.lists(
    st.tuples(STAGE_US, st.fixed_dictionaries(dict.fromkeys(STAGES, STAGE_US))), max_size=12
)


@given(FRAMES, st.integers(1, 12))
def test_events_keep_to_the_format(
    frames: list[tuple[float, dict[str, float]]], capacity: int
) -> None:
    """Whatever the times: every event is complete, and the slices of the main thread nest."""
    trace = Trace(["full"], capacity)
    run_frames(trace, [gap for gap, _ in frames], [stages for _, stages in frames])
    trace.add_event(5, "level full -> lean")
    events = list_events(trace)
    check_format(events)
    kinds = [event["ph"] for event in events]
    assert kinds.count("C") == min(len(frames), capacity)


def test_stages_follow_one_another() -> None:
    """Waiting from the capture on, the stages in the main thread's lane, then the publication."""
    trace = Trace(["full"])
    first = make_stages(wait=2000.0, sync=100.0, preprocess=500.0, face=4000.0, fusion=200.0)
    second = make_stages(sync=50.0, voice=3000.0, fusion=100.0, publish=700.0)
    trace.add(make_estimate(1, first), SECOND, SECOND + 2_000_000, 2, "face", publish_us=700.0)
    trace.add(make_estimate(2, second), SECOND + 33_000_000, SECOND + 33_000_000, publish_us=90.0)
    events = list_events(trace)
    lane = [(e["name"], e["ts"] - 1_000_000, e["dur"]) for e in events if e["ph"] == "X"]
    assert lane == [
        ("frame", 2000, 4800),
        ("sync", 2000, 100),
        ("preprocess", 2100, 500),
        ("face", 2600, 4000),
        ("fusion", 6600, 200),
        ("publish", 6800, 700),
        ("frame", 33_000, 3150),
        ("sync", 33_000, 50),
        ("voice", 33_050, 3000),
        ("fusion", 36_050, 100),
        ("publish", 36_150, 90),
    ]
    waits = [(e["ph"], e["name"], e["ts"] - 1_000_000) for e in events if e["ph"] in "be"]
    assert waits == [("b", "wait", 0), ("e", "wait", 2000)]
    (frame, _) = (e for e in events if e["name"] == "frame")
    assert frame["args"] == {"index": 1, "latency_ms": 6.8, "level": "full", "dropped_before": 2}
    assert [e["args"]["ms"] for e in events if e["ph"] == "C"] == [6.8, 3.15]


def test_misses_and_events_are_instants() -> None:
    trace = Trace(["full"])
    trace.add(make_estimate(1, make_stages(face=50_000.0)), SECOND, SECOND, cause="face")
    trace.add_event(2 * SECOND, "level full -> lean")
    instants = [(e["name"], e["ts"], e["s"]) for e in list_events(trace) if e["ph"] == "i"]
    assert instants == [
        ("over budget: face", 1_050_000, "p"),
        ("level full -> lean", 2_000_000, "p"),
    ]


def test_publication_ends_before_the_next_frame_begins() -> None:
    """Rounding must not make the two overlap. A publication of no time has no slice."""
    trace = Trace(["full"])
    trace.add(make_estimate(1, make_stages(face=10.0)), SECOND, SECOND, publish_us=50.0)
    trace.add(make_estimate(2, make_stages(face=10.0)), SECOND, SECOND + 40_000)
    published = [e["dur"] for e in list_events(trace) if e["name"] == "publish"]
    assert published == [30]


# The file


@pytest.mark.parametrize("number", [0, 50])
def test_file_holds_all_events(tmp_path: Path, number: int) -> None:
    """One JSON object, and no other file."""
    trace = Trace(["full"])
    run_frames(trace, [20_000.0] * number, [make_stages(wait=1000.0, face=5000.5)] * number)
    trace.add_event(3, 'a "quoted" word')
    write_trace(trace, tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    assert set(content) == {"displayTimeUnit", "traceEvents"}
    assert content["traceEvents"] == list_events(trace)
    assert list_names(tmp_path) == ["t.json"]


def test_file_holds_no_estimate(tmp_path: Path) -> None:
    """No label and no probability."""
    labels = load_bundle(DEFAULT_BUNDLE).manifest.labels
    trace = Trace(["full"])
    for index, label in enumerate(labels):
        estimate = make_estimate(index, make_stages(face=50_000.0), label)
        trace.add(estimate, SECOND, SECOND, cause="face")
    write_trace(trace, tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text()
    assert [label for label in labels if label in text] == []
    assert "0.123" not in text


def test_failed_write_keeps_the_file_before(tmp_path: Path) -> None:
    """The write fails in the middle of the file."""
    path = tmp_path / "t.json"
    path.write_text("before")
    trace = Trace(["full"])
    run_frames(trace, [20_000.0] * 50, [make_stages(face=5000.0)] * 50)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            write_trace(trace, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "before"
    assert list_names(tmp_path) == ["t.json"]


# When it is written


class WriterBench:
    """A writer whose time of day advances by a second with each file."""

    def __init__(self, folder: Path) -> None:
        self.trace = Trace(["full"])
        self.trace.add(make_estimate(1, make_stages(face=50_000.0)), SECOND, SECOND)
        self.noon = NOON
        self.writer = TraceWriter(self.trace, folder, self.read_utc)

    def read_utc(self) -> datetime:
        self.noon += timedelta(seconds=1)
        return self.noon


def test_written_on_request(tmp_path: Path) -> None:
    """Once, at the next tick, with or without misses."""
    writer = WriterBench(tmp_path).writer
    assert writer.tick(0, 0) is None
    writer.request()
    writer.request()
    path = writer.tick(1, 0)
    assert path == tmp_path / "emotion-edge-trace-20260304T120001Z.json"
    assert path.exists()
    assert writer.tick(2, 0) is None


def test_misses_write_once_a_minute(tmp_path: Path) -> None:
    """However many there are, and only while there are new ones."""
    writer = WriterBench(tmp_path).writer
    written_s = [now_s for now_s in range(200) if writer.tick(now_s * SECOND, now_s // 2)]
    assert written_s == [2, 62, 122, 182]
    assert writer.tick(1000 * SECOND, 99) is None


def test_request_within_the_minute(tmp_path: Path) -> None:
    """A request does not wait, and does not delay the trace of the next miss."""
    writer = WriterBench(tmp_path).writer
    assert writer.tick(0, 1)
    writer.request()
    assert writer.tick(30 * SECOND, 2)
    assert writer.tick(31 * SECOND, 3) is None
    assert writer.tick(60 * SECOND, 4)


def test_clock_that_goes_back(tmp_path: Path) -> None:
    """Traces do not stop until the clock has caught up."""
    writer = WriterBench(tmp_path).writer
    assert writer.tick(10_000 * SECOND, 1)
    assert writer.tick(5 * SECOND, 2)


def test_only_own_oldest_traces_are_deleted(tmp_path: Path) -> None:
    """The newest `MAX_FILES` stay, and so does every file of others."""
    others = ["emotion-edge-trace-notes.json", "holiday.json", "emotion-edge-trace-1.json.bak"]
    for name in others:
        (tmp_path / name).write_text("{}")
    (tmp_path / "emotion-edge-trace-20200101T000000Z.json").mkdir()
    (tmp_path / "emotion-edge-trace-20260304T110000Z.json.part").write_text("{")
    writer = WriterBench(tmp_path).writer
    paths = []
    for now_s in range(MAX_FILES + 5):
        writer.request()
        path = writer.tick(now_s, 0)
        assert path is not None
        paths.append(path)
    left = sorted(file for file in tmp_path.iterdir() if file.is_file())
    assert left == sorted([*(tmp_path / name for name in others), *paths[-MAX_FILES:]])


def test_newest_trace_stays_with_a_wrong_date(tmp_path: Path) -> None:
    """A board that has lost the date does not delete the trace that it has just written."""
    for day in range(10, 10 + MAX_FILES):
        (tmp_path / f"emotion-edge-trace-202603{day}T120000Z.json").write_text("{}")
    bench = WriterBench(tmp_path)
    bench.noon = datetime(1970, 1, 1, tzinfo=timezone.utc)
    bench.writer.request()
    path = bench.writer.tick(0, 0)
    assert path is not None
    assert path.exists()
    assert len(list_names(tmp_path)) == MAX_FILES


def test_missing_folder_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And again after every request. The run goes on."""
    folder = tmp_path / "later"
    writer = WriterBench(folder).writer
    with caplog.at_level(logging.WARNING):
        for minute in range(5):
            assert writer.tick(minute * 60 * SECOND, minute + 1) is None
        (message,) = caplog.messages
        assert str(folder) in message
        writer.request()
        assert writer.tick(301 * SECOND, 5) is None
        assert len(caplog.messages) == 2
        folder.mkdir()
        assert writer.tick(600 * SECOND, 6)
    assert len(caplog.messages) == 2


def test_new_cause_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of a full and then a broken disk is logged once, and leaves no draft behind."""
    codes = [errno.ENOSPC] * 3 + [errno.EIO] * 3

    def fail(source: Path, target: Path) -> None:
        raise OSError(codes[0], os.strerror(codes.pop(0)))

    monkeypatch.setattr(os, "replace", fail)
    writer = WriterBench(tmp_path).writer
    for minute in range(6):
        assert writer.tick(minute * 60 * SECOND, minute + 1) is None
    assert not codes
    full, broken = caplog.messages
    assert os.strerror(errno.ENOSPC) in full
    assert os.strerror(errno.EIO) in broken
    assert list_names(tmp_path) == []

"""Trace files: what is drawn, when one is written, and what becomes of a folder that fails."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from collections import defaultdict
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

SECOND = 1_000_000_000
NOON = datetime(2026, 3, 4, 12, tzinfo=timezone.utc)
Event = dict[str, Any]


def make_estimate(index: int, stages_us: dict[str, float], label: str = "happy") -> Estimate:
    return Estimate(
        t_ns=0,
        index=index,
        label=label,
        confidence=0.123456,
        probabilities={label: 0.123456},
        modalities={"face": 1.0, "voice": 0.0},
        face={label: 0.123456},
        voice=None,
        abstained=False,
        skew_ns=0,
        latency_us=sum(stages_us[name] for name in STAGES[:-1]),
        stages_us=stages_us,
        level="full",
    )


def make_stages(**stages_us: float) -> dict[str, float]:
    return {**dict.fromkeys(STAGES, 0.0), **stages_us}


def run_frames(trace: Trace, gaps_us: list[float], stages: list[dict[str, float]]) -> None:
    """As the main thread does: one after another, each handed over before the next is begun."""
    now_ns = SECOND
    for index, (gap_us, stages_us) in enumerate(zip(gaps_us, stages, strict=True)):
        now_ns += round(gap_us * 1e3)
        captured_ns = now_ns - round(stages_us["wait"] * 1e3)
        estimate = make_estimate(index, stages_us)
        trace.add(estimate, captured_ns, now_ns, publish_us=stages_us["publish"])
        now_ns += round(sum(stages_us[name] for name in STAGES[1:]) * 1e3)


def list_names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def draw(trace: Trace) -> list[Event]:
    groups = chrome_events(trace.rows(), trace.events())
    return json.loads(json.dumps([event for group in groups for event in group]))


def check_format(events: list[Event]) -> None:
    """What the Trace Event Format asks of each kind of event; slices of a lane nest strictly."""
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
NUM_FRAMES = st.lists(
    st.tuples(STAGE_US, st.fixed_dictionaries(dict.fromkeys(STAGES, STAGE_US))), max_size=12
)


@given(NUM_FRAMES, st.integers(1, 12))
def test_keeps_to_the_format(frames: list[tuple[float, dict[str, float]]], capacity: int) -> None:
    """Whatever the times: every event is complete, and the slices of the main thread nest."""
    trace = Trace(["full"], capacity)
    run_frames(trace, [gap for gap, _ in frames], [stages for _, stages in frames])
    trace.add_event(5, "level full -> lean")
    events = draw(trace)
    check_format(events)
    kinds = [event["ph"] for event in events]
    assert kinds.count("C") == min(len(frames), capacity)


def test_stages_follow_one_another() -> None:
    """Waiting from the capture on, the stages in the main thread's lane, then the handing over."""
    trace = Trace(["full"])
    first = make_stages(wait=2000.0, sync=100.0, preprocess=500.0, face=4000.0, fusion=200.0)
    second = make_stages(sync=50.0, voice=3000.0, fusion=100.0, publish=700.0)
    trace.add(make_estimate(1, first), SECOND, SECOND + 2_000_000, 2, "face", publish_us=700.0)
    trace.add(make_estimate(2, second), SECOND + 33_000_000, SECOND + 33_000_000, publish_us=90.0)
    events = draw(trace)
    lane = [(e["name"], e["ts"] - 1_000_000, e["dur"]) for e in events if e["ph"] == "X"]
    assert lane == [
        ("picture", 2000, 4800),
        ("sync", 2000, 100),
        ("preprocess", 2100, 500),
        ("face", 2600, 4000),
        ("fusion", 6600, 200),
        ("publish", 6800, 700),
        ("picture", 33_000, 3150),
        ("sync", 33_000, 50),
        ("voice", 33_050, 3000),
        ("fusion", 36_050, 100),
        ("publish", 36_150, 90),
    ]
    waits = [(e["ph"], e["name"], e["ts"] - 1_000_000) for e in events if e["ph"] in "be"]
    assert waits == [("b", "wait", 0), ("e", "wait", 2000)]
    (picture, _) = (e for e in events if e["name"] == "picture")
    assert picture["args"] == {
        "index": 1,
        "latency_ms": 6.8,
        "level": "full",
        "dropped_before": 2,
    }
    assert [e["args"]["ms"] for e in events if e["ph"] == "C"] == [6.8, 3.15]


def test_marks_misses_and_events() -> None:
    """As instants of the whole process."""
    trace = Trace(["full"])
    trace.add(make_estimate(1, make_stages(face=50_000.0)), SECOND, SECOND, cause="face")
    trace.add_event(2 * SECOND, "level full -> lean: does not fit")
    instants = [(e["name"], e["ts"], e["s"]) for e in draw(trace) if e["ph"] == "i"]
    assert instants == [
        ("over budget: face", 1_050_000, "p"),
        ("level full -> lean: does not fit", 2_000_000, "p"),
    ]


def test_publishing_ends_before_the_next_frame_begins() -> None:
    """Rounding must not let the two overlap; what took no time is not drawn."""
    trace = Trace(["full"])
    trace.add(make_estimate(1, make_stages(face=10.0)), SECOND, SECOND, publish_us=50.0)
    trace.add(make_estimate(2, make_stages(face=10.0)), SECOND, SECOND + 40_000)
    published = [e["dur"] for e in draw(trace) if e["name"] == "publish"]
    assert published == [30]


def test_file_can_be_read(tmp_path: Path) -> None:
    """One JSON object with all events, and nothing beside it."""
    trace = Trace(["full"])
    run_frames(trace, [20_000.0] * 50, [make_stages(wait=1000.0, face=5000.5)] * 50)
    trace.add_event(3, 'a "quoted" word')
    write_trace(trace, tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    assert set(content) == {"displayTimeUnit", "traceEvents"}
    assert content["traceEvents"] == draw(trace)
    assert list_names(tmp_path) == ["t.json"]


def test_empty_trace_can_be_written(tmp_path: Path) -> None:
    """Before the first picture."""
    write_trace(Trace([]), tmp_path / "t.json")
    check_format(json.loads((tmp_path / "t.json").read_text())["traceEvents"])


def test_nothing_of_what_was_seen(tmp_path: Path) -> None:
    """No label, no probability, in any trace."""
    labels = load_bundle(DEFAULT_BUNDLE).manifest.labels
    trace = Trace(["full"])
    for index, label in enumerate(labels):
        estimate = make_estimate(index, make_stages(face=50_000.0), label)
        trace.add(estimate, SECOND, SECOND, cause="face")
    write_trace(trace, tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text()
    assert [label for label in labels if label in text] == []
    assert "0.123" not in text


class Bench:
    """A writer with a time of day that goes on by a second a file."""

    def __init__(self, folder: Path) -> None:
        self.trace = Trace(["full"])
        self.trace.add(make_estimate(1, make_stages(face=50_000.0)), SECOND, SECOND)
        self.noon = NOON
        self.writer = TraceWriter(self.trace, folder, self.tell_time)

    def tell_time(self) -> datetime:
        self.noon += timedelta(seconds=1)
        return self.noon


def test_written_when_asked_for(tmp_path: Path) -> None:
    """Once, at the next tick, misses or not."""
    writer = Bench(tmp_path).writer
    assert writer.tick(0, 0) is None
    writer.request()
    writer.request()
    path = writer.tick(1, 0)
    assert path == tmp_path / "emotion-edge-trace-20260304T120001Z.json"
    assert path.exists()
    assert writer.tick(2, 0) is None


def test_misses_write_once_a_minute(tmp_path: Path) -> None:
    """However many there are; nothing while there are no new ones."""
    writer = Bench(tmp_path).writer
    written_s = [now_s for now_s in range(200) if writer.tick(now_s * SECOND, now_s // 2)]
    assert written_s == [2, 62, 122, 182]
    assert writer.tick(1000 * SECOND, 99) is None


def test_asked_for_within_the_minute(tmp_path: Path) -> None:
    """A request does not wait, and does not put off the next miss."""
    writer = Bench(tmp_path).writer
    assert writer.tick(0, 1)
    writer.request()
    assert writer.tick(30 * SECOND, 2)
    assert writer.tick(31 * SECOND, 3) is None
    assert writer.tick(60 * SECOND, 4)


def test_clock_that_goes_back(tmp_path: Path) -> None:
    """Does not silence it until the clock has caught up."""
    writer = Bench(tmp_path).writer
    assert writer.tick(10_000 * SECOND, 1)
    assert writer.tick(5 * SECOND, 2)


def test_only_own_oldest_traces_are_deleted(tmp_path: Path) -> None:
    """At most so many of ours are kept; what others have put there stays."""
    others = ["emotion-edge-trace-notes.json", "holiday.json", "emotion-edge-trace-1.json.bak"]
    for name in others:
        (tmp_path / name).write_text("{}")
    (tmp_path / "emotion-edge-trace-20200101T000000Z.json").mkdir()
    (tmp_path / "emotion-edge-trace-20260304T110000Z.json.part").write_text("{")
    writer = Bench(tmp_path).writer
    paths = []
    for now_s in range(MAX_FILES + 5):
        writer.request()
        path = writer.tick(now_s, 0)
        assert path is not None
        paths.append(path)
    left = sorted(file for file in tmp_path.iterdir() if file.is_file())
    assert left == sorted([*(tmp_path / name for name in others), *paths[-MAX_FILES:]])


def test_the_newest_stays_when_the_date_is_wrong(tmp_path: Path) -> None:
    """A board that has lost the date does not delete what it has just written."""
    for day in range(10, 10 + MAX_FILES):
        (tmp_path / f"emotion-edge-trace-202603{day}T120000Z.json").write_text("{}")
    bench = Bench(tmp_path)
    bench.noon = datetime(1970, 1, 1, tzinfo=timezone.utc)
    bench.writer.request()
    path = bench.writer.tick(0, 0)
    assert path is not None
    assert path.exists()
    assert len(list_names(tmp_path)) == MAX_FILES


def test_missing_folder_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on; who asked for a trace is told each time."""
    folder = tmp_path / "later"
    writer = Bench(folder).writer
    with caplog.at_level(logging.WARNING):
        for minute in range(5):
            assert writer.tick(minute * 60 * SECOND, minute + 1) is None
        assert len(caplog.messages) == 1
        assert "No such file or directory" in caplog.messages[0]
        writer.request()
        assert writer.tick(301 * SECOND, 5) is None
        assert len(caplog.messages) == 2
        folder.mkdir()
        assert writer.tick(600 * SECOND, 6)
    assert len(caplog.messages) == 2


def test_other_cause_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full, and then broken: once each."""
    codes = [errno.ENOSPC] * 3 + [errno.EIO] * 3

    def fail(source: Path, target: Path) -> None:
        raise OSError(codes[0], os.strerror(codes.pop(0)))

    monkeypatch.setattr(os, "replace", fail)
    writer = Bench(tmp_path).writer
    for minute in range(6):
        writer.tick(minute * 60 * SECOND, minute + 1)
    assert not codes
    assert len(caplog.messages) == len(set(caplog.messages)) == 2


def test_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither half a trace nor the draft of one."""

    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    writer = Bench(tmp_path).writer
    writer.request()
    assert writer.tick(0, 0) is None
    assert list_names(tmp_path) == []
    assert "No space left on device" in caplog.text


def test_write_that_fails(tmp_path: Path) -> None:
    """In the middle of the file: what was there before is still there, whole."""
    path = tmp_path / "t.json"
    path.write_text("before")
    trace = Trace(["full"])
    run_frames(trace, [20_000.0] * 50, [make_stages(face=5000.0)] * 50)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_trace(trace, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "before"
    assert list_names(tmp_path) == ["t.json"]

"""The ring of the newest pictures' times."""

from __future__ import annotations

import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.telemetry.latency import STAGES
from emotion_edge.runtime.telemetry.trace import Trace


def make_estimate(index: int, latency_us: float = 9000.0, level: str = "full") -> Estimate:
    """The times tell which picture they are of."""
    return Estimate(
        t_ns=index * 1_000_000,
        index=index,
        label="happy",
        confidence=0.9,
        probabilities={"happy": 0.9, "sad": 0.1},
        modalities={"face": 1.0, "voice": 0.0},
        face={"happy": 0.9, "sad": 0.1},
        voice=None,
        abstained=False,
        skew_ns=0,
        latency_us=latency_us,
        stages_us={name: index + number / 8 for number, name in enumerate(STAGES)},
        level=level,
    )


def test_keeps_what_it_is_given() -> None:
    """Every field comes back as it was, with the time of publishing that is its own."""
    trace = Trace(["full", "lean"])
    first_of_all = make_estimate(7, 12_345.5, "lean")
    trace.add(first_of_all, 1_000, 2_000, dropped=3, cause="face", publish_us=42.5)
    trace.add(make_estimate(8, level="unheard of"), -5, 4_000)
    first, second = trace.rows()
    assert (first.number, first.index, first.captured_ns, first.woke_ns) == (1, 7, 1_000, 2_000)
    assert (first.dropped, first.level, first.cause) == (3, "lean", "face")
    assert first.latency_us == 12_345.5
    stages_us = {name: 7 + number / 8 for number, name in enumerate(STAGES)}
    assert first.stages_us == {**stages_us, "publish": 42.5}
    assert (second.captured_ns, second.dropped, second.level, second.cause) == (-5, 0, "", None)


@given(st.integers(0, 40), st.integers(1, 12))
def test_keeps_the_newest(number: int, capacity: int) -> None:
    """The last `capacity` pictures, oldest first."""
    trace = Trace(["full"], capacity)
    for index in range(number):
        trace.add(make_estimate(index), index, index)
    kept = list(range(number))[-capacity:]
    assert [row.index for row in trace.rows()] == kept
    assert [row.number for row in trace.rows()] == [index + 1 for index in kept]


def test_keeps_the_newest_events() -> None:
    """So many, in the order in which they were noted."""
    trace = Trace([], num_events=3)
    for number in range(5):
        trace.add_event(number, f"event {number}")
    assert trace.events() == [(2, "event 2"), (3, "event 3"), (4, "event 4")]


def test_memory_does_not_grow() -> None:
    """Pictures are written into bytes that are there from the start."""
    trace = Trace(["full"], capacity=10)
    rows, size = trace._rows, len(trace._rows)
    for index in range(100):
        trace.add(make_estimate(index), index, index)
    assert trace._rows is rows
    assert len(rows) == size < 2000


def test_read_while_it_is_written() -> None:
    """Another thread never sees half a picture."""
    trace = Trace(["full"], capacity=4)
    begun, done = threading.Event(), threading.Event()
    torn: list[object] = []

    def read() -> None:
        while not done.is_set():
            for row in trace.rows():
                whole = row.captured_ns == row.woke_ns == row.index == row.number
                if not whole or row.stages_us["wait"] != row.index:
                    torn.append(row)
            begun.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        reader = threading.Thread(target=read)
        reader.start()
        begun.wait()
        for index in range(1, 3000):
            trace.add(make_estimate(index), index, index)
        done.set()
        reader.join()
    finally:
        sys.setswitchinterval(before)
    assert torn == []

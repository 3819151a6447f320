"""Which frame the time of publishing is counted for, on a clock that sinks move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config
from emotion_edge.runtime.messages import Window
from emotion_edge.runtime.session import Runtime, open_runtime

if TYPE_CHECKING:
    from .conftest import Collector

MS = 1_000_000


class SlowSink:
    """A run whose sink takes its time."""

    def __init__(self, runtime: Runtime, clock: FakeClock, collector: Collector) -> None:
        self.runtime = runtime
        self.collector = collector
        self._clock = clock

    def process(self, captured_ms: float, woke_ms: float, publish_ms: float) -> str | None:
        """One result, published for so long -> the cause that its miss was put down to."""
        woke_ns = round(woke_ms * MS)
        self._clock.advance(woke_ns - self._clock.now_ns())
        self.collector.on_publish = lambda _: self._clock.advance(round(publish_ms * MS))
        window = Window(round(captured_ms * MS), None, None, None, None, 0, 0)
        self.runtime.process(window, window.t_ns, woke_ns, [self.collector])
        return self.runtime.trace.rows()[-1].cause


@pytest.fixture
def slow(configure: Callable[..., Config], collector: Collector) -> Iterator[SlowSink]:
    clock = FakeClock()
    with open_runtime(configure("demo"), clock) as runtime:
        yield SlowSink(runtime, clock, collector)


def test_publishing_is_counted_for_its_own_frame(slow: SlowSink) -> None:
    """In the trace and in the histogram. The estimate is out by then: it carries the time of the
    one before, and its latency ends where publishing begins."""
    published_ms = [3.0, 7.0, 11.0]
    for number, publish_ms in enumerate(published_ms):
        slow.process(100 * number, 100 * number + 1, publish_ms)
    rows = slow.runtime.trace.rows()
    assert [row.stages_us["publish"] / 1e3 for row in rows] == published_ms
    histogram = slow.runtime.latency.stages["publish"]
    assert (histogram.count, histogram.sum_us / 1e3) == (3, sum(published_ms))
    estimates = slow.collector.estimates
    assert [e.stages_us["publish"] / 1e3 for e in estimates] == [0.0, 3.0, 7.0]
    assert [e.latency_us / 1e3 for e in estimates] == [1.0] * 3


@pytest.mark.parametrize(
    ("captured_ms", "woke_ms", "cause"),
    [
        (1002, 1060, "publish"),  # captured while the sink held the frame before
        (1040, 1110, "wait"),  # most of its waiting began when the sink had done
        (1058, 1120, "wait"),  # captured after it
    ],
)
def test_only_the_frame_that_was_held_up_is_put_down_to_publishing(
    slow: SlowSink, captured_ms: float, woke_ms: float, cause: str
) -> None:
    """A sink takes 58 ms; the next frame misses its budget of 45 ms."""
    for number in range(20):
        assert slow.process(20 * number, 20 * number + 1, 1) is None
    assert slow.process(1000, 1000, 58) is None
    assert slow.process(captured_ms, woke_ms, 1) == cause
    assert slow.runtime.latency.misses_by_cause[cause] == 1

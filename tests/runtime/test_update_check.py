"""When a bundle on trial has stood it, and which failures are not its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.startup import BundleChoice
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import SourceError
from emotion_edge.runtime.service.indicator import IndicatorError
from emotion_edge.runtime.session import Runtime
from emotion_edge.runtime.update_check import Trial, decide_trial

HALF_NS = 500_000_000


class Verdicts:
    """Stands in for a `BundleChoice`: notes what becomes of it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def mark_good(self) -> None:
        self.said.append("confirmed")

    def discount(self) -> None:
        self.said.append("forgiven")


@pytest.fixture
def verdicts() -> Verdicts:
    return Verdicts()


def advance(
    trial: Trial, begin_ns: int, seconds: float, results: int, *, progressed: bool = True
) -> int:
    """Looks for so long -> the time of the next."""
    end_ns = begin_ns + round(seconds * 1e9)
    for now_ns in range(begin_ns, end_ns, HALF_NS):
        trial.poll(now_ns, results, progressed)
    return end_ns


def test_results_for_long_enough(verdicts: Verdicts) -> None:
    """From the first of them; said once."""
    trial = Trial(cast("BundleChoice", verdicts), 0)
    at_ns = advance(trial, 0, 25, 1)
    assert verdicts.said == []
    advance(trial, at_ns, 60, 100)
    assert verdicts.said == ["confirmed"]


def test_hang_at_the_first_frame_after_a_wait_is_not_marked_good(verdicts: Verdicts) -> None:
    """A light or a camera is awaited for an hour: that start did not fail, but nothing is proven.
    Then the results stop: it is not confirmed."""
    trial = Trial(cast("BundleChoice", verdicts), 0)
    at_ns = advance(trial, 0, 3600, 0)
    assert verdicts.said == ["forgiven"]
    at_ns = advance(trial, at_ns, 5, 3)
    advance(trial, at_ns, 3600, 3, progressed=False)
    assert verdicts.said == ["forgiven"]


def test_wait_before_and_between(verdicts: Verdicts) -> None:
    """Results after a wait settle it; a camera that is away for a while does not begin it anew."""
    trial = Trial(cast("BundleChoice", verdicts), 0)
    at_ns = advance(trial, 0, 40, 0)
    advance(trial, at_ns, 26, 7)  # the last 25 s excused
    assert verdicts.said == ["forgiven", "confirmed"]


def end(verdicts: Verdicts, results: int, error: Exception | None) -> None:
    runtime = SimpleNamespace(choice=verdicts, latency=SimpleNamespace(count=results))
    with decide_trial(cast("Runtime", runtime)):
        if error is not None:
            raise error


@pytest.mark.parametrize(("results", "verdict"), [(1, "confirmed"), (0, "forgiven")])
def test_orderly_end(verdicts: Verdicts, results: int, verdict: str) -> None:
    """Told to stop: well if it has done something, else nothing is known."""
    end(verdicts, results, None)
    assert verdicts.said == [verdict]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SourceError("no such camera"), ["forgiven"]),
        (IndicatorError("no lamp"), ["forgiven"]),
        (ConfigError("metrics.port is taken"), ["forgiven"]),
        (EngineError("face gave nonsense"), []),
        (RuntimeError("a bug, perhaps of what is in the bundle"), []),
    ],
)
def test_failures(verdicts: Verdicts, error: Exception, said: list[str]) -> None:
    """Those that are certainly another's do not count; all are passed on."""
    with pytest.raises(type(error)):
        end(verdicts, 5, error)
    assert verdicts.said == said

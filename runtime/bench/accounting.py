"""What it costs to keep count of a picture and to decide on its level: the same calls as in a run,
on objects of their own, back to back."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..messages import Estimate
from ..quality.controller import LevelCost, QualityController
from ..telemetry.latency import STAGES, LatencyLog
from ..telemetry.trace import Trace
from .summary import percentiles_by_name

NUM_FRAMES = 3000
PERIOD_NS = 33_333_333


def time_accounting(levels: Sequence[str], budget_ms: float) -> dict[str, float]:
    """Microseconds a picture, by percentile. `levels` are names."""
    log, trace = LatencyLog(budget_ms), Trace(levels)
    quality = QualityController([LevelCost(name, 0.2, 3.0, 1.0) for name in levels], budget_ms)
    stages_us = dict.fromkeys(STAGES, 100.0)
    estimate = Estimate(
        t_ns=0,
        index=0,
        label=None,
        confidence=0.0,
        probabilities={},
        modalities={},
        face=None,
        voice=None,
        abstained=True,
        skew_ns=0,
        latency_us=5000.0,
        stages_us=stages_us,
        level=levels[0],
    )
    took_us = []
    for number in range(NUM_FRAMES):
        t_ns = number * PERIOD_NS
        begun_ns = time.monotonic_ns()
        cause = log.add(estimate.latency_us, stages_us, t_ns)
        trace.add(estimate, t_ns, t_ns, 0, cause)
        quality.observe(t_ns, 0.5, 4.0, True, number % 6 == 0)
        took_us.append((time.monotonic_ns() - begun_ns) / 1e3)
    return percentiles_by_name(took_us, 50, 99)

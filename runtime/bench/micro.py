"""Micro-benchmarks: the networks alone, and the accounting of a frame alone, back to back.

In: the configuration of a run. Out: for each network, at each size and precision of the levels, the
time of one inference, in the figures of TensorRT's trtexec; the same for following speech; the time
that metrics, trace and quality controller take for a frame, with the calls of a run on objects of
their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from ...engines.base import Engine, Feed
from ...engines.bundles import FUSION, Bundle
from ...engines.speech_tracker import STEP_COLUMNS, open_speech_tracker
from ..config import Config
from ..messages import Estimate
from ..quality import LevelCost, QualityController, open_levels
from ..session import open_preprocessor_for, report_build_progress, warmup_inputs
from ..telemetry import STAGES, LatencyLog, Trace
from .summary import percentiles_by_name

WARM_UP_NS = 200_000_000
"""The default of trtexec."""
MAX_NS = 1_000_000_000
MAX_RUNS = 200
"""A network is timed for `MAX_NS`, or this often where that is less."""
RANKS = (50, 90, 95, 99)
NUM_FRAMES = 3000
PERIOD_NS = 33_333_333


def time_models(config: Config, bundle: Bundle) -> dict[str, dict[str, float]]:
    """Return figures in ms by network, such as "face 64 px fp32". Raises EngineError."""
    figures: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        levels = open_levels(stack, config, bundle, report_build_progress)
        preprocessor = stack.enter_context(open_preprocessor_for(levels, bundle.manifest))
        for run_level in levels:
            feeds = warmup_inputs(run_level, preprocessor)
            if FUSION in run_level.engines:
                feeds[FUSION] = _fill_with_zeros(run_level.engines[FUSION])
            for network, feed in feeds.items():
                engine = run_level.engines[network]
                size = f" {run_level.level.face_px} px" if network == "face" else ""
                name = f"{network}{size} {engine.precision}"
                if name not in figures:
                    figures[name] = time_network(engine, feed)
    speech = open_speech_tracker(bundle) if config.engines.name != "null" else None
    if speech is not None:
        samples = STEP_COLUMNS * speech.spec.hop
        noise = np.random.default_rng(0).normal(0, 0.01, samples).astype(np.float32)
        name = f"speech in {samples * 1000 // speech.spec.sample_rate_hz} ms of audio"
        figures[name] = _time(partial(speech.push, noise), time.perf_counter_ns)
    return figures


def time_network(
    engine: Engine, feed: Feed, now_ns: Callable[[], int] = time.perf_counter_ns
) -> dict[str, float]:
    """Return figures in ms of one inference, handing over the outputs included."""
    return _time(partial(engine.infer, feed), now_ns)


def _time(run: Callable[[], object], now_ns: Callable[[], int]) -> dict[str, float]:
    """Return figures in ms of one run."""
    begun_ns = now_ns()
    while now_ns() - begun_ns < WARM_UP_NS:
        run()
    took_ms: list[float] = []
    begun_ns = last_ns = now_ns()
    while len(took_ms) < MAX_RUNS and last_ns - begun_ns < MAX_NS:
        before_ns = now_ns()
        run()
        last_ns = now_ns()
        took_ms.append((last_ns - before_ns) / 1e6)
    return {
        "min": round(min(took_ms), 3),
        "max": round(max(took_ms), 3),
        "mean": round(sum(took_ms) / len(took_ms), 3),
        **percentiles_by_name(took_ms, *RANKS),
        "runs": len(took_ms),
    }


def time_accounting(levels: Sequence[str], budget_ms: float) -> dict[str, float]:
    """Return microseconds per frame, by percentile. `levels` are names."""
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
        quality.observe(t_ns, 0.5, 4.0, 1, number % 6 == 0)
        took_us.append((time.monotonic_ns() - begun_ns) / 1e3)
    return percentiles_by_name(took_us, 50, 99)


def _fill_with_zeros(engine: Engine) -> Feed:
    """Return an input of the fusion network. Only its batch size is variable."""
    shapes = {spec.name: tuple(size or 1 for size in spec.shape) for spec in engine.inputs}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}

"""Reports of emotion-bench, generated without a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from emotion_edge.runtime.bench.recorder import ROW, Recording
from emotion_edge.runtime.bench.summary import summarize

STAGE_SHARES = (0.001, 0.01, 0.05, 0.5, 0.35, 0.08, 0.009)
LEVELS = ("high", "medium", "low", "minimal")
BUDGET_MS = 45.0


def make_figures(seed: int, seconds: float, points: int, load: float) -> dict[str, Any]:
    """Return figures of a run whose latency is `load` times as high in every second fifth."""
    rng = np.random.default_rng(seed)
    t_s = np.linspace(0, seconds, points, endpoint=False)
    disturbed = ((t_s * 5 // seconds) % 2 == 1) & (load > 1)
    lag_s = 0.02 * seconds
    rows = np.zeros(points, ROW)
    rows["t_ns"], rows["index"] = t_s * 1e9, np.arange(points)
    rows["face"] = rows["voice"] = 1
    rows["latency_us"] = 3400 * rng.lognormal(0, 0.2, points) * np.where(disturbed, load, 1.0)
    rows["level"] = np.interp((t_s - lag_s).clip(0), t_s, disturbed) > 0.5
    rows["stages_us"] = np.outer(rows["latency_us"], STAGE_SHARES)
    causes = {"voice": int((rows["latency_us"] > 1e3 * BUDGET_MS).sum()), "face": 0}
    accepted = np.ones(points, np.bool_)
    recording = Recording(0, seconds, rows, rows["t_ns"].copy(), accepted, LEVELS, causes, 0)
    return summarize(recording, BUDGET_MS)


def make_report(seconds: float = 20.0, points: int = 600, load: float = 1.0) -> dict[str, Any]:
    """Return a report without optional parts."""
    return {
        "format": 2,
        "scenario": "contended" if load > 1 else "steady",
        "source": "demo",
        "fps": 30.0,
        "seconds": seconds,
        "level": "auto",
        **make_figures(1, seconds, points, load),
        "rss_mb": 640.0,
        "held_mb": 400.0,
        "first_result_s": 2.5,
        "capture": {"copies_per_frame": 0, "clock_domain": "media time", "zero_copy": "none"},
        "engines": {"face": "onnx int8", "voice": "onnx int8"},
        "preprocessor": "cpu",
        "machine": {"cpu": "a processor", "cores": 2, "cores_usable": 2, "governor": None},
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "bundle": "ab" * 32,
    }


def make_full_report(seconds: float = 20.0, points: int = 600, load: float = 6.0) -> dict[str, Any]:
    """Return a report with every optional part."""
    report = make_report(seconds, points, load)
    latency = report["latency_ms"]
    counts = {key: report[key] for key in ("frames", "misses", "latency_ms")}
    names, fifth_s = ("quiet", "hogs", "quiet", "hogs", "quiet"), seconds / 5
    baseline = {"p50": 198.0, "p90": 221.0, "p95": 230.0, "p99": 239.1, "max": 240.9, "mean": 190.0}
    networks = {"face 64 px int8": 0.3, "voice int8": 0.9, "face 56 px int8": 0.2}
    return {
        **report,
        "phases": [
            {"name": name, "from_s": place * fifth_s, "to_s": (place + 1) * fifth_s, **counts}
            for place, name in enumerate(names)
        ],
        "back_at_top_s": [1.4, None],
        "accounting_us": {"p50": 5.6, "p99": 11.6},
        "beside": {
            "pinned": {**make_figures(2, seconds, points, 2.3 * load), "level": "high"},
            "baseline": {
                "program": "naive_baseline",
                "latency_ms": baseline,
                "misses": points // 2,
                "frames": points,
                "dropped": points // 3,
                "estimates": points - points // 3,
            },
        },
        "repeats": [{**counts, "p50_over_networks": 1.18} for _ in range(3)],
        "models": {
            name: {**{rank: scale * ms for rank, ms in latency.items()}, "min": 0.1, "runs": 200}
            for name, scale in networks.items()
        },
        "soak": {
            "t_s": [0.0, seconds / 2, seconds],
            "rss_mb": [640.0, 641.5, 641.0],
            "threads": [9, 9, 9],
            "fds": [14, 15, 14],
            "rss_growth_percent": 0.16,
            "threads_growth": 0,
            "fds_growth": 0,
            "lost_estimates": 0,
        },
        "sensors": {
            "before": {"temperature_c": 54.0},
            "after": {"temperature_c": None},
            "throttle_events": {"soc-throttle": 3, "oc1": 0},
        },
        "context_switches": {"voluntary": 3000, "involuntary": 20},
        "load_average_before": 1.8,
        "machine": {**report["machine"], "governor": "powersave"},
    }

"""The text of the metrics of a run, for Prometheus (https://prometheus.io).

In: a snapshot of the run. Out: its text, under Prometheus' conventions (base units, _total,
labels): times, counts, sensors and names of levels, but no estimate. Needs prometheus-client, which
only `web.metrics_site` imports too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..board import MB, BoardStatus
from ..messages import Health
from .snapshot import Durations, ProcessStatus, Snapshot

PREFIX = "emotion_edge_"


def render_metrics(snapshot: Snapshot) -> bytes:
    """Return the metrics of the run and of its process in Prometheus' text format."""
    registry = CollectorRegistry()  # not the process-wide one, which other libraries may write to
    registry.register(RuntimeCollector(snapshot))
    return generate_latest(registry)


class RuntimeCollector(Collector):
    """The metrics of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield from _describe_latency(snapshot)
        yield from _describe_health(snapshot.health)
        if snapshot.health.board is not None:
            yield from _describe_board(snapshot.health.board)
        yield from _describe_process(snapshot.process)


def _describe_latency(snapshot: Snapshot) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        f"{PREFIX}latency_seconds",
        "Latency from the capture of a frame to its result; bounds are exact to 1/64.",
    )
    latency.add_metric([], _buckets(snapshot.latency), snapshot.latency.sum_s)
    yield latency
    stages = HistogramMetricFamily(
        f"{PREFIX}stage_seconds",
        "Duration of each stage, over the results in which it did some work.",
        labels=["stage"],
    )
    for name, durations in snapshot.stages.items():
        stages.add_metric([name], _buckets(durations), durations.sum_s)
    yield stages
    yield _gauge("budget_seconds", "The latency budget of a result.", snapshot.budget_s)
    yield _counter("pictures", "Results, of frames or of audio alone.", snapshot.count)
    yield _count_each(
        "budget_misses",
        "Results over the budget, by the stage that exceeded its usual time most.",
        "cause",
        snapshot.misses_by_cause,
    )


def _describe_health(health: Health) -> Iterator[Metric]:
    yield _gauge("fps", "Results a second.", health.fps)
    yield _gauge("troubles", "Present faults.", len(health.faults))
    yield _count_each("drops", "Lost data, by cause.", "cause", health.drops)
    yield _counter("pictures_passed_over", "Frames skipped by the level.", health.skipped)
    level = {"level": health.level}
    yield InfoMetricFamily(f"{PREFIX}level", "The quality level in use.", value=level)
    yield _counter("level_switches", "Changes of the quality level.", health.level_switches)
    yield _gauge("av_skew_seconds", "Frame against the end of its audio.", health.skew_ms / 1e3)
    yield _gauge("audio_drift_ppm", "The sound card's clock error.", health.drift_ppm)


def _describe_board(board: BoardStatus) -> Iterator[Metric]:
    if board.temperatures_c:
        yield _gauge_each("temperature_celsius", "By sensor.", "zone", board.temperatures_c)
    if board.throttle_events:
        yield _count_each(
            "throttle_events", "Times the board slowed itself.", "cause", board.throttle_events
        )
    if board.power_rails_mw:
        rails = {name: power / 1e3 for name, power in board.power_rails_mw.items()}
        yield _gauge_each("rail_power_watts", "Power by rail.", "rail", rails)
    if board.power_mode is not None:
        mode = {"mode": board.power_mode}
        yield InfoMetricFamily(f"{PREFIX}power_mode", "The mode of nvpmodel.", value=mode)
    for name, text, value, factor in (
        ("power_watts", "Power of the whole board.", board.power_mw, 1e-3),
        ("cpu_usage_ratio", "Load of all cores together.", board.cpu_percent, 1e-2),
        (
            "cpu_pressure_ratio",
            "Share of time that tasks waited for a core.",
            board.cpu_pressure,
            1,
        ),
        ("cpu_frequency_hertz", "Clock rate of the processor.", board.cpu_freq_mhz, 1e6),
        ("gpu_usage_ratio", "Load of the GPU.", board.gpu_load_percent, 1e-2),
        ("gpu_frequency_hertz", "Clock rate of the GPU.", board.gpu_freq_mhz, 1e6),
        (
            "memory_pressure_ratio",
            "The same, for memory.",
            board.memory_pressure,
            1,
        ),
        (
            "memory_available_bytes",
            "Available memory.",
            board.memory_available_mb,
            MB,
        ),
        ("nvmap_used_bytes", "Memory allocated by the GPU's driver.", board.nvmap_used_mb, MB),
    ):
        if value is not None:
            yield _gauge(name, text, value * factor)


def _describe_process(process: ProcessStatus) -> Iterator[Metric]:
    """Prometheus' own metrics of any process, of the one that makes the results."""
    for name, text, value in (
        ("virtual_memory_bytes", "Virtual memory.", process.virtual_bytes),
        ("resident_memory_bytes", "Resident memory.", process.resident_bytes),
        ("start_time_seconds", "Start of the process, Unix time.", process.started_s),
        ("open_fds", "Open file descriptors.", process.open_fds),
        ("max_fds", "Limit of open file descriptors.", process.max_fds),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value=value)
    yield CounterMetricFamily(
        "process_cpu_seconds", "Processor time, of user and system.", value=process.cpu_s
    )


def _buckets(durations: Durations) -> Sequence[tuple[str, float]]:
    bounds = (*map(str, durations.bounds_s), "+Inf")
    return list(zip(bounds, map(float, durations.counts), strict=True))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _gauge_each(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _count_each(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family

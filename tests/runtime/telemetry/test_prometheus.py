"""The text of the metrics for Prometheus."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.runtime.board.status import BoardStatus
from emotion_edge.runtime.messages import Health
from emotion_edge.runtime.telemetry.latency import STAGES, LatencyLog
from emotion_edge.runtime.telemetry.prometheus import render_metrics
from emotion_edge.runtime.telemetry.snapshot import Snapshot, take_snapshot

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]

BOARD = BoardStatus(
    cpu_percent=40.0,
    memory_available_mb=1000.0,
    rss_mb=300.0,
    temperature_c=61.5,
    cpu_governor="schedutil",
    temperatures_c={"cpu-thermal": 61.5, "gpu-thermal": 59.0},
    cpu_freq_mhz=1500.0,
    cpu_pressure=0.25,
    memory_pressure=0.125,
    gpu_load_percent=70.0,
    gpu_freq_mhz=600.0,
    power_mw=9500.0,
    power_rails_mw={"VDD_CPU_GPU_CV": 4000.0},
    throttle_events={"oc1": 3},
    power_mode="15W",
    nvmap_used_mb=512.0,
)
HEALTH = Health(
    t_ns=1,
    frames=4,
    fps=29.5,
    faults=("camera is missing", "microphone is missing"),
    latency_p50_ms=9.0,
    latency_p95_ms=10.0,
    latency_p99_ms=11.0,
    latency_max_ms=60.0,
    misses=1,
    misses_by_cause={"face": 1},
    drops={"frames": 7, "audio_gaps": 2},
    skew_ms=-4.0,
    drift_ppm=12.5,
    temperature_c=61.5,
    level="lean",
    level_switches=5,
    board=BOARD,
)


def make_log() -> LatencyLog:
    """Four results of 10, 20, 30 and 60 ms, all of them in the face network."""
    log = LatencyLog(33.0)
    nothing = dict.fromkeys(STAGES, 0.0)
    for index, face_ms in enumerate((10, 20, 30, 60)):
        log.add(face_ms * 1e3, {**nothing, "face": face_ms * 1e3}, index)
    return log


def render(health: Health = HEALTH) -> str:
    """The text that is served, as the process that serves it makes it."""
    snapshot = take_snapshot(make_log(), health)
    sent = msgspec.msgpack.encode(snapshot)
    return render_metrics(msgspec.msgpack.decode(sent, type=Snapshot)).decode()


def parse(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def find(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"emotion_edge_{name}", tuple(sorted(labels.items()))]


def test_latency() -> None:
    """A histogram in seconds, with a bound at any budget, and misses by cause."""
    samples = parse(render())
    bounds = {"0.005": 0, "0.015": 1, "0.033": 3, "0.1": 4, "+Inf": 4}
    for bound, count in bounds.items():
        assert find(samples, "latency_seconds_bucket", le=bound) == count
    assert find(samples, "latency_seconds_count") == find(samples, "pictures_total") == 4
    assert find(samples, "latency_seconds_sum") == pytest.approx(0.12)
    assert find(samples, "stage_seconds_count", stage="face") == 4
    assert find(samples, "stage_seconds_count", stage="voice") == 0
    assert find(samples, "stage_seconds_bucket", stage="face", le="0.025") == 2
    assert find(samples, "budget_seconds") == 0.033
    assert find(samples, "budget_misses_total", cause="face") == 1
    assert find(samples, "budget_misses_total", cause="wait") == 0


def test_health() -> None:
    """In base units."""
    samples = parse(render())
    assert find(samples, "fps") == 29.5
    assert find(samples, "troubles") == 2
    assert find(samples, "drops_total", cause="frames") == 7
    assert find(samples, "drops_total", cause="audio_gaps") == 2
    assert find(samples, "level_info", level="lean") == 1
    assert find(samples, "level_switches_total") == 5
    assert find(samples, "av_skew_seconds") == pytest.approx(-0.004)
    assert find(samples, "audio_drift_ppm") == 12.5


def test_board() -> None:
    """In base units, by sensor where there are several."""
    samples = parse(render())
    assert find(samples, "temperature_celsius", zone="gpu-thermal") == 59
    assert find(samples, "throttle_events_total", cause="oc1") == 3
    assert find(samples, "rail_power_watts", rail="VDD_CPU_GPU_CV") == 4
    assert find(samples, "power_mode_info", mode="15W") == 1
    assert find(samples, "power_watts") == 9.5
    assert find(samples, "cpu_usage_ratio") == pytest.approx(0.4)
    assert find(samples, "cpu_pressure_ratio") == 0.25
    assert find(samples, "cpu_frequency_hertz") == 1.5e9
    assert find(samples, "gpu_usage_ratio") == pytest.approx(0.7)
    assert find(samples, "gpu_frequency_hertz") == 6e8
    assert find(samples, "memory_pressure_ratio") == 0.125
    assert find(samples, "memory_available_bytes") == 1000 * 1024 * 1024
    assert find(samples, "nvmap_used_bytes") == 512 * 1024 * 1024


def test_unknown_values_are_absent() -> None:
    """Not zero: for a board with few sensors, and without a board."""
    bare = BoardStatus(1.0, 2.0, 3.0, None, None)
    text = render(replace(HEALTH, board=bare))
    assert "emotion_edge_cpu_usage_ratio" in text
    for name in ("temperature", "gpu", "power", "throttle", "cpu_pressure", "nvmap"):
        assert f"emotion_edge_{name}" not in text
    text = render(replace(HEALTH, board=None))
    assert "emotion_edge_fps" in text
    assert "emotion_edge_cpu" not in text


def test_process() -> None:
    """Prometheus' own metrics of any process."""
    samples = parse(render())
    assert samples["process_resident_memory_bytes", ()] > 1e6
    assert samples["process_open_fds", ()] > 2
    assert samples["process_cpu_seconds_total", ()] > 0


def test_names_follow_the_conventions() -> None:
    """Each family once, with a help text, in base units; counters end with _total."""
    families = list(text_string_to_metric_families(render()))
    ours = [family for family in families if family.name.startswith("emotion_edge_")]
    assert len(ours) > 20
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in ours)
    assert all("_ms" not in family.name and "_mw" not in family.name for family in ours)
    for family in ours:
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_no_label_is_served() -> None:
    text = render()
    labels = load_bundle(DEFAULT_BUNDLE).manifest.labels
    assert [label for label in labels if label in text] == []

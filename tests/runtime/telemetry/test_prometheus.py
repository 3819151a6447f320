"""The metrics for Prometheus, over a real socket."""

from __future__ import annotations

import errno
import os
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.runtime.board.status import BoardStatus
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import Health
from emotion_edge.runtime.telemetry import prometheus
from emotion_edge.runtime.telemetry.latency import STAGES, LatencyLog
from emotion_edge.runtime.telemetry.prometheus import MetricsServer, start_metrics

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


class Run:
    """The run that is served."""

    def __init__(self) -> None:
        self.latency = make_log()
        self.health: Health | None = HEALTH
        self.reads = 0

    def read(self) -> tuple[LatencyLog, Health | None]:
        self.reads += 1
        return self.latency, self.health


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Run, MetricsServer]]:
    """One server for the tests that only read."""
    run = Run()
    with start_metrics("127.0.0.1", 0, run.read) as server:
        yield run, server


@pytest.fixture
def fetch(served: tuple[Run, MetricsServer]) -> Callable[..., str]:
    """A function (health) -> the text that is served."""
    run, server = served

    def fetch(health: Health | None = HEALTH) -> str:
        run.health = health
        return get(server)

    return fetch


def get(server: MetricsServer) -> str:
    url = f"http://{server.address}:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=500) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def parse(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def find(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"emotion_edge_{name}", tuple(sorted(labels.items()))]


def test_latency(fetch: Callable[..., str]) -> None:
    """A histogram in seconds, with a bound at any budget, and misses by cause."""
    samples = parse(fetch())
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


def test_health(fetch: Callable[..., str]) -> None:
    """In base units."""
    samples = parse(fetch())
    assert find(samples, "fps") == 29.5
    assert find(samples, "troubles") == 2
    assert find(samples, "drops_total", cause="frames") == 7
    assert find(samples, "drops_total", cause="audio_gaps") == 2
    assert find(samples, "level_info", level="lean") == 1
    assert find(samples, "level_switches_total") == 5
    assert find(samples, "av_skew_seconds") == pytest.approx(-0.004)
    assert find(samples, "audio_drift_ppm") == 12.5


def test_board(fetch: Callable[..., str]) -> None:
    """In base units, by sensor where there are several."""
    samples = parse(fetch())
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


def test_unknown_values_are_absent(fetch: Callable[..., str]) -> None:
    """Not zero: for a board with few sensors, without a board, and before the first health."""
    bare = BoardStatus(1.0, 2.0, 3.0, None, None)
    text = fetch(replace(HEALTH, board=bare))
    assert "emotion_edge_cpu_usage_ratio" in text
    for name in ("temperature", "gpu", "power", "throttle", "cpu_pressure", "nvmap"):
        assert f"emotion_edge_{name}" not in text
    text = fetch(replace(HEALTH, board=None))
    assert "emotion_edge_fps" in text
    assert "emotion_edge_cpu" not in text
    text = fetch(None)
    assert "emotion_edge_latency_seconds_count 4.0" in text
    assert "emotion_edge_fps" not in text


def test_process(fetch: Callable[..., str]) -> None:
    """Prometheus' own metrics of any process."""
    samples = parse(fetch())
    assert samples["process_resident_memory_bytes", ()] > 1e6


def test_names_follow_the_conventions(fetch: Callable[..., str]) -> None:
    """Each family once, with a help text, in base units; counters end with _total."""
    families = list(text_string_to_metric_families(fetch()))
    ours = [family for family in families if family.name.startswith("emotion_edge_")]
    assert len(ours) > 20
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in ours)
    assert all("_ms" not in family.name and "_mw" not in family.name for family in ours)
    for family in ours:
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)


def test_no_label_is_served(fetch: Callable[..., str]) -> None:
    text = fetch()
    labels = load_bundle(DEFAULT_BUNDLE).manifest.labels
    assert [label for label in labels if label in text] == []


def test_nothing_is_read_before_a_request() -> None:
    """And nothing is served after the end: the port is free again."""
    run = Run()
    server = start_metrics("127.0.0.1", 0, run.read)
    assert run.reads == 0
    get(server)
    assert run.reads == 1
    server.close()
    server.close()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
        pass
    assert not server._thread.is_alive()
    with start_metrics("127.0.0.1", server.port, run.read) as again:
        get(again)


def test_listens_on_loopback_only(served: tuple[Run, MetricsServer]) -> None:
    """By the kernel's own table."""
    _, server = served
    assert server.address == "127.0.0.1"
    with open("/proc/net/tcp") as table:  # noqa: PTH123
        rows = [line.split() for line in table][1:]
    listening = [row[1] for row in rows if row[3] == "0A"]
    ours = [entry for entry in listening if entry.endswith(f":{server.port:04X}")]
    assert [bytes.fromhex(entry.split(":")[0])[::-1] for entry in ours] in (
        [bytes([127, 0, 0, 1])],
        [bytes([127, 0, 0, 1])[::-1]],  # a machine of the other byte order
    )


def test_silent_client_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed, and it delays neither other clients nor the end of the run."""
    assert prometheus._Handler.timeout == prometheus.CLIENT_TIMEOUT_S
    with start_metrics("127.0.0.1", 0, Run().read) as server, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        name = silent.getsockname()
        # The other client never times out, however slow the machine is.
        timeout = property(lambda handler: 0.1 if handler.client_address == name else None)
        monkeypatch.setattr(prometheus._Handler, "timeout", timeout)
        silent.connect(("127.0.0.1", server.port))
        assert "emotion_edge_fps" in get(server)
        assert silent.recv(1) == b""


def test_port_in_use() -> None:
    """One line that names the setting and the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^metrics\.port is {port} ") as error:
            start_metrics("127.0.0.1", port, Run().read)
    assert os.strerror(errno.EADDRINUSE) in str(error.value)


@pytest.mark.parametrize("address", ["", "192.0.2.1", "a" * 70 + ".invalid"])
def test_foreign_address_is_refused(address: str) -> None:
    """With one line, and without listening on another address instead."""
    with pytest.raises(ConfigError, match=re.escape(repr(address))) as error:
        start_metrics(address, 0, Run().read)
    assert "\n" not in str(error.value)

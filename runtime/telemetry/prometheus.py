"""The metrics of a run over HTTP, for Prometheus (https://prometheus.io).

In: a run's latency log and its newest health, read at each request. Out: their text at any path,
under Prometheus' conventions (base units, _total, labels): times, counts, sensors and names of
levels, but no estimate. Needs prometheus-client, which nothing else in the runtime imports.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..board import MB, BoardStatus
from ..config import ConfigError
from ..messages import Health
from ..service import HELPER_PRIORITY, realtime_priority, run_in_background
from .latency import Histogram, LatencyLog

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

Read = Callable[[], tuple[LatencyLog, Health | None]]

CLIENT_TIMEOUT_S = 5.0
"""The connection of a silent client is closed after this time."""
PREFIX = "emotion_edge_"
# fmt: off
LATENCY_BOUNDS_S = (
    0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.06, 0.1, 0.25, 1.0,
)
# fmt: on
STAGE_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


def start_metrics(address: str, port: int, read: Read, *, realtime: bool = False) -> MetricsServer:
    """Start to serve what `read` returns: the latency log, and the health, None before the first.

    `read` is called from the server's threads. With `realtime` they get real-time priority, since
    they hold the interpreter lock. Port 0 is any free one. Raises ConfigError for an address that
    cannot be used.
    """
    try:
        server = _Server(address, port, make_app(read), realtime)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"metrics.port is {port} on {address!r}, which cannot be listened on: {reason}"
        ) from error
    return MetricsServer(server)


class MetricsServer:
    """Answers every client that reaches its address, from its own threads, until it is closed."""

    def __init__(self, server: _Server) -> None:
        """`server` is bound already. This object owns it."""
        self.address = server.server_name
        self.port = server.server_port
        self._server: _Server | None = server
        self._thread = threading.Thread(
            target=_serve, args=(server,), name="metrics-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Takes half a second at most."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        log.debug(format, *args)


class _Server(ThreadingMixIn, WSGIServer):
    """Has a thread for each request: no client delays another, or the end of the run."""

    # prometheus_client's own server lets a silent client hold a thread for ever, and looks its own
    # host name up, which may take long without a network.
    daemon_threads = True

    def __init__(self, address: str, port: int, app: WSGIApplication, realtime: bool) -> None:
        self.realtime = realtime
        addresses = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        self.address_family = addresses[0][0]
        super().__init__((address, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with realtime_priority(self.realtime, HELPER_PRIORITY):
            super().process_request_thread(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        # Called while the exception is being handled.
        log.debug("metrics: %s", client_address, exc_info=True)  # noqa: LOG014


def _serve(server: _Server) -> None:
    with realtime_priority(server.realtime, HELPER_PRIORITY) as realtime:
        if not realtime:
            run_in_background()
        server.serve_forever()


def make_app(read: Read) -> WSGIApplication:
    """Return a WSGI application that serves the metrics of the run and of its process."""
    registry = CollectorRegistry()  # not the process-wide one, which other libraries may write to
    registry.register(RuntimeCollector(read))
    ProcessCollector(registry=registry)
    return make_wsgi_app(registry)


class RuntimeCollector(Collector):
    """The metrics of the runtime."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        latency, health = self._read()
        yield from _describe_latency(latency)
        if health is not None:
            yield from _describe_health(health)
            if health.board is not None:
                yield from _describe_board(health.board)


def _describe_latency(log: LatencyLog) -> Iterator[Metric]:
    budget_s = log.budget_ms / 1e3
    latency = HistogramMetricFamily(
        f"{PREFIX}latency_seconds",
        "Latency from the capture of a frame to its result; bounds are exact to 1/64.",
    )
    bounds_s = sorted({*LATENCY_BOUNDS_S, budget_s})
    latency.add_metric([], _buckets(log.total, bounds_s), log.total.sum_us / 1e6)
    yield latency
    stages = HistogramMetricFamily(
        f"{PREFIX}stage_seconds",
        "Duration of each stage, over the results in which it did some work.",
        labels=["stage"],
    )
    for name, histogram in log.stages.items():
        stages.add_metric([name], _buckets(histogram, STAGE_BOUNDS_S), histogram.sum_us / 1e6)
    yield stages
    yield _gauge("budget_seconds", "The latency budget of a result.", budget_s)
    yield _counter("pictures", "Results, of frames or of audio alone.", log.count)
    yield _count_each(
        "budget_misses",
        "Results over the budget, by the stage that exceeded its usual time most.",
        "cause",
        log.misses_by_cause,
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


def _buckets(histogram: Histogram, bounds_s: Sequence[float]) -> list[tuple[str, float]]:
    bounds_us = [bound * 1e6 for bound in bounds_s]
    counts = histogram.counts_up_to([*bounds_us, math.inf])
    return list(zip([*map(str, bounds_s), "+Inf"], map(float, counts), strict=True))


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

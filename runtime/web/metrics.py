"""The metrics of a run, fed to the process that serves them.

In: the run's latency log, and its health twice a second. Out: a snapshot to that process, as often.
"""

from __future__ import annotations

import msgspec

from .. import config
from ..clock import Clock
from ..messages import Health
from ..telemetry import LatencyLog, take_snapshot
from .listener import check_libraries, open_listener
from .process import ServerProcess
from .wire import METRICS, Settings


class Metrics:
    """For the monitor's thread."""

    def __init__(
        self, settings: config.Metrics, latency: LatencyLog, clock: Clock | None = None
    ) -> None:
        """Listen. Raises ConfigError for a wrong address or a missing library, and ListenError for
        a port that is taken."""
        check_libraries("metrics", settings.port)
        listener = open_listener("metrics", settings.address, settings.port)
        self._latency = latency
        self._process = ServerProcess(listener, Settings("metrics", settings.address), clock)
        self.port = self._process.port

    @property
    def fault(self) -> str:
        """Why no metrics are served; "" for no reason."""
        return self._process.fault

    def show_health(self, health: Health) -> None:
        """Send a snapshot. Starts the process when that is due."""
        self._process.tick()
        snapshot = take_snapshot(self._latency, health)
        self._process.send(METRICS + msgspec.msgpack.encode(snapshot, enc_hook=float))

    def close(self) -> None:
        """Stop serving."""
        self._process.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

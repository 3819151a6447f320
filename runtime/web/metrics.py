"""The metrics of a run, fed to the process that serves them.

In: the run's latency log, and its health twice a second. Out: a snapshot to that process, as often.
"""

from __future__ import annotations

import importlib.util

import msgspec

from .. import config
from ..clock import Clock
from ..messages import Health
from ..telemetry import LatencyLog, take_snapshot
from .listener import open_listener
from .process import ServerProcess
from .wire import METRICS, Settings


class Metrics:
    """For the monitor's thread."""

    def __init__(
        self, settings: config.Metrics, latency: LatencyLog, clock: Clock | None = None
    ) -> None:
        """Listen. Raises ConfigError for a wrong address or a missing library, and ListenError for
        a port that is taken."""
        for module, name in (("prometheus_client", "prometheus-client"), ("aiohttp", "aiohttp")):
            if not is_installed(module):
                raise config.ConfigError(
                    f"metrics.port is {settings.port}, but {name} is not installed:"
                    " pip install 'emotion-edge[metrics]'"
                )
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
        self._process.send(METRICS + msgspec.msgpack.encode(snapshot))

    def close(self) -> None:
        """Stop serving."""
        self._process.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_installed(module: str) -> bool:
    """Return whether `module` can be imported here; it is imported elsewhere."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a test has blocked it
        return False

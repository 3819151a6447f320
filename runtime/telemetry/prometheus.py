"""The run's figures over HTTP, for Prometheus (https://prometheus.io).

In: what `prometheus_collector` shows. Out: its text, at any path. Nothing is done until somebody
asks.
"""

from __future__ import annotations

import logging
import socket
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from ..config import ConfigError
from ..service.realtime import HELPER_PRIORITY, realtime_priority, run_in_background

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from .prometheus_collector import Read

log = logging.getLogger(__name__)

CLIENT_TIMEOUT_S = 5.0
"""Who connects and then says nothing is sent away."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        log.debug(format, *args)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: one client cannot hold up another, or the end of the run."""

    # prometheus_client's own server lets a silent client keep a thread for ever, and asks the name
    # service who we are, which may take long without a network.
    daemon_threads = True

    def __init__(self, address: str, port: int, app: WSGIApplication, realtime: bool) -> None:
        self.realtime = realtime
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        self.address_family = found[0][0]
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


class MetricsServer:
    """Answers from its own threads until it is closed. Who reaches the address may read it all."""

    def __init__(self, server: _Server) -> None:
        """`server` is bound already and belongs to this object from now on."""
        self.address = server.server_name
        self.port = server.server_port
        self._server: _Server | None = server
        self._thread = threading.Thread(
            target=_serve, args=(server,), name="metrics-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Takes half a second at most."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_metrics(address: str, port: int, read: Read, *, realtime: bool = False) -> MetricsServer:
    """Serve what `read` gives: a run's latency log and its newest health, None before the first.

    `read` is called from other threads, which go before ordinary ones with `realtime`: they hold
    the interpreter. Port 0 takes any that is free. ConfigError when the address cannot be used or
    prometheus-client is missing."""
    try:
        from .prometheus_collector import make_app
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"metrics.port is {port}, but prometheus-client is not installed:"
            " pip install 'emotion-edge[metrics]'"
        ) from error
    try:
        server = _Server(address, port, make_app(read), realtime)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"metrics.port is {port} on {address!r}, which cannot be listened on: {reason}"
        ) from error
    return MetricsServer(server)


def _serve(server: _Server) -> None:
    with realtime_priority(server.realtime, HELPER_PRIORITY) as realtime:
        if not realtime:
            run_in_background()
        server.serve_forever()

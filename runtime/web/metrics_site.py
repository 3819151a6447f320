"""The metrics at `/metrics`, in Prometheus' text format.

In: snapshots. Out: the text of the newest, made once for all who ask for it.
"""

from __future__ import annotations

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ..telemetry import Snapshot
from .connections import Request, make_answer
from .wire import METRICS


class MetricsSite:
    """For one thread."""

    def __init__(self) -> None:
        from ..telemetry.prometheus import render_metrics

        self._render = render_metrics
        self._decoder = msgspec.msgpack.Decoder(Snapshot)
        self._newest = b""
        self._text = ""

    def receive(self, kind: bytes, body: bytes) -> None:
        """Take a message of the program."""
        if kind == METRICS:
            self._newest, self._text = body, ""

    async def answer(self, request: Request) -> web.StreamResponse:
        """Answer a request for the metrics."""
        if request.path not in {"/", "/metrics"}:
            return make_answer(404, "the metrics are at /metrics")
        if not self._newest:
            return make_answer(503, "there is no result yet", {"Retry-After": "1"})
        if not self._text:
            self._text = self._render(self._decoder.decode(self._newest)).decode()
        return make_answer(200, self._text, {"Content-Type": CONTENT_TYPE_LATEST})

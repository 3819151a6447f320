"""Connections of a server, with limits on their number, their requests' size and their time.

One GET a connection. Connections are accepted at a limited rate: a client that asks
as fast as it can waits in the kernel's queue and takes no processor.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from .hosts import HostCheck, is_foreign, only_one

log = logging.getLogger(__name__)
_silent = logging.getLogger(f"{__name__}.malformed")
_silent.setLevel(logging.CRITICAL)  # anybody could fill the journal with malformed requests

REQUEST_S = 5.0
"""A request must arrive within this time after its connection, however slowly its bytes come."""
ANSWER_S = 10.0
"""An answer, or one part of a stream, must be taken within this time."""
MAX_WAITING = 32
"""Connections whose request has not arrived. One more, and the oldest is cut."""
RATE_HZ, BURST = 20.0, 40.0
"""Connections accepted a second, and at once after a quiet time."""
MAX_FIELD_BYTES = 8190
"""Of the request line, and of one header."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "emotion-edge",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer. None has Access-Control-Allow-Origin."""


class Request:
    """A request that passed the checks."""

    def __init__(self, request: web.BaseRequest, connections: Connections) -> None:
        self.path = request.path
        self._request = request
        self._connections = connections

    async def stream(self, response: web.StreamResponse) -> Stream:
        """Begin an answer without an end."""
        await response.prepare(self._request)
        return Stream(response, self._request.transport, self._connections)


class Stream:
    """An answer that is sent in parts. A reader that does not take one within `ANSWER_S` is cut."""

    def __init__(
        self,
        response: web.StreamResponse,
        transport: asyncio.Transport | None,
        connections: Connections,
    ) -> None:
        self._response = response
        self._transport = transport
        self._connections = connections
        connections.set_deadline(transport, None)

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError when the reader has gone."""
        self._connections.set_deadline(self._transport, ANSWER_S)
        await self._response.write(data)
        self._connections.set_deadline(self._transport, None)


Answer = Callable[[Request], Awaitable[web.StreamResponse]]


class Connections:
    """Accepts connections of one listener and answers their requests."""

    def __init__(self, hosts: HostCheck, answer: Answer) -> None:
        self._hosts = hosts
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._server = web.Server(
            self._handle,
            access_log=None,
            logger=_silent,
            lingering_time=0,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )
        self._waiting: dict[asyncio.Transport, None] = {}
        """Those without a request, oldest first."""
        self._timers: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections for ever."""
        tokens, counted_s = BURST, self._loop.time()
        while True:
            now_s = self._loop.time()
            tokens, counted_s = min(BURST, tokens + (now_s - counted_s) * RATE_HZ), now_s
            if tokens < 1:
                await asyncio.sleep((1 - tokens) / RATE_HZ)
                continue
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError as error:  # no descriptor left, or the client has gone
                log.debug("accept: %s", error)
                await asyncio.sleep(0.1)
                continue
            tokens -= 1
            transport, _ = await self._loop.connect_accepted_socket(self._server, connection)
            if transport not in self._timers:  # its request may have come already
                self._waiting[transport] = None
                self.set_deadline(transport, REQUEST_S)
            if len(self._waiting) > MAX_WAITING:
                self._cut(next(iter(self._waiting)))

    def set_deadline(self, transport: asyncio.Transport | None, seconds: float | None) -> None:
        """Cut the connection after this time, None: never."""
        if transport is None:
            return
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()
        if seconds is not None:
            self._timers[transport] = self._loop.call_later(seconds, self._cut, transport)

    def _cut(self, transport: asyncio.Transport) -> None:
        self._waiting.pop(transport, None)
        self.set_deadline(transport, None)
        transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        self._waiting.pop(transport, None)
        self.set_deadline(transport, ANSWER_S)
        try:
            response = self._refuse(request, transport)
            if response is None:
                response = await self._answer(Request(request, self))
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s", request.path)
            response = make_answer(500, "a fault of this server")
        finally:
            self.set_deadline(transport, ANSWER_S)
        response.force_close()
        return response

    def _refuse(
        self, request: web.BaseRequest, transport: asyncio.Transport
    ) -> web.StreamResponse | None:
        host = only_one(request.headers.getall("Host", ()))
        local = transport.get_extra_info("sockname")
        if host is None or not self._hosts.is_own(host, str(local[0])):
            return make_answer(421, "this name is not known here")
        if is_foreign(request.headers, host):
            return make_answer(403, "not for pages of other sites")
        if request.method != "GET":
            return make_answer(405, "only GET is answered", {"Allow": "GET"})
        return None


def make_answer(
    status: int, text: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Return an answer of one line, or of `text` with its own Content-Type in `headers`."""
    plain = {"Content-Type": "text/plain; charset=utf-8"}
    body = text if headers and "Content-Type" in headers else f"{text}\n"
    return web.Response(
        status=status, body=body.encode(), headers={**HEADERS, **plain, **(headers or {})}
    )

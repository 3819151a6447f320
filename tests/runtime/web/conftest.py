"""Requests over real sockets, byte for byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from emotion_edge.runtime.web.connections import Connections, Request
from emotion_edge.runtime.web.hosts import HostCheck
from emotion_edge.runtime.web.listener import open_listener

Answer = Callable[[Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Serve on the loopback interface in this event loop. Yields the port."""
    with open_listener("web", "127.0.0.1", 0) as listener:
        accepting = asyncio.ensure_future(
            Connections(HostCheck("127.0.0.1"), answer).accept(listener)
        )
        try:
            yield listener.getsockname()[1]
        finally:
            accepting.cancel()
            with suppress(asyncio.CancelledError):
                await accepting


async def ask(port: int, *lines: str, host: str = "127.0.0.1") -> tuple[int, dict[str, str], str]:
    """Send a request; `lines` are its first line and more headers. Returns status, headers in lower
    case, and text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    first, *headers = lines
    text = "\r\n".join([first, f"Host: {host}", *headers, "", ""])
    try:
        writer.write(text.encode())
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    pairs = (field.partition(": ") for field in fields)
    return int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, body


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> tuple[int, dict[str, str], str]:
    """The same for a plain GET, outside of an event loop."""
    return asyncio.run(ask(port, f"GET {path} HTTP/1.1", host=host))


def is_closed(port: int) -> bool:
    """Return whether nothing listens on `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

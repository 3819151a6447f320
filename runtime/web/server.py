"""The body of a process that serves one listener.

In: the messages of `wire` from a socket pair, and a listener, both inherited. Out: HTTP. It ends
when the pair is closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import Protocol

import msgspec
from aiohttp import web

from .connections import Connections, Request
from .hosts import HostCheck
from .isolation import end_with, forbid_files, step_back
from .wire import MAX_BYTES, SETTINGS, Settings


class Site(Protocol):
    """What is served."""

    def receive(self, kind: bytes, body: bytes) -> None:
        """Take a message of the program."""

    async def answer(self, request: Request) -> web.StreamResponse:
        """Answer a request."""


def main() -> None:
    """Arguments: the numbers of both descriptors, and of the process that feeds this one."""
    pair_number, listener_number, parent = map(int, sys.argv[1:])
    end_with(parent)
    step_back()
    pair = socket.socket(fileno=pair_number)
    pair.setblocking(True)
    first = pair.recv(MAX_BYTES)
    if first[:1] != SETTINGS:  # the program has ended already
        return
    settings = msgspec.json.decode(first[1:], type=Settings)
    listener = socket.socket(fileno=listener_number)
    site = open_site(settings)
    hosts = HostCheck(settings.address)
    asyncio.run(serve(pair, listener, site, hosts))


def open_site(settings: Settings) -> Site:
    """Return the site that `settings` name. Its modules and files are loaded here."""
    if settings.site == "metrics":
        from .metrics_site import MetricsSite

        return MetricsSite()
    from .page_site import PageSite

    return PageSite(settings)


async def serve(pair: socket.socket, listener: socket.socket, site: Site, hosts: HostCheck) -> None:
    """Serve until the other end of `pair` is closed."""
    loop = asyncio.get_running_loop()
    connections = Connections(hosts, site.answer)
    accepting = loop.create_task(connections.accept(listener))
    pair.setblocking(False)
    loop.add_reader(pair, read_messages, pair, site.receive, accepting.cancel)
    enforced = forbid_files()
    logging.getLogger(__name__).debug("files are forbidden: %s", enforced)
    try:
        await accepting
    except asyncio.CancelledError:
        loop.remove_reader(pair)


def read_messages(
    pair: socket.socket, receive: Callable[[bytes, bytes], None], end: Callable[[], object]
) -> None:
    """Take all messages that have come. Calls `end` when there will be no more."""
    while True:
        try:
            message = pair.recv(MAX_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            message = b""
        if not message:
            end()
            return
        receive(message[:1], message[1:])

"""The page, and the events that fill it.

In: estimates, health and pictures. Out: `/`, the page in one piece; `/events`, server-sent events
(https://html.spec.whatwg.org/multipage/server-sent-events.html), of which a slow reader gets fewer.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import suppress
from importlib import resources
from typing import NamedTuple

import msgspec
from aiohttp import web

from .connections import HEADERS, Request, Stream, make_answer
from .history import History
from .wire import ESTIMATE, HEALTH, PICTURE, Settings

EVENTS = {HEALTH: b"health", PICTURE: b"picture", ESTIMATE: b"estimate"}
PING_S = 10.0
"""A comment is sent when nothing else is for this long, which shows whether a reader has gone."""
STREAM_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


class PageSite:
    """For one thread."""

    def __init__(self, settings: Settings) -> None:
        page = build_page()
        self._settings = settings
        self._page = page.text
        self._page_headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": page.policy,
        }
        self._hello = format_event(
            b"hello",
            msgspec.json.encode(
                {
                    "version": page.version,
                    "picture": settings.picture,
                    "budget_ms": settings.budget_ms,
                }
            ),
        )
        self._history = History()
        self._newest: dict[bytes, bytes] = {}
        """Of each kind, the newest event."""
        self._readers: set[asyncio.Event] = set()

    def receive(self, kind: bytes, body: bytes) -> None:
        """Take a message of the program and wake every reader."""
        if kind not in EVENTS:
            return
        if kind == ESTIMATE:
            self._history.add(body, asyncio.get_running_loop().time())
        self._newest[kind] = format_event(EVENTS[kind], body.strip())
        for reader in self._readers:
            reader.set()

    async def answer(self, request: Request) -> web.StreamResponse:
        """Answer a request for the page or its events."""
        if request.path == "/":
            return make_answer(200, self._page, self._page_headers)
        if request.path != "/events":
            return make_answer(404, "there is nothing here")
        if len(self._readers) >= self._settings.max_clients:
            return make_answer(503, "web.max_clients pages are open already")
        fresh = asyncio.Event()
        self._readers.add(fresh)
        try:
            response = web.StreamResponse(headers={**HEADERS, **STREAM_HEADERS})
            return await self._stream(response, await request.stream(response), fresh)
        finally:
            self._readers.discard(fresh)

    async def _stream(
        self, response: web.StreamResponse, stream: Stream, fresh: asyncio.Event
    ) -> web.StreamResponse:
        """Send events until the reader goes."""
        now_s = asyncio.get_running_loop().time()
        history = format_event(b"history", self._history.encode(now_s))
        sent: dict[bytes, bytes] = {}
        data = b"retry: 1000\n\n" + self._hello + history
        while True:
            for kind, event in self._newest.items():
                if sent.get(kind) is not event:
                    sent[kind] = event
                    data += event
            try:
                await stream.write(data or b":\n\n")
            except ConnectionError:
                return response
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(fresh.wait(), PING_S)
            fresh.clear()
            data = b""


def format_event(name: bytes, data: bytes) -> bytes:
    """Return one server-sent event. `data` is one line."""
    return b"event: " + name + b"\ndata: " + data + b"\n\n"


class Page(NamedTuple):
    text: str
    policy: str
    """Its Content-Security-Policy, which permits its own style and script alone."""
    version: str
    """An open page of another version loads itself again."""


def build_page() -> Page:
    """Return the page with its style and script inside."""
    files = resources.files(__package__)
    text, style, script = (
        files.joinpath(f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")
    )
    version = _digest(text + style + script)[:12]
    script = script.replace("PAGE_VERSION", version)
    policy = (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}';"
        f" style-src 'sha256-{_digest(style)}'; img-src data:; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )
    return Page(text.replace("{style}", style).replace("{script}", script), policy, version)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

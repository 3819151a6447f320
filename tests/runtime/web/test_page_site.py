"""The page, and the events that fill it: over real sockets, in this process."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from emotion_edge.runtime.sinks.jsonl import encode_estimate
from emotion_edge.runtime.web.page_site import PageSite, build_page
from emotion_edge.runtime.web.wire import ESTIMATE, HEALTH, PICTURE, Picture, Settings

from ..sinks.estimates import ESTIMATE as HAPPY
from .conftest import ask, serving

LINE = encode_estimate(HAPPY)
Event = tuple[str, Any]


class Reader:
    """A reader of events."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Reader:
        self._stream, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await self._stream.readuntil(b"\r\n\r\n")
        self.status = int(head.split()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def next(self) -> Event:
        """The next event: its name and data."""
        name = (await self._stream.readuntil(b"event: ") and await self._stream.readline()).strip()
        data = (await self._stream.readline()).removeprefix(b"data: ")
        return name.decode(), json.loads(data)


def run(body: Callable[[PageSite, int], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run `body` with a site and the port that it is served on."""

    async def serve() -> None:
        site = PageSite(Settings("page", "127.0.0.1", **{"max_clients": 2, **settings}))
        async with serving(site.answer) as port:
            await body(site, port)

    asyncio.run(serve())


def test_the_page_is_one_piece_that_runs_only_its_own_script() -> None:
    """Its policy has the hashes of its style and script, and it names nothing to be fetched but the
    events and data of its own."""
    page = build_page()
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.policy
        assert page.version in page.text
    assert "unsafe" not in page.policy
    assert "default-src 'none'" in page.policy
    assert re.findall(r' (?:src|href)="([^"]*)"', page.text) == ["data:,"]
    assert "url(" not in page.text
    assert not re.search(r"https?://", page.text)


def test_paths() -> None:
    """The page, its events, and nothing else: no file can be named."""

    async def body(site: PageSite, port: int) -> None:
        status, headers, text = await ask(port, "GET / HTTP/1.1")
        assert (status, text) == (200, build_page().text)
        assert headers["content-security-policy"] == build_page().policy
        for path in (
            "/page.js",
            "/../server.py",
            "/%2e%2e/server.py",
            "/events/",
            "//",
            "/static/",
        ):
            assert (await ask(port, f"GET {path} HTTP/1.1"))[0] in {404, 400}, path

    run(body)


def test_a_new_reader_gets_the_present_and_the_past() -> None:
    """Estimates are the lines of `jsonl:`, to the byte."""

    async def body(site: PageSite, port: int) -> None:
        site.receive(ESTIMATE, LINE)
        site.receive(HEALTH, b'{"fps":30}')
        async with Reader(port) as reader:
            assert reader.status == 200
            name, hello = await reader.next()
            assert (name, hello["picture"], hello["budget_ms"]) == ("hello", False, 45.0)
            name, history = await reader.next()
            assert (name, len(history["points"])) == ("history", 1)
            assert await reader.next() == ("estimate", json.loads(LINE))
            assert await reader.next() == ("health", {"fps": 30})
            picture = Picture(b"jpeg", 64, 36, 1, msgspec.Raw(b"[]"))
            site.receive(PICTURE, msgspec.json.encode(picture))
            name, shown = await reader.next()
            assert (name, base64.b64decode(shown["jpeg"]), shown["width"]) == (
                "picture",
                b"jpeg",
                64,
            )

    run(body, budget_ms=45.0)


def test_a_slow_reader_gets_the_newest() -> None:
    """What came while it was not read is left out, not queued."""

    async def body(site: PageSite, port: int) -> None:
        async with Reader(port) as reader:
            await reader.next(), await reader.next()
            for index in range(1000):
                site.receive(ESTIMATE, b'{"index":%d,"label":null,"probabilities":{}}' % index)
            assert (await reader.next())[1]["index"] == 999

    run(body)


def test_pages_are_limited() -> None:
    """One more is refused, until another is closed."""

    async def body(site: PageSite, port: int) -> None:
        async with Reader(port) as first, Reader(port) as second:
            assert (first.status, second.status) == (200, 200)
            status, _, text = await ask(port, "GET /events HTTP/1.1")
            assert status == 503
            assert "web.max_clients" in text
        while (await ask(port, "GET / HTTP/1.1"))[0] and len(site._readers) > 0:
            site.receive(HEALTH, b"{}")  # a write finds out that a reader has gone
        async with Reader(port) as third:
            assert third.status == 200

    run(body)

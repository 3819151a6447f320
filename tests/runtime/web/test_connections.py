"""Limits of connections: number, size and time of requests, rate."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from aiohttp import web

from emotion_edge.runtime.web import connections
from emotion_edge.runtime.web.connections import HEADERS, Request, make_answer

from .conftest import ask, serving

GET = "GET / HTTP/1.1"


async def answer_path(request: Request) -> web.StreamResponse:
    return make_answer(200, request.path)


def test_an_answer_closes_and_permits_nothing_to_other_sites() -> None:
    async def run() -> None:
        async with serving(answer_path) as port:
            status, headers, text = await ask(port, "GET /x?y HTTP/1.1")
        assert (status, text) == (200, "/x\n")
        assert headers["connection"] == "close"
        assert {name.lower() for name in HEADERS} <= headers.keys()
        assert not any(name.startswith("access-control") for name in headers)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lines", "host", "status"),
    [
        ([GET], "attacker.example", 421),
        ([GET, "Host: 127.0.0.1"], "attacker.example", 421),
        ([GET, "Host: attacker.example"], "127.0.0.1", 421),
        ([GET, "Origin: http://attacker.example"], "127.0.0.1", 403),
        ([GET, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"], "127.0.0.1", 403),
        (["POST / HTTP/1.1", "Content-Length: 0"], "127.0.0.1", 405),
        (["OPTIONS / HTTP/1.1"], "127.0.0.1", 405),
        ([f"GET /{'x' * 9000} HTTP/1.1"], "127.0.0.1", 400),
        ([GET, f"X: {'x' * 9000}"], "127.0.0.1", 400),
        ([GET, *(f"X-{n}: x" for n in range(1000))], "127.0.0.1", 400),
        (["nonsense"], "127.0.0.1", 400),
    ],
)
def test_refused_requests(lines: list[str], host: str, status: int) -> None:
    """A refusal, and no answer of the site. (Two Host headers may be refused as malformed.)"""

    async def never(request: Request) -> web.StreamResponse:
        raise AssertionError(request.path)

    async def run() -> None:
        async with serving(never) as port:
            reached = (await ask(port, *lines, host=host))[0]
            assert reached in ({status, 400} if status == 421 else {status})

    asyncio.run(run())


def test_a_request_without_a_host_is_refused() -> None:
    async def run() -> bytes:
        async with serving(answer_path) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            try:
                return await reader.read()
            finally:
                writer.close()

    assert asyncio.run(run()).startswith(b"HTTP/1.0 421 ")


def test_a_dripping_client_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it sends a byte. A silent one too. Meanwhile others are answered."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)

    async def drip(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while not reader.at_eof():
                writer.write(b"X")
                try:
                    await asyncio.wait_for(reader.read(1), 0.01)
                except asyncio.TimeoutError:
                    continue
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def run() -> None:
        async with serving(answer_path) as port:
            silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
            _, status = await asyncio.gather(drip(port), ask(port, GET))
            assert status[0] == 200
            with suppress(ConnectionError):
                assert await silent.read() == b""
            silent_writer.close()

    asyncio.run(run())


def test_too_many_silent_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest makes room for the newest; a request is always answered."""
    monkeypatch.setattr(connections, "MAX_WAITING", 3)

    async def run() -> None:
        async with serving(answer_path) as port:
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
            assert (await ask(port, GET))[0] == 200
            for reader, writer in silent[:3]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            for reader, writer in silent[4:]:
                assert not reader.at_eof()
                writer.write(f"{GET}\r\nHost: 127.0.0.1\r\n\r\n".encode())
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
            silent[3][1].close()

    asyncio.run(run())


def test_a_stalled_reader_of_a_stream_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds no more than its buffers."""
    monkeypatch.setattr(connections, "ANSWER_S", 0.2)
    cut = asyncio.Event()

    async def pour(request: Request) -> web.StreamResponse:
        response = web.StreamResponse()
        stream = await request.stream(response)
        try:
            while True:
                await stream.write(bytes(100_000))
        except ConnectionError:
            cut.set()
        return response

    async def run() -> None:
        async with serving(pour) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
            writer.write(f"{GET}\r\nHost: 127.0.0.1\r\n\r\n".encode())
            await cut.wait()
            writer.transport.abort()

    asyncio.run(run())


def test_a_tight_scraper_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a burst, connections are accepted at a limited rate."""
    monkeypatch.setattr(connections, "BURST", 5.0)
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real_sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def run() -> None:
        async with serving(answer_path) as port:
            for _ in range(8):
                assert (await ask(port, GET))[0] == 200

    asyncio.run(run())
    assert 0 < max(slept) <= 1 / connections.RATE_HZ


def test_a_fault_of_the_site_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and tells the client nothing."""

    async def fail(request: Request) -> web.StreamResponse:
        raise ValueError("secret")

    async def run() -> None:
        async with serving(fail) as port:
            status, _, text = await ask(port, GET)
            assert status == 500
            assert "secret" not in text

    asyncio.run(run())
    assert "secret" in caplog.text

"""The notify protocol of systemd, on a real datagram socket."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.service.sd_notify import Watchdog

SECOND = 1_000_000_000


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def make_environment(listener: socket.socket, **extra: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "2000000", **extra}


def count_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def receive_all(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_states_are_sent(systemd: socket.socket) -> None:
    """An extended start, readiness, status and stop, one variable a line."""
    with Watchdog(FakeClock(), make_environment(systemd)) as watchdog:
        watchdog.extend_timeout("building face fp16", 60)
        watchdog.ready("camera and microphone")
        watchdog.ready()
        watchdog.status("30 fps\nREADY=1")
        watchdog.stopping()
    assert receive_all(systemd) == [
        "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=building face fp16",
        "READY=1\nSTATUS=camera and microphone",
        "READY=1",
        "STATUS=30 fps READY=1",
        "STOPPING=1",
    ]


def test_pings_only_for_progress(systemd: socket.socket) -> None:
    """A program without new frames sends none, however often the monitor polls."""
    clock = FakeClock()
    with Watchdog(clock, make_environment(systemd)) as watchdog:
        assert watchdog.interval_ns == SECOND // 5
        assert not watchdog.tick()
        watchdog.progress()
        assert watchdog.tick()
        clock.advance(5 * SECOND)
        assert not watchdog.tick()
        watchdog.progress()
        watchdog.progress()
        assert watchdog.tick()
    assert receive_all(systemd) == ["WATCHDOG=1", "WATCHDOG=1"]


def test_ten_pings_within_the_limit(systemd: socket.socket) -> None:
    """Progress between two pings counts for the second one."""
    clock = FakeClock()
    pings = 0
    with Watchdog(clock, make_environment(systemd)) as watchdog:
        for _ in range(40):  # 2 s, the limit, at 20 Hz
            watchdog.progress()
            pings += watchdog.tick()
            clock.advance(SECOND // 20)
    assert pings == 10
    assert len(receive_all(systemd)) == 10


def test_nothing_is_opened_outside_systemd() -> None:
    """Without NOTIFY_SOCKET every call does nothing."""
    before = count_open_files()
    with Watchdog(FakeClock(), {"WATCHDOG_USEC": "2000000"}) as watchdog:
        assert count_open_files() == before
        watchdog.ready("x")
        watchdog.progress()
        assert not watchdog.tick()


@pytest.mark.parametrize(
    "extra",
    [
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_PID": "1"},
    ],
)
def test_no_pings_when_none_are_expected(systemd: socket.socket, extra: dict[str, str]) -> None:
    """The watchdog is off or of another process. Readiness is still sent."""
    with Watchdog(FakeClock(), make_environment(systemd, **extra)) as watchdog:
        watchdog.ready()
        watchdog.progress()
        assert not watchdog.tick()
    assert receive_all(systemd) == ["READY=1"]


def test_pings_for_its_own_process(systemd: socket.socket) -> None:
    """WATCHDOG_PID may be this process."""
    environment = make_environment(systemd, WATCHDOG_PID=str(os.getpid()))
    with Watchdog(FakeClock(), environment) as watchdog:
        watchdog.progress()
        assert watchdog.tick()


def test_abstract_name() -> None:
    """A leading @ is Linux's abstract name space."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0emotion-edge-{os.getpid()}")
        listener.setblocking(False)
        environment = {"NOTIFY_SOCKET": f"@emotion-edge-{os.getpid()}"}
        with Watchdog(FakeClock(), environment) as watchdog:
            watchdog.ready()
        assert receive_all(listener) == ["READY=1"]


def test_lost_ping_is_sent_again(
    systemd: socket.socket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While systemd is away one line is logged, and the next tick pings."""
    (tmp_path / "notify").rename(tmp_path / "away")
    with Watchdog(FakeClock(), make_environment(systemd)) as watchdog:
        watchdog.progress()
        with caplog.at_level(logging.WARNING):
            assert not watchdog.tick()
            assert not watchdog.tick()
        assert len(caplog.records) == 1
        (tmp_path / "away").rename(tmp_path / "notify")
        assert watchdog.tick()


def test_close_twice(systemd: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    """The second close, and any call after it, does nothing."""
    watchdog = Watchdog(FakeClock(), make_environment(systemd))
    watchdog.close()
    watchdog.close()
    watchdog.ready()
    assert receive_all(systemd) == []
    assert caplog.records == []


def test_text_that_is_no_text(systemd: socket.socket) -> None:
    """A name with bytes of another code, in the fault of a port, does not end the run."""
    with Watchdog(FakeClock(), make_environment(systemd)) as watchdog:
        watchdog.status("/dev/\udcff\ud800: no such device\nREADY=1\x1b[2J")
    (message,) = receive_all(systemd)
    assert message.startswith("STATUS=/dev/")
    assert message.isprintable()

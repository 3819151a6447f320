"""The process that serves: what it inherits, its end, its restart, and a pipe that is full."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.web.listener import open_listener
from emotion_edge.runtime.web.process import FIRST_DELAY_NS, HANG_NS, ServerProcess
from emotion_edge.runtime.web.wire import HEALTH, Settings

from ... import processes
from .conftest import get, is_closed

SETTINGS = Settings("page", "127.0.0.1", 2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1)


@pytest.fixture
def server(clock: FakeClock) -> Iterator[ServerProcess]:
    server = ServerProcess(open_listener("web", "127.0.0.1", 0), SETTINGS, clock)
    yield server
    server.close()


def find_process(server: ServerProcess) -> psutil.Process:
    assert server.pid is not None
    return psutil.Process(server.pid)


def end_process(server: ServerProcess) -> None:
    process = find_process(server)
    process.kill()
    processes.wait_gone([process])


def test_it_has_nothing_of_this_process(server: ServerProcess, tmp_path: Path) -> None:
    """Neither a file that is open here, as a camera is, nor a model, nor a way to open one."""
    camera = tmp_path / "camera"
    with camera.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert server.tick()
        assert get(server.port)[0] == 200  # it has begun to serve
        process = find_process(server)
        assert [entry.path for entry in process.open_files() if "camera" in entry.path] == []
        mapped = {Path(entry.path).name for entry in process.memory_maps()}
        assert not any("onnxruntime" in name or "cv2" in name for name in mapped)
        assert process.nice() >= 10
        links = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]  # noqa: PTH115
    sockets = [link for link in links if link.startswith("socket:")]
    assert len(sockets) <= 4  # the pair, the listener, and two of its event loop


def test_it_is_started_again(
    server: ServerProcess, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, then later and later. The fault is logged once, and the port stays ours."""
    delays_ns = []
    with caplog.at_level(logging.WARNING):
        assert server.tick()
        for _ in range(3):
            end_process(server)
            began_ns = clock.now_ns()
            while not server.tick():
                assert "signal 9" in server.fault
                assert not server.send(HEALTH + b"{}")
                clock.advance(FIRST_DELAY_NS // 10)
            delays_ns.append(clock.now_ns() - began_ns)
    assert delays_ns[0] == 0
    assert FIRST_DELAY_NS <= delays_ns[1] < delays_ns[2]
    assert [record.getMessage() for record in caplog.records] == [
        f"page on port {server.port}: its process has ended (signal 9)"
    ]
    assert get(server.port)[0] == 200
    clock.advance(2 * FIRST_DELAY_NS)
    server.tick()
    assert server.fault == ""


def test_a_full_pipe_drops_and_counts(server: ServerProcess, clock: FakeClock) -> None:
    """A process that hangs delays nothing, and is killed at last."""
    server.tick()
    process = find_process(server)
    process.send_signal(signal.SIGSTOP)
    message = HEALTH + b" " * 10_000
    while server.send(message):
        pass
    dropped = server.dropped
    assert not server.send(message)
    assert server.dropped == dropped + 1
    assert process.is_running()
    clock.advance(HANG_NS + 1)
    server.send(message)
    processes.wait_gone([process])
    assert server.tick()
    assert find_process(server).pid != process.pid
    assert server.send(message)


def test_a_message_too_long_is_dropped(server: ServerProcess) -> None:
    server.tick()
    assert not server.send(HEALTH + bytes(10_000_000))
    assert server.dropped == 1


def test_close_ends_it(server: ServerProcess) -> None:
    """Also a second time. The port is free again."""
    server.tick()
    process = find_process(server)
    server.close()
    server.close()
    assert not process.is_running()
    assert is_closed(server.port)


PARENT = """
import sys, time
from emotion_edge.runtime.web.listener import open_listener
from emotion_edge.runtime.web.process import ServerProcess
from emotion_edge.runtime.web.wire import Settings
server = ServerProcess(open_listener("web", "127.0.0.1", 0), Settings("page", "127.0.0.1"))
server.tick()
print(server.pid, server.port, flush=True)
time.sleep(1000)
"""


def test_it_ends_with_its_parent() -> None:
    """However that ends, and even if it hangs itself."""
    command = [sys.executable, "-c", PARENT]
    with processes.start(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        child = psutil.Process(pid)
        get(port)  # it has begun to serve
        child.send_signal(signal.SIGSTOP)
        parent.kill()
        processes.wait_gone([child])
    assert is_closed(port)


def test_it_ends_with_its_pipe(server: ServerProcess) -> None:
    """Where the kernel cannot end it with its parent."""
    server.tick()
    process = find_process(server)
    assert server._pair is not None
    server._pair.close()
    processes.wait_gone([process])


def test_a_signal_for_the_program_is_not_for_it(server: ServerProcess) -> None:
    """A Ctrl-C, or systemd's SIGTERM for all processes: the program ends it. It answers who has
    connected before it was started."""
    with socket.create_connection(("127.0.0.1", server.port)) as early:
        server.tick()
        early.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert early.recv(15) == b"HTTP/1.1 200 OK"
    process = find_process(server)
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert get(server.port)[0] == 200

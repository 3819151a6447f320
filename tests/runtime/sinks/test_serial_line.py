"""The serial sink on pseudo-terminals: what arrives, and what happens when nothing can."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import subprocess
import sys
import termios
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.runtime import config
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.sinks import serial_line
from emotion_edge.runtime.sinks.serial_line import SerialSink

TIMEOUT_S = 500
ESTIMATE = Estimate(
    t_ns=0,
    index=0,
    label="happy",
    confidence=0.81,
    probabilities=dict.fromkeys(LABELS, 0.125),
    modalities={"face": 0.7, "voice": 0.3},
    face=None,
    voice=None,
    abstained=False,
    skew_ns=0,
    latency_us=12_345.678,
    stages_us={},
    level="full",
)
FAST = config.Serial(baud=4_000_000, max_hz=240)


def make_estimate(number: int) -> Estimate:
    """One that says its number as t_ms."""
    return replace(ESTIMATE, t_ns=number * 1_000_000)


class Line:
    """A port behind a name that stays, and the end of the line that a reader has."""

    def __init__(self, folder: Path) -> None:
        self.port = folder / "port"
        self._ours = -1
        self._text = b""
        self.plug_in()

    def plug_in(self) -> None:
        self._ours, theirs = os.openpty()
        self.terminal = os.ttyname(theirs)
        self.port.symlink_to(self.terminal)
        self._theirs = theirs
        self._text = b""

    def unplug(self) -> None:
        if self._ours >= 0:
            self.port.unlink()
            os.close(self._theirs)
            os.close(self._ours)
            self._ours = -1

    def read_until(self, end: bytes = b"\n") -> bytes:
        """Up to the next `end`, without it."""
        readable = select.poll()
        readable.register(self._ours, select.POLLIN)
        while end not in self._text:
            assert readable.poll(TIMEOUT_S * 1000), self._text
            self._text += os.read(self._ours, 65536)
        before, _, self._text = self._text.partition(end)
        return before

    def read_number(self) -> int:
        """Of the next line that is whole; what ends a line that was cut off is passed over."""
        while True:
            try:
                return int(json.loads(self.read_until())["t_ms"])
            except json.JSONDecodeError:
                continue


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path)
    yield line
    line.unplug()


@pytest.fixture
def said() -> Iterator[Queue[str]]:
    """What the sink writes into the log, to be waited for."""
    messages: Queue[str] = Queue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.put(record.getMessage())

    handler = Handler()
    serial_line.logger.addHandler(handler)
    yield messages
    serial_line.logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def _fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kiosk does after half a second."""
    monkeypatch.setattr(serial_line, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(serial_line, "MAX_DELAY_S", 0.05)
    monkeypatch.setattr(serial_line, "WRITE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(serial_line, "SETTLE_S", 0.01)
    monkeypatch.setattr(serial_line, "STALE_S", 600.0)  # what a busy machine never reaches


def list_open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return [str(file.readlink()) for file in folder.iterdir() if file.is_symlink()]


def test_lines_arrive(line: Line) -> None:
    """After a line feed of its own, whole, in raw bytes."""
    with SerialSink(str(line.port), FAST) as sink:
        for number in range(3):
            sink.publish(make_estimate(number))
            if number == 0:
                assert line.read_until() == b""
            assert json.loads(line.read_until())["t_ms"] == number
        assert sink.fault == ""


def test_frames_arrive(line: Line) -> None:
    """After a 0 byte of its own."""
    settings = config.Serial(baud=4_000_000, max_hz=240, format="binary")
    with SerialSink(str(line.port), settings) as sink:
        sink.publish(make_estimate(10))  # a line feed, which a terminal would like to change
        assert line.read_until(b"\0") == b""
        assert len(line.read_until(b"\0")) == 31


def test_newest_wins(line: Line) -> None:
    """Of a thousand at once a few are sent, and the last for sure."""
    began_s = time.monotonic()
    with SerialSink(str(line.port), config.Serial(max_hz=20)) as sink:
        for number in range(1000):
            sink.publish(make_estimate(number))
        numbers = [line.read_number()]
        while numbers[-1] != 999:
            numbers.append(line.read_number())
    assert numbers == sorted(numbers)
    assert len(numbers) <= 2 + (time.monotonic() - began_s) * 20


def test_so_many_a_second_at_most(line: Line) -> None:
    """However fast they are made and read."""
    with SerialSink(str(line.port), config.Serial(baud=4_000_000, max_hz=20)) as sink:
        assert line.read_until() == b""
        began_s = time.monotonic()
        for number in range(4):
            sink.publish(make_estimate(number))
            assert line.read_number() == number
    assert time.monotonic() - began_s > 3 / 20


def test_slow_line_is_not_given_more_than_it_carries(line: Line) -> None:
    """32 bytes at 1200 baud take 0.27 s, however many estimates a second are allowed."""
    settings = config.Serial(baud=1200, max_hz=240, format="binary")
    with SerialSink(str(line.port), settings) as sink:
        assert line.read_until(b"\0") == b""
        began_s = time.monotonic()
        for number in range(3):
            sink.publish(make_estimate(number))
            line.read_until(b"\0")
    assert time.monotonic() - began_s > 2 * 32 * 10 / 1200


def test_adapter_unplugged_and_back(line: Line, said: Queue[str]) -> None:
    """Closed at once, said once, opened again by its name, and the newest goes on."""
    with SerialSink(str(line.port), FAST) as sink:
        sink.publish(make_estimate(1))
        assert line.read_number() == 1
        old = line.terminal
        line.unplug()
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port}: no such device"
        assert sink.fault == f"serial {line.port}: no such device"
        assert not [file for file in list_open_files() if file.startswith(old)]
        sink.publish(make_estimate(2))
        sink.publish(make_estimate(3))
        line.plug_in()
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port} is back"
        assert sink.fault == ""
        assert line.read_until() == b""
        assert line.read_number() == 3
        sink.publish(make_estimate(4))
        assert line.read_number() == 4
    assert said.empty()


def test_missing_port_is_waited_for(line: Line, said: Queue[str]) -> None:
    """The device may be switched on before its adapter is plugged in."""
    line.unplug()
    with SerialSink(str(line.port), FAST) as sink:
        sink.publish(make_estimate(5))
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port}: no such device"
        line.plug_in()
        assert line.read_number() == 5


def test_old_estimate_is_not_sent(line: Line, said: Queue[str]) -> None:
    """The adapter comes back an hour after the last estimate: the next one is the first sent."""
    line.unplug()
    with SerialSink(str(line.port), FAST) as sink:
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port}: no such device"
        sink.publish(make_estimate(1))
        assert sink._newest is not None
        published_s, estimate = sink._newest
        sink._newest = published_s - 3600.0, estimate
        line.plug_in()
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port} is back"
        while select.select([sink._fresh], [], [], 0)[0]:
            time.sleep(0.001)  # until it was looked at
        sink.publish(make_estimate(2))
        assert line.read_number() == 2


def test_reader_that_sleeps(line: Line, said: Queue[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The line fills up: said once, nothing is held up, and what is new comes when it wakes."""
    dropped: list[int] = []
    monkeypatch.setattr(termios, "tcflush", lambda port, queue: dropped.append(queue))
    with SerialSink(str(line.port), FAST) as sink:
        number = 0
        while said.empty():
            sink.publish(make_estimate(number := number + 1))
        assert said.get() == sink.fault == f"serial {line.port}: what is sent is not taken"
        sink.publish(make_estimate(1_000_000))
        while line.read_number() != 1_000_000:
            pass
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port} is back"
        assert dropped == [termios.TCIFLUSH, termios.TCOFLUSH]  # when it was opened; what was old
    assert said.empty()


def test_closes_while_the_reader_sleeps(line: Line, said: Queue[str]) -> None:
    """What it cannot send does not keep it."""
    with SerialSink(str(line.port), FAST) as sink:
        while said.empty():
            sink.publish(ESTIMATE)
    assert "serial" not in [thread.name for thread in threading.enumerate()]


def test_closing_twice_leaves_nothing(line: Line) -> None:
    """No thread and no file, and publishing afterwards does nothing."""
    files = sorted(list_open_files())
    sink = SerialSink(str(line.port), FAST)
    sink.publish(ESTIMATE)
    line.read_number()
    sink.close()
    sink.close()
    sink.publish(ESTIMATE)
    assert sorted(list_open_files()) == files
    assert "serial" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("where", ["open", "write"])
def test_driver_that_never_returns(
    line: Line,
    said: Queue[str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """Closing gives up after a while and says so; publishing is not held up either."""
    monkeypatch.setattr(serial_line, "CLOSE_TIMEOUT_S", 0.05)
    inside, go_on = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> int:
        inside.set()
        go_on.wait(TIMEOUT_S)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        if where == "open":
            patch.setattr(serial_line, "load_pyserial", lambda: hang)
        else:
            patch.setattr(os, "write", hang)
        sink = SerialSink(str(line.port), FAST)
        assert inside.wait(TIMEOUT_S)
        for number in range(1000):
            sink.publish(make_estimate(number))
        sink.close()
        assert said.get() == f"serial {line.port} does not answer and is left open"
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "serial")
        go_on.set()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_delay_grows(
    line: Line, said: Queue[str], monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Of a device that fails each time; also of one that opens, takes something and fails then,
    which is not called well in between."""
    monkeypatch.setattr(serial_line, "FIRST_DELAY_S", 0.5)
    monkeypatch.setattr(serial_line, "MAX_DELAY_S", 5.0)
    monkeypatch.setattr(serial_line, "SETTLE_S", 1000.0)
    delays: list[float | None] = []
    waits = 0
    over = threading.Event()

    def wait(self: SerialSink, port: int | None, **options: Any) -> bool:
        nonlocal waits
        if port is not None:
            waits += 1
            if waits > taken:
                raise OSError(71, "Protocol error")
            if options.get("fresh"):
                self.publish(ESTIMATE)
            return True
        delays.append(options["timeout_s"])
        waits = 0
        if len(delays) == 6:
            over.set()
            raise serial_line._Stopped
        return False

    monkeypatch.setattr(SerialSink, "_wait", wait)
    with SerialSink(str(line.port), FAST) as sink:
        assert over.wait(TIMEOUT_S)
    assert delays == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert said.get() == sink.fault == f"serial {line.port}: protocol error"
    assert said.empty()


def test_error_of_our_own(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not swallowed with the thread: it waits to be raised where the run ends. The port is given
    back."""

    def fail(_: object) -> bytes:
        raise KeyError("a mistake")

    monkeypatch.setitem(serial_line.ENCODERS, "json", fail)
    with SerialSink(str(line.port), FAST) as sink:
        assert sink.failure is None
        sink.publish(ESTIMATE)
        sink._thread.join(TIMEOUT_S)
        assert isinstance(sink.failure, KeyError)
        assert list_open_files().count(line.terminal) == 1  # our own of the test
        with pytest.raises(KeyError, match="a mistake"):
            sink.publish(ESTIMATE)


def test_port_that_another_program_has(line: Line, said: Queue[str]) -> None:
    """Two who write would mix their lines."""
    other = os.open(line.terminal, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with SerialSink(str(line.port), FAST) as sink:
        assert said.get(timeout=TIMEOUT_S) == f"serial {line.port}: another program has it open"
        os.close(other)
        sink.publish(make_estimate(6))
        assert line.read_number() == 6


@pytest.mark.parametrize("port", ["ttyUSB0", "", "COM3", "socket://host:1"])
def test_what_is_no_path(port: str) -> None:
    """One line that names it."""
    with pytest.raises(ValueError, match=r"^serial port .* is no device, such as /dev/ttyUSB0$"):
        SerialSink(port, FAST)


def test_documents_are_never_written(line: Line, tmp_path: Path, said: Queue[str]) -> None:
    """Neither one that is named, nor one that has taken the port's name."""
    document = tmp_path / "letter.txt"
    document.write_text("dear")
    with pytest.raises(ValueError, match=r"letter.txt' is no device"):
        SerialSink(str(document), FAST)
    with SerialSink(str(line.port), FAST) as sink:
        sink.publish(ESTIMATE)
        line.read_number()
        line.unplug()
        document.rename(line.port)
        # Each cause is said: first the port is gone, then something else has its name.
        causes = [said.get(timeout=TIMEOUT_S) for _ in range(2)]
        assert causes[0] != causes[1] == sink.fault
    assert line.port.read_text() == "dear"


def test_device_that_is_no_port(said: Queue[str]) -> None:
    """/dev/null takes everything, and is none."""
    with SerialSink("/dev/null", FAST):
        assert said.get(timeout=TIMEOUT_S).startswith("serial /dev/null: ")


@pytest.mark.parametrize("module", [None, types.ModuleType("serial")])
def test_without_pyserial(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None) -> None:
    """None, or the other package of that name."""
    monkeypatch.setitem(sys.modules, "serial", module)
    with pytest.raises(ValueError, match=r'pip install "emotion-edge\[serial\]"$'):
        SerialSink("/dev/ttyUSB0", FAST)


def test_imports_pyserial_only_where_used() -> None:
    """Who has no serial port does not need it."""
    module = "emotion_edge.runtime.sinks.serial_line"
    code = f"import sys, {module}; sys.exit('serial' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file or directory"), "no such device"),
        (OSError(5, "Input/output error"), "no such device"),
        (PermissionError(13, "Permission denied"), "no permission: join group dialout"),
        (termios.error(71, "Protocol error"), "protocol error"),
        (
            ValueError("Failed to set custom baud rate (1201)"),
            "Failed to set custom baud rate (1201)",
        ),
        (OSError(), "OSError"),
    ],
)
def test_errors_are_explained(error: Exception, words: str) -> None:
    """A few, also of what has no number."""
    assert serial_line.explain_error(error) == words

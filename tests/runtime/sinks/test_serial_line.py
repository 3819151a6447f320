"""The serial sink on pseudo-terminals: what is received, and every way to fail."""

from __future__ import annotations

import errno
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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any, Literal

import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.runtime import config
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.sinks import serial_line
from emotion_edge.runtime.sinks.serial_format import ENDS
from emotion_edge.runtime.sinks.serial_line import SerialSink

from .estimates import ESTIMATE

TIMEOUT_S = 500
FAST = config.Serial(baud=4_000_000, max_hz=240)


def make_estimate(number: int) -> Estimate:
    """Its `t_ms` is the number."""
    return replace(ESTIMATE, t_ns=number * 1_000_000)


class Line:
    """A port behind a stable name, and the reader's end of the line."""

    def __init__(self, folder: Path) -> None:
        self.port = folder / "port"
        self._ours = -1
        self.plug_in()

    def plug_in(self) -> None:
        self._ours, self._theirs = os.openpty()
        self.terminal = os.ttyname(self._theirs)
        self.port.symlink_to(self.terminal)
        self._text = b""

    def unplug(self) -> None:
        if self._ours >= 0:
            self.port.unlink()
            os.close(self._theirs)
            os.close(self._ours)
            self._ours = -1

    def read_until(self, end: bytes = b"\n") -> bytes:
        """Return what precedes the next `end`."""
        readable = select.poll()
        readable.register(self._ours, select.POLLIN)
        while end not in self._text:
            assert readable.poll(TIMEOUT_S * 1000), self._text
            self._text += os.read(self._ours, 65536)
        before, _, self._text = self._text.partition(end)
        return before

    def read_number(self) -> int:
        """Return the number of the next whole line."""
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
def logged() -> Iterator[Queue[str]]:
    """The sink's log messages, to wait for."""
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
    monkeypatch.setattr(serial_line, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(serial_line, "MAX_DELAY_S", 0.05)
    monkeypatch.setattr(serial_line, "WRITE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(serial_line, "SETTLE_S", 0.01)
    monkeypatch.setattr(serial_line, "STALE_S", 600.0)  # never reached, even on a busy machine


def list_open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return sorted(str(file.readlink()) for file in folder.iterdir() if file.is_symlink())


def thread_runs() -> bool:
    return "serial" in [thread.name for thread in threading.enumerate()]


# Sending


def test_lines_are_received(line: Line) -> None:
    """Whole, in raw bytes, after one line feed."""
    with SerialSink(str(line.port), FAST) as sink:
        for number in range(3):
            sink.publish(make_estimate(number))
            if number == 0:
                assert line.read_until() == b""
            assert json.loads(line.read_until())["t_ms"] == number
        assert sink.fault == ""


def test_frames_are_received(line: Line) -> None:
    """After one 0 byte."""
    settings = config.Serial(baud=4_000_000, max_hz=240, format="binary")
    with SerialSink(str(line.port), settings) as sink:
        sink.publish(make_estimate(10))  # a line feed, which a terminal could translate
        assert line.read_until(b"\0") == b""
        assert len(line.read_until(b"\0")) == 31


@pytest.mark.parametrize("form", ["json", "binary"])
def test_names_of_other_labels(
    line: Line, monkeypatch: pytest.MonkeyPatch, form: Literal["json", "binary"]
) -> None:
    """They come before the first estimate, again when they are due, and after another bundle's
    first estimate; the seven labels never."""
    monkeypatch.setattr(SerialSink, "_wait", skip_pauses(SerialSink._wait))
    now_s = 100.0
    monkeypatch.setattr(serial_line, "time", types.SimpleNamespace(monotonic=lambda: now_s))
    end = ENDS[form]
    others = ("yes", "no")
    three = ("a", "b", "c")

    def publish(labels: tuple[str, ...]) -> None:
        shares = dict.fromkeys(labels, 0.5)
        sink.publish(replace(ESTIMATE, labels=labels, label=labels[0], probabilities=shares))

    def read_kinds(count: int) -> list[bool]:
        """Whether each of the next frames or lines has a name."""
        found = [line.read_until(end) for _ in range(count)]
        if form == "json":
            return ["labels" in json.loads(text) for text in found]
        return [text[1:3] == b"\x02\x01" for text in found]

    with SerialSink(str(line.port), config.Serial(4_000_000, form, 240)) as sink:
        num_names = 1 if form == "json" else len(others)
        publish(LABELS)
        assert line.read_until(end) == b""
        assert read_kinds(1) == [False]
        publish(others)
        assert read_kinds(num_names + 1) == [True] * num_names + [False]
        publish(others)
        assert read_kinds(1) == [False]
        now_s += serial_line.NAMES_EVERY_S
        publish(others)
        assert read_kinds(num_names + 1) == [True] * num_names + [False]
        publish(three)
        assert read_kinds(1) == [True]


def skip_pauses(wait: Callable[..., bool]) -> Callable[..., bool]:
    """The sink's `_wait`, which does not wait between two estimates."""

    def run(self: SerialSink, port: int | None, **options: Any) -> bool:
        return list(options) != ["timeout_s"] and wait(self, port, **options)

    return run


def test_newest_estimate_wins(line: Line) -> None:
    """Of a thousand at once, some are sent in order, and the last one always."""
    with SerialSink(str(line.port), FAST) as sink:
        for number in range(1000):
            sink.publish(make_estimate(number))
        numbers = [line.read_number()]
        while numbers[-1] != 999:
            numbers.append(line.read_number())
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("settings", "pause_s"),
    [
        (config.Serial(baud=4_000_000, max_hz=20), 1 / 20),
        (config.Serial(baud=1200, max_hz=240, format="binary"), 32 * 10 / 1200),
    ],
)
def test_rate_is_limited(
    line: Line, monkeypatch: pytest.MonkeyPatch, settings: config.Serial, pause_s: float
) -> None:
    """By the configured rate, and by what the line can carry. The clock stands still."""
    monkeypatch.setattr(serial_line, "time", types.SimpleNamespace(monotonic=lambda: 5.0))
    pauses: Queue[float] = Queue()
    wait = SerialSink._wait

    def record_pause(self: SerialSink, port: int | None, **options: Any) -> bool:
        if list(options) == ["timeout_s"]:
            pauses.put(options["timeout_s"])
            return False
        return wait(self, port, **options)

    monkeypatch.setattr(SerialSink, "_wait", record_pause)
    with SerialSink(str(line.port), settings) as sink:
        for number in range(3):
            sink.publish(make_estimate(number))
            assert pauses.get(timeout=TIMEOUT_S) == pytest.approx(pause_s)


# Failures of the port


def test_adapter_is_unplugged_and_back(line: Line, logged: Queue[str]) -> None:
    """The port is closed at once and opened again by its name; both are logged once."""
    with SerialSink(str(line.port), FAST) as sink:
        sink.publish(make_estimate(1))
        assert line.read_number() == 1
        terminal = line.terminal
        line.unplug()
        fault = logged.get(timeout=TIMEOUT_S)
        assert str(line.port) in fault
        assert sink.fault == fault
        assert not [file for file in list_open_files() if file.startswith(terminal)]
        sink.publish(make_estimate(2))
        sink.publish(make_estimate(3))
        line.plug_in()
        assert str(line.port) in logged.get(timeout=TIMEOUT_S)
        assert sink.fault == ""
        assert line.read_until() == b""
        assert line.read_number() == 3
        sink.publish(make_estimate(4))
        assert line.read_number() == 4
    assert logged.empty()


def test_old_estimate_is_not_sent(line: Line, logged: Queue[str]) -> None:
    """A port that appears an hour after the last estimate: the next one is the first sent."""
    line.unplug()
    with SerialSink(str(line.port), FAST) as sink:
        assert logged.get(timeout=TIMEOUT_S) == sink.fault
        sink.publish(make_estimate(1))
        assert sink._newest is not None
        published_s, estimate = sink._newest
        sink._newest = published_s - 3600.0, estimate
        line.plug_in()
        assert str(line.port) in logged.get(timeout=TIMEOUT_S)
        while select.select([sink._fresh], [], [], 0)[0]:
            time.sleep(0.001)  # until the thread has read it
        sink.publish(make_estimate(2))
        assert line.read_number() == 2


def test_reader_that_sleeps(
    line: Line, logged: Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full line is logged once and delays nothing. The newest estimate follows when it is read
    again, and what was queued is discarded."""
    flushed: list[int] = []
    monkeypatch.setattr(termios, "tcflush", lambda port, queue: flushed.append(queue))
    with SerialSink(str(line.port), FAST) as sink:
        number = 0
        while logged.empty():
            sink.publish(make_estimate(number := number + 1))
        assert logged.get() == sink.fault != ""
        sink.publish(make_estimate(1_000_000))
        while line.read_number() != 1_000_000:
            pass
        assert str(line.port) in logged.get(timeout=TIMEOUT_S)
        assert flushed == [termios.TCIFLUSH, termios.TCOFLUSH]  # at the opening; the queue
    assert logged.empty()


def test_close_while_the_reader_sleeps(line: Line, logged: Queue[str]) -> None:
    with SerialSink(str(line.port), FAST) as sink:
        while logged.empty():
            sink.publish(ESTIMATE)
    assert not thread_runs()


def test_second_close_is_harmless(line: Line) -> None:
    """No thread and no file is left, and publishing does nothing."""
    files = list_open_files()
    sink = SerialSink(str(line.port), FAST)
    sink.publish(ESTIMATE)
    line.read_number()
    sink.close()
    sink.close()
    sink.publish(ESTIMATE)
    assert list_open_files() == files
    assert not thread_runs()


@pytest.mark.parametrize("where", ["open", "write"])
def test_driver_that_hangs(
    line: Line, logged: Queue[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Closing gives up after a while and is logged. Publishing is not delayed."""
    monkeypatch.setattr(serial_line, "CLOSE_TIMEOUT_S", 0.05)
    inside, go_on = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> int:
        inside.set()
        go_on.wait(TIMEOUT_S)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

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
        assert str(line.port) in logged.get()
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "serial")
        go_on.set()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("writes", [0, 1, 3])
def test_delay_grows(
    line: Line, logged: Queue[str], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """For a device that fails each time, and for one that first accepts some writes: its fault
    does not end in between."""
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
            if waits > writes:
                raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
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
    assert logged.get() == sink.fault != ""
    assert logged.empty()


def test_programming_error(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the thread, is raised by `publish`, and the port is closed."""

    def fail(_: object) -> bytes:
        raise KeyError("an error")

    monkeypatch.setitem(serial_line.ENCODERS, "json", fail)
    with SerialSink(str(line.port), FAST) as sink:
        assert sink.failure is None
        sink.publish(ESTIMATE)
        sink._thread.join(TIMEOUT_S)
        assert isinstance(sink.failure, KeyError)
        assert list_open_files().count(line.terminal) == 1  # the test's own
        with pytest.raises(KeyError, match="an error"):
            sink.publish(ESTIMATE)


def test_port_of_another_program(line: Line, logged: Queue[str]) -> None:
    """Two programs would mix their lines, so the sink waits."""
    other = os.open(line.terminal, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with SerialSink(str(line.port), FAST) as sink:
        assert serial_line.REASONS[errno.EAGAIN] in logged.get(timeout=TIMEOUT_S)
        os.close(other)
        sink.publish(make_estimate(6))
        assert line.read_number() == 6


# What is no port


@pytest.mark.parametrize("port", ["ttyUSB0", "", "COM3", "socket://host:1"])
def test_invalid_path(port: str) -> None:
    with pytest.raises(ValueError, match=f"^serial port {port!r} "):
        SerialSink(port, FAST)


def test_files_are_never_written(line: Line, tmp_path: Path, logged: Queue[str]) -> None:
    """Neither a configured one, nor one that has replaced the port."""
    document = tmp_path / "letter.txt"
    document.write_text("dear")
    with pytest.raises(ValueError, match=r"letter\.txt"):
        SerialSink(str(document), FAST)
    with SerialSink(str(line.port), FAST) as sink:
        sink.publish(ESTIMATE)
        line.read_number()
        line.unplug()
        document.rename(line.port)
        # Each cause is logged: the missing port, then the file in its place.
        causes = [logged.get(timeout=TIMEOUT_S) for _ in range(2)]
        assert causes[0] != causes[1] == sink.fault
    assert line.port.read_text() == "dear"


def test_device_that_is_no_port(logged: Queue[str]) -> None:
    """/dev/null accepts every write, but cannot be configured."""
    with SerialSink("/dev/null", FAST) as sink:
        assert logged.get(timeout=TIMEOUT_S) == sink.fault != ""


@pytest.mark.parametrize("module", [None, types.ModuleType("serial")])
def test_without_pyserial(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None) -> None:
    """No package, or another package of that name."""
    monkeypatch.setitem(sys.modules, "serial", module)
    with pytest.raises(ValueError, match=r"emotion-edge\[serial\]"):
        SerialSink("/dev/ttyUSB0", FAST)


def test_pyserial_is_imported_only_where_used() -> None:
    module = "emotion_edge.runtime.sinks.serial_line"
    code = f"import sys, {module}; sys.exit('serial' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(errno.ENOENT, ""), serial_line.REASONS[errno.ENOENT]),
        (OSError(errno.EIO, ""), serial_line.REASONS[errno.EIO]),
        (PermissionError(errno.EACCES, ""), serial_line.REASONS[errno.EACCES]),
        (termios.error(errno.EPROTO, ""), os.strerror(errno.EPROTO).lower()),
        (ValueError("invalid baud rate"), "invalid baud rate"),
        (OSError(), "OSError"),
    ],
)
def test_errors_are_explained(error: Exception, text: str) -> None:
    """With or without a number, in a few words."""
    assert serial_line.explain_error(error) == text

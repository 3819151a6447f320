"""Files, pipes and standard output: what is refused, what is appended, and what is lost."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.config import ConfigError, load_config
from emotion_edge.runtime.messages import OutputError, RunInfo, SinkClosed
from emotion_edge.runtime.sinks import open_sinks, raise_losses
from emotion_edge.runtime.sinks.file_sink import FileSink
from emotion_edge.runtime.sinks.jsonl import JsonLines, encode_estimate
from emotion_edge.runtime.sinks.output_file import OutputFile
from emotion_edge.runtime.sinks.utc import find_utc

from ... import processes
from .estimates import ESTIMATE

INFO = RunInfo("demo", tuple(ESTIMATE.probabilities))


@contextmanager
def open_lines(
    target: object, *, wait_ms: int = 0, ends_run: bool = True
) -> Iterator[tuple[FileSink, OutputFile]]:
    """A sink of JSON lines that has begun, and its file."""
    encoder = JsonLines()
    file = OutputFile(str(target), encoder.is_own, wait_ms=wait_ms, ends_run=ends_run)
    sink = FileSink(file, encoder)
    file.check(None)
    sink.begin(INFO)
    try:
        yield sink, file
    finally:
        sink.close()


def read_indices(lines: str | bytes) -> list[int]:
    return [json.loads(line)["index"] for line in lines.splitlines()]


# What is refused


SPECS = ("jsonl", "csv", "summary")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(range(256)) * 40)
    return path


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard link", "descriptor", "empty"])
@pytest.mark.parametrize("kind", SPECS)
def test_source_is_refused(
    film: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    """By whatever name, and it keeps every byte."""
    monkeypatch.chdir(film.parent)
    other = film.parent / "other"
    target = str(film)
    if way == "relative":
        target = "./film.mp4"
    elif way == "symlink":
        other.symlink_to(film)
        target = "other"
    elif way == "hard link":
        other.hardlink_to(film)
        target = "other"
    elif way == "empty":
        film.write_bytes(b"")
    before = film.read_bytes()
    with film.open("rb") as file:
        if way == "descriptor":
            target = f"/proc/self/fd/{file.fileno()}"
        config = load_config(None, [f"source.name={film}"])
        with pytest.raises(ConfigError, match="source"), open_sinks([f"{kind}:{target}"], config):
            pytest.fail("was opened")
    assert film.read_bytes() == before


@pytest.mark.parametrize("content", [b"x", b"\n", b"a,b\n1,2\n", b'{"key": 1}\n', b"\0" * 70_000])
@pytest.mark.parametrize("kind", SPECS)
def test_other_files_are_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    """A document, a table, a film: it keeps every byte. The error names it."""
    path = tmp_path / "old"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)), open_sinks([f"{kind}:{path}"]):
        pytest.fail("was opened")
    assert path.read_bytes() == content


def test_file_that_changes_before_it_is_opened(film: Path, tmp_path: Path) -> None:
    """What was free when it was checked is checked again in the open file."""
    path = tmp_path / "out.jsonl"
    config = load_config(None, [f"source.name={film}"])
    for take, error in (
        (lambda: path.hardlink_to(film), ConfigError),
        (lambda: path.write_text("notes"), ConfigError),
        (path.mkdir, OutputError),
    ):
        with open_sinks([f"jsonl:{path}"], config) as sinks:
            assert not path.exists()
            take()  # type: ignore[operator]
            with pytest.raises(error):
                sinks.observers[0].begin(INFO)
        if path.is_file():
            path.unlink()
    assert film.stat().st_size == 256 * 40


@pytest.mark.parametrize(
    "specs",
    [
        ["jsonl:out", "jsonl:out"],
        ["jsonl:out", "null", "jsonl:./out"],
        ["jsonl:old", "jsonl:link"],
        ["jsonl:new", "jsonl:dangling"],
        ["jsonl:-", "console"],
        ["jsonl:/dev/stdout", "jsonl:-"],
    ],
)
def test_two_sinks_on_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, specs: list[str]
) -> None:
    """By whatever names. Nothing is created."""
    monkeypatch.chdir(tmp_path)
    Path("old").touch()
    Path("link").symlink_to("old")
    Path("dangling").symlink_to("new")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="one file"), open_sinks(specs):
        pytest.fail("was opened")
    assert sorted(tmp_path.iterdir()) == before


def test_devices_without_content_are_shared() -> None:
    """Two outputs may go to /dev/null."""
    with open_sinks(["jsonl:/dev/null", "jsonl:/dev/null"]) as sinks:
        assert len(sinks.recorders) == 2


# What is appended


def test_each_line_is_written_at_once(tmp_path: Path) -> None:
    """A file of this kind is continued, and each estimate can be read before the next."""
    path = tmp_path / "out.jsonl"
    for run in range(2):
        with open_lines(path) as (sink, _):
            for index in range(3):
                sink.publish(replace(ESTIMATE, index=index))
                assert read_indices(path.read_text()) == [0, 1, 2] * run + list(range(index + 1))
        sink.close()
        sink.publish(ESTIMATE)
    assert len(path.read_text().splitlines()) == 6


def test_line_that_a_power_cut_has_cut_off(tmp_path: Path) -> None:
    """The next run begins a line of its own."""
    path = tmp_path / "out.jsonl"
    line = encode_estimate(ESTIMATE)
    path.write_bytes(line + line[:50])
    with open_lines(path) as (sink, _):
        sink.publish(replace(ESTIMATE, index=7))
    first, part, last = path.read_bytes().splitlines()
    assert (first, part) == (line.rstrip(), line[:50])
    assert json.loads(last)["index"] == 7


def test_time_of_day_is_that_of_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference of the two clocks is taken anew each time: the system's may be set."""
    monkeypatch.setattr("time.time_ns", lambda: 1_764_527_760_500_000_000)
    monkeypatch.setattr("time.monotonic_ns", lambda: 5_000_000_000)
    assert find_utc(4_250_000_000) == "2025-11-30T18:35:59.750Z"


# What is lost


def test_full_disk_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on, it is logged once, and at the end the loss is an error."""
    with caplog.at_level(logging.ERROR), open_lines("/dev/full") as (sink, file):
        for _ in range(3):
            sink.publish(ESTIMATE)
        assert os.strerror(errno.ENOSPC) in sink.fault
    (message,) = caplog.messages
    assert "/dev/full" in message
    assert file.lost == 3
    with pytest.raises(OutputError, match=r"/dev/full.* 3 "):
        raise_losses([sink])


@pytest.mark.parametrize("pace", ["max", "real"])
@pytest.mark.parametrize("kind", SPECS)
def test_full_disk_ends_with_an_error(
    null_bundle: Path, capsys: pytest.CaptureFixture[str], kind: str, pace: str
) -> None:
    """After all estimates, of which the other output has each."""
    options = ["--bundle", str(null_bundle), "--set", "engines.name=null", "--seconds", "0.3"]
    output = ["--output", f"{kind}:/dev/full", "null"]
    assert main(["run", "--source", "demo", "--pace", pace, *output, *options]) == 4
    assert "/dev/full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["none.mp4"], 4),
        (["--source", "demo", "--bundle", "none"], 4),
        (["--source", "demo", "--set", "level=best"], 2),
        (["--source", "demo", "--set", "trace.folder=none"], 2),
        (["--source", "demo", "--set", "face.yunet_file=none"], 4),
        (["--source", "demo", "--output", "serial:none"], 2),
    ],
)
@pytest.mark.parametrize("kind", SPECS)
def test_file_is_opened_last(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    null_bundle: Path,
    kind: str,
    arguments: list[str],
    code: int,
) -> None:
    """A run that does not start leaves no empty file."""
    monkeypatch.chdir(tmp_path)
    options = ["--bundle", str(null_bundle), "--set", "engines.name=null"]
    assert main(["run", *options, *arguments, "--seconds", "1", "--output", f"{kind}:out"]) == code
    assert not (tmp_path / "out").exists()


def test_full_disk_of_a_run(tmp_path: Path, null_bundle: Path) -> None:
    """A limit on the size of files stands for a full disk: exit code 4, one line, whole lines."""
    out = tmp_path / "out.jsonl"
    options = ["--bundle", str(null_bundle), "--set", "engines.name=null", "--seconds", "1"]
    command = [sys.executable, "-m", "emotion_edge.runtime", "run", "--source", "demo"]
    done = subprocess.run(
        [*command, "--pace", "max", "--output", f"jsonl:{out}", *options],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "EMOTION_EDGE_LOG": "CRITICAL"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 1
    assert str(out) in done.stderr
    whole = out.read_bytes().splitlines()[:-1]
    assert read_indices(b"\n".join(whole)) == list(range(len(whole)))


def test_disk_that_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that the full disk cut off is completed first, so every line is whole."""
    path = tmp_path / "out.jsonl"
    real_write = os.write
    room = 800

    def write_until_full(file: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real_write(file, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write_until_full)
    assert 400 < len(encode_estimate(ESTIMATE)) < 800
    with caplog.at_level(logging.INFO), open_lines(path) as (sink, file):
        for index in range(4):
            sink.publish(replace(ESTIMATE, index=index))
        room = 10_000
        sink.publish(replace(ESTIMATE, index=4))
        room = 0
        sink.publish(replace(ESTIMATE, index=5))
    assert read_indices(path.read_text()) == [0, 1, 4]
    assert file.lost == 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"]


def test_closed_pipe_ends_the_run() -> None:
    """As with `| head -1`. Nothing is written afterwards, and it is no loss."""
    reading, writing = os.pipe()
    with open_lines(f"/proc/self/fd/{writing}") as (sink, _):
        os.close(writing)
        sink.publish(ESTIMATE)
        os.close(reading)
        with pytest.raises(SinkClosed):
            sink.publish(ESTIMATE)
        sink.publish(ESTIMATE)
    assert sink.loss == ""


def test_fifo_among_other_outputs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a reader, before and after one, the run goes on. A reader begins with a whole line.
    A replay waits for the first reader, and a reader that has left is no loss."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with open_lines(fifo, ends_run=False) as (sink, file):
        sink.publish(ESTIMATE)
        for index in (1, 2):
            reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            sink.publish(replace(ESTIMATE, index=index))
            assert read_indices(os.read(reading, 1 << 16)) == [index]
            os.close(reading)
            sink.publish(ESTIMATE)
            assert str(fifo) in sink.fault
    assert (file.unread, file.lost, sink.loss) == (3, 0, "")
    with pytest.raises(OutputError), open_lines(fifo, wait_ms=1):
        pytest.fail("was opened")


def test_reader_that_sleeps_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A full pipe loses whole estimates, recovers when it is read, and the loss is an error."""
    reading, writing = os.pipe()
    with open_lines(f"/proc/self/fd/{writing}") as (sink, file):
        for index in range(2000):
            sink.publish(replace(ESTIMATE, index=index))
        data = os.read(reading, 1 << 20)
        sink.publish(replace(ESTIMATE, index=9999))
        data += os.read(reading, 1 << 20)
    os.close(reading)
    os.close(writing)
    indices = read_indices(data)
    assert 50 < len(indices) < 1900
    assert indices == [*range(len(indices) - 1), 9999]
    assert file.lost == 2001 - len(indices)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert str(file.lost) in sink.loss


def test_closed_stdout_leaves_no_traceback() -> None:
    """`jsonl:-` into a closed pipe raises SinkClosed. The exit prints nothing on stderr."""
    code = (
        "import sys\n"
        "from emotion_edge.runtime.messages import Estimate, RunInfo, SinkClosed\n"
        "from emotion_edge.runtime.sinks import open_sinks\n"
        "print('first')\n"
        "estimate = Estimate(0, 0, None, 0.0, {}, {}, None, None, True, 0, 0.0, {}, '')\n"
        "with open_sinks(['jsonl:-']) as sinks:\n"
        "    sinks.observers[0].begin(RunInfo('', ()))\n"
        "    sys.stdin.read(1)\n"
        "    try:\n"
        "        sinks.publishers[0].publish(estimate)\n"
        "    except SinkClosed:\n"
        "        sys.exit(3)\n"
    )
    pipe = subprocess.PIPE
    environment = {name: value for name, value in os.environ.items() if "UNBUFFERED" not in name}
    with processes.start(
        [sys.executable, "-c", code], env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"x", timeout=500)
    assert (process.returncode, errors) == (3, b"")


def test_closed_standard_output_is_refused(null_bundle: Path, tmp_path: Path) -> None:
    """`>&-`: what is opened next would get its number."""
    options = ["--bundle", str(null_bundle), "--set", "engines.name=null", "--seconds", "1"]
    command = [sys.executable, "-m", "emotion_edge.runtime", "run", "--source", "demo"]
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command, "--output", "jsonl:-", *options]
    done = subprocess.run(shell, stderr=subprocess.PIPE, timeout=500, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1

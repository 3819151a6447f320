"""`emotion-edge run` on the command line: outputs, signals, exit codes and error messages."""

from __future__ import annotations

import argparse
import json
import logging
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import emotion_edge
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import BundleError
from emotion_edge.kernels import PreprocessorError
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.command_line import run_guarded
from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import ListenError, SourceError
from emotion_edge.runtime.service.indicator import IndicatorError

from .. import processes

KEYS = [
    *("t_ns", "index", "label", "confidence", "probabilities", "modalities", "face", "voice"),
    *("abstained", "skew_ms", "latency_ms", "stages_ms", "level", "faces"),
    "voice_activity",
]
STAGES = ["wait", "sync", "preprocess", "face", "voice", "fusion", "publish"]
RUN = (sys.executable, "-m", "emotion_edge.runtime", "run")
TIMEOUT_S = 500


@pytest.fixture
def null_engine(null_bundle: Path) -> list[str]:
    """Options of a run without networks, on which no frame is late."""
    never_late = "budget_ms=10000"
    return ["--bundle", str(null_bundle), "--set", "engines.name=null", "--set", never_late]


@pytest.fixture
def video_file(make_video: Callable[..., Path]) -> Path:
    """0.6 s of the demo's face."""
    return make_video("film.mp4", [(n / 30, draw_face(n / 30)) for n in range(18)])


def start(*arguments: object, **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    return processes.start(
        [*RUN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


# Runs


def test_replay_writes_one_object_per_frame(tmp_path: Path, null_engine: list[str]) -> None:
    """Each frame has an object with its keys in order. Nothing is printed."""
    out = tmp_path / "out.jsonl"
    options = ["--source", "demo", "--pace", "max", "--seconds", "2", "--output", f"jsonl:{out}"]
    with start(*options, *null_engine) as process:
        printed = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, *printed) == (0, "", "")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(60))
    for line in lines:
        assert list(line) == KEYS
        assert list(line["stages_ms"]) == STAGES
        assert list(line["modalities"]) == ["face", "voice"]
        assert list(line["probabilities"]) == list(LABELS)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
    assert lines[-1]["voice"] is not None


def test_playback_ends_with_the_file(video_file: Path, null_engine: list[str]) -> None:
    """It ends with code 0 after the last frame."""
    with start(video_file, "--output", "jsonl:-", *null_engine) as process:
        out, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(out.splitlines()[-1])["index"] == 17


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_a_clean_end(null_engine: list[str], number: signal.Signals) -> None:
    """After systemd's stop and Ctrl-C: code 0 and only whole lines."""
    with start("--source", "demo", "--output", "jsonl:-", *null_engine) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    for line in [first, *rest.splitlines()]:
        assert list(json.loads(line)) == KEYS


@pytest.mark.usefixtures("interruptible")
def test_interrupted_replay(null_engine: list[str]) -> None:
    """Ctrl-C: code 130, and only whole lines."""
    options = ["--source", "demo", "--pace", "max", "--output", "jsonl:-", *null_engine]
    with start(*options) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (130, "")
    for line in [first, *rest.splitlines()]:
        assert list(json.loads(line)) == KEYS


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("pace", "output"), [("max", "jsonl:-"), ("real", "jsonl:-"), ("max", "console")]
)
def test_closed_pipe_is_a_clean_end(
    null_engine: list[str], pace: str, output: str, unbuffered: str
) -> None:
    """As after `| head -1`, whether Python buffers its output or not."""
    options = ["--source", "demo", "--pace", pace, "--output", output]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with start(*options, *null_engine, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_of_a_command(unbuffered: str) -> None:
    """As after `doctor | head -1`: code 0 and no message."""
    command = [sys.executable, "-m", "emotion_edge.runtime", "doctor"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    pipe = subprocess.PIPE
    with processes.start(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")


def test_no_torch_in_the_runtime() -> None:
    """No module of the runtime imports the libraries of the training."""
    code = (
        "import sys\n"
        "import emotion_edge.runtime.__main__, emotion_edge.runtime.live\n"
        "import emotion_edge.runtime.bench.__main__, emotion_edge.runtime.doctor.report\n"
        "import emotion_edge.runtime.capture.microphone\n"
        "import emotion_edge.runtime.capture.opencv_camera\n"
        "import emotion_edge.runtime.capture.media_file, emotion_edge.runtime.capture.demo\n"
        "import emotion_edge.engines.onnx_runtime, emotion_edge.engines.null\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'sklearn', 'librosa', 'scipy', 'pyaudio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"emotion-edge {emotion_edge.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["config"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_of_a_short_text(arguments: list[str], unbuffered: str) -> None:
    """As after `--help | true`: nobody reads it at all. Code 0 and no message."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "emotion_edge.runtime", *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("numpy", -signal.SIGINT),  # while the program loads
        ("emotion_edge.runtime.cli.configuration", 130),  # in a command
        ("atexit", -signal.SIGINT),  # at the end
    ],
)
@pytest.mark.usefixtures("interruptible")
def test_interrupted_at_any_moment(module: str, code: int) -> None:
    """Ctrl-C as a module is loaded, or as Python ends: no traceback, and a shell sees SIGINT."""
    script = (
        "import atexit, os, signal, sys\n"
        "from emotion_edge.runtime.entry import main\n"
        "def interrupt():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            interrupt()\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"if {module!r} == 'atexit':\n"
        "    atexit.register(interrupt)\n"
        "sys.argv = ['emotion-edge', 'config']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize(
    ("options", "level"), [([], "WARNING"), (["-v"], "INFO"), (["-vv"], "DEBUG")]
)
def test_verbose(options: list[str], level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sets the level of the log."""
    levels = []
    monkeypatch.setattr(logging, "basicConfig", lambda **given: levels.append(given["level"]))
    assert main(["config", *options]) == 0
    assert levels == [level]


# Errors of the user and of the environment, in this process


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """Run, expect an exit code, and return the one line on stderr."""
    actual = main(["run", "--pace", "max", "--seconds", "1", *map(str, arguments)])
    printed = capsys.readouterr()
    assert (actual, printed.out) == (code, "")
    assert printed.err.endswith("\n")
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--set", "sauce.name=x"], "sauce"),
        (["--set", "budget_ms"], "budget_ms"),
        (["--set", "level=best"], "level is 'best'"),
        (["--set", "engines.name=fast"], "engines.name is 'fast'"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--output", "jsonn:x"], "jsonn:x"),
        (["--output", "serial:"], "'serial:'"),
        (["--output", "null", "screen:card0"], "'card0'"),
        (["--set", "profile=school"], "Article 5(1)(f)"),
        (["--set", "profile=workplace"], "Article 5(1)(f)"),
        (["--output", "jsonl:/none/out"], "/none/out"),
        (["--output", "null", "console", "x"], "'x'"),
        (["--output", "web:70000"], "65535"),
        (["--output", "web:0", "--set", "web.address=''"], "web.address is ''"),
        (["--output", "web", "--set", "web.port=-1"], "web.port is '-1'"),
        (["--output", "web", "--set", "web.max_clients=0"], "web.max_clients is '0'"),
        (["--source", "none", "--set", "source.microphone=none"], "source.microphone"),
        (["talk.mp4"], "talk.mp4"),
    ],
)
def test_usage_error_in_a_value(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], arguments: list[str], names: str
) -> None:
    """Code 2, and one line that names the value. A restart would not help."""
    options = ["--source", "demo", "--output", "null", *null_engine, *arguments]
    assert names in refuse(capsys, *options)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--source", "none.mp4"], "none.mp4"),
        (["--source", "/dev/video99"], "/dev/video99"),
        (["--source", ""], "no such file"),
        (["--source", "/dev"], "/dev"),
        (["--source", "none", "--set", "source.microphone=x"], "none"),
        (["--set", "face.yunet_file=none.onnx"], "face.yunet_file"),
    ],
)
def test_environment_errors(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], arguments: list[str], names: str
) -> None:
    """Code 4, and one line that names the file: it may exist at the next start."""
    options = ["--source", "demo", "--output", "null", *null_engine, *arguments]
    assert names in refuse(capsys, *options, code=4)


@pytest.mark.parametrize("pace", ["max", "real"])
def test_address_of_the_page_is_printed(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], pace: str
) -> None:
    """Once, and nothing else."""
    options = ["--source", "demo", "--seconds", "0.2", "--pace", pace, "--output", "web:0"]
    assert main(["run", *options, *null_engine]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"the page: http://127\.0\.0\.1:\d+/\n", printed.err)


@pytest.mark.parametrize("setting", ["web.port", "metrics.port"])
def test_port_that_is_taken(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], setting: str
) -> None:
    """Code 4, and one line that names the setting: it may be free at the next start."""
    output = "web" if setting == "web.port" else "null"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"{setting}={other.getsockname()[1]}"
        options = ["--source", "demo", "--output", output, *null_engine, "--set", taken]
        assert main(["run", "--seconds", "1", *options]) == 4
    printed = capsys.readouterr()
    assert printed.err.startswith(f"{setting} is ")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("pace", ["max", "real"])
def test_file_without_an_estimate_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, null_engine: list[str], pace: str
) -> None:
    """A recording of one millisecond: code 4, and one line that names it."""
    path = tmp_path / "short.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(bytes(32))
    options = ["run", "--source", str(path), "--pace", pace, "--output", "null", *null_engine]
    assert main(options) == 4
    printed = capsys.readouterr()
    assert "short.wav" in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("an error"), 2),
        (BundleError("an error"), 4),
        (SourceError("an error"), 4),
        (EngineError("an error"), 4),
        (PreprocessorError("an error"), 4),
        (IndicatorError("an error"), 4),
        (ListenError("an error"), 4),
    ],
)
def test_exit_code_of_each_error(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    """systemd restarts after 4 and not after 2. The message is one line."""

    def fail(_: argparse.Namespace) -> int:
        raise error

    assert run_guarded(fail, argparse.Namespace()) == code
    assert capsys.readouterr() == ("", f"{error}\n")


def test_bugs_have_a_traceback() -> None:
    """They are not caught, so Python ends with code 1."""

    def fail(_: argparse.Namespace) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_guarded(fail, argparse.Namespace())


def test_indicator_that_cannot_be_turned_on(
    capsys: pytest.CaptureFixture[str], null_engine: list[str]
) -> None:
    """Nothing is captured, and the line names the indicator."""
    options = ["--set", "indicator.kind=file", "--set", "indicator.file=/sys/class/leds/none/x"]
    code = main(["run", "--source", "demo", "--output", "null", *options, *null_engine])
    out, errors = capsys.readouterr()
    assert (code, out, len(errors.splitlines())) == (4, "", 1)
    assert "/sys/class/leds/none/x" in errors


@pytest.mark.parametrize("file", ["bundle.json", "voice.onnx"])
def test_damaged_bundle(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, null_bundle: Path, file: str
) -> None:
    """A bundle that lacks a byte does not run."""
    folder = Path(shutil.copytree(null_bundle, tmp_path / "bundle"))
    (folder / file).write_bytes((folder / file).read_bytes()[:-5])
    options = ["--source", "demo", "--output", "null", "--bundle", folder]
    assert file in refuse(capsys, *options, code=4)


def test_unknown_log_level(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOTION_EDGE_LOG", "loud")
    assert "EMOTION_EDGE_LOG is LOUD" in refuse(capsys, "--source", "demo")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["walk"],
        ["run", "--pace", "slow"],
        ["run", "--seconds", "-1"],
        ["run", "--seconds", "nan"],
        ["run", "--seconds", "soon"],
        ["run", "--color"],
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """argparse prints the usage. Code 2."""
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: emotion-edge" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["it's.mp4", "a: b.mp4", "1", "null", "[x]", "#.mp4", "~.mp4"])
def test_file_names_are_not_yaml(
    capsys: pytest.CaptureFixture[str], null_engine: list[str], name: str
) -> None:
    line = refuse(capsys, "--source", name, "--output", "null", *null_engine, code=4)
    assert f"source {name}:" in line


@pytest.mark.parametrize("option", ["--source=", "--set=source.name="])
def test_file_name_of_any_bytes(video_file: Path, null_engine: list[str], option: str) -> None:
    """A name that is not UTF-8, of two lines and of what YAML would read as a mapping."""
    name = os.fsencode(video_file.parent) + b"/-caf\xe9: new\nline #1.mp4"
    video_file.rename(os.fsdecode(name))
    options = [os.fsencode(option) + name, "--pace", "max", "--output", "jsonl:-", *null_engine]
    done = subprocess.run([*RUN, *options], capture_output=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 18


@pytest.mark.parametrize("pace", ["max", "real"])
def test_standard_input(video_file: Path, null_engine: list[str], pace: str) -> None:
    """A pipe is read forward; a file is that file, also if its index is at its end."""
    options = ["--source", "-", "--pace", pace, "--output", "jsonl:-", *null_engine]
    with video_file.open("rb") as file:
        for source in ({"stdin": file}, {"input": video_file.read_bytes()}):
            done = subprocess.run(
                [*RUN, *options], capture_output=True, timeout=TIMEOUT_S, check=False, **source
            )
            assert (done.returncode, done.stderr) == (0, b"")
            assert json.loads(done.stdout.splitlines()[-1])["index"] == 17


@pytest.mark.parametrize("kind", ["empty", "text", "closed", "terminal"])
def test_standard_input_that_cannot_be_played(null_engine: list[str], kind: str) -> None:
    """One line, and nothing hangs."""
    options = ["--source", "-", "--pace", "max", "--output", "null", *null_engine]
    command = [*RUN, *options]
    main_end, terminal = pty.openpty()
    try:
        source: dict[str, Any] = {"input": b"no film" * 100 if kind == "text" else b""}
        if kind == "terminal":
            source = {"stdin": terminal}
        if kind == "closed":
            source, command = {}, ["sh", "-c", 'exec "$@" <&-', "sh", *command]
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, check=False, **source
        )
    finally:
        os.close(main_end)
        os.close(terminal)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1


def test_settings_in_a_file(
    tmp_path: Path, null_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration file is enough. Options override it."""
    out, config = tmp_path / "out.jsonl", tmp_path / "config.yaml"
    config.write_text(
        f"source: {{name: none.mp4}}\nengines: {{name: null}}\nbundle: {null_bundle}\n"
        f"level: low\noutput: {{sinks: ['jsonl:{out}']}}\n"
    )
    options = ["--config", str(config), "--source", "demo", "--pace", "max", "--seconds", "0.1"]
    assert main(["run", *options]) == 0
    levels = [json.loads(line)["level"] for line in out.read_text().splitlines()]
    assert levels == ["low"] * 3
    assert capsys.readouterr() == ("", "")

"""`emotion-edge build`, as a user types it. TensorRT and the GPU are stand-ins."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.engines.tensorrt import builder as build_module
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.cli import build as build_command
from emotion_edge.runtime.session import report_build_progress

from ...engines.fake_cuda import FakeGpu
from ...engines.fake_tensorrt import use_fake_tensorrt

TIMEOUT_S = 500


class PrivilegesDropped(Exception):
    """The test has seen enough."""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return use_fake_tensorrt(monkeypatch, tmp_path / "cache")


def build(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = main(["build", *arguments])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_builds_what_ships(
    gpu: FakeGpu, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line for each network: precision, sizes, time, file. Each is proven."""
    code, lines, errors = build(capsys)
    assert (code, errors) == (0, "")
    assert [line.split()[:2] for line in lines] == [["face", "fp16"], ["voice", "fp16"]]
    sizes = {level.face_px for level in load_bundle(DEFAULT_BUNDLE).manifest.levels}
    assert ", ".join(f"1x3x{px}x{px}" for px in sorted(sizes, reverse=True)) in lines[0]
    assert "1x64x300" in lines[1]
    for line in lines:
        assert "built in " in line
        assert Path(line.split()[-1]).parent == tmp_path / "cache"
        assert Path(line.split()[-1]).is_file()
    assert "cuGraphLaunch" in gpu.calls  # the golden input went through


def test_nothing_to_do(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 0 and "up to date"; --force builds all the same."""
    build(capsys)
    code, lines, _ = build(capsys)
    assert (code, lines[-1], gpu.num_builds) == (0, "up to date", 2)
    assert all("up to date" in line for line in lines)
    code, lines, _ = build(capsys, "--force")
    assert (code, gpu.num_builds) == (0, 4)
    assert not any("up to date" in line for line in lines)


def test_precision_and_levels(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    """As asked for."""
    best = load_bundle(DEFAULT_BUNDLE).manifest.levels[0]
    code, lines, _ = build(capsys, "--fp32", "--level", best.name)
    assert code == 0
    assert [line.split()[:3] for line in lines] == [
        ["face", "fp32", f"1x3x{best.face_px}x{best.face_px}"],
        ["voice", "fp32", "1x64x300"],
    ]


def test_what_the_levels_want(
    gpu: FakeGpu, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A bundle with a level at 8 bits: a run would need those engines too."""
    folder = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    manifest = folder / "bundle.json"
    fields = json.loads(manifest.read_text())
    fields["levels"][-1]["precision"] = "int8"
    manifest.write_text(json.dumps(fields))
    code, lines, _ = build(capsys, "--bundle", str(folder))
    assert code == 0
    found = [tuple(line.split()[:2]) for line in lines]
    assert found == [(n, p) for p in ("fp16", "int8") for n in ("face", "voice")]
    code, lines, _ = build(capsys, "--bundle", str(folder), "--level", fields["levels"][0]["name"])
    assert [line.split()[1] for line in lines[:2]] == ["fp16", "fp16"]


def test_folder_that_cannot_be_written(
    gpu: FakeGpu,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Built, not stored, and said so."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "file" / "cache"))
    code, lines, _ = build(capsys)
    assert code == 0
    assert all(line.endswith("not stored") for line in lines)


def test_build_extends_the_start_timeout(
    gpu: FakeGpu,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A unit that builds for minutes is not killed for being slow to start."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert build(capsys)[0] == 0
        first = systemd.recv(4096).decode()
    assert first == "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=building face fp16"


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["--bundle", "nowhere"], "nowhere: no such bundle folder", 4),
        (["--level", "best"], "--level 'best': allowed: high", 2),
        (["--dla", "0"], "DLA core 0", 4),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_user_errors(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str, code: int
) -> None:
    """One line; code 2 for a wrong argument, 4 for what is not there."""
    left, lines, errors = build(capsys, *arguments)
    assert (left, lines, len(errors.splitlines())) == (code, [], 1)
    assert says in errors


def test_wrong_golden_output(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine that answers wrongly is found out now, not at the next start."""
    gpu.is_off_by = 1.0
    code, _, errors = build(capsys)
    assert (code, len(errors.splitlines())) == (4, 1)
    assert "golden_logits" in errors


@pytest.fixture
def handlers() -> Iterator[None]:
    """`run` takes the signals over; they are given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_is_stopped_while_it_builds(
    gpu: FakeGpu,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    """Ctrl-C and systemd's stop end a first start too, with code 0: it does not build for minutes
    first."""
    is_over = threading.Event()

    def work() -> None:
        os.kill(os.getpid(), number)
        assert is_over.wait(TIMEOUT_S)

    gpu.on_build = work
    monkeypatch.setattr(build_module, "REPORT_EVERY_S", 0.01)
    monkeypatch.setattr(build_module, "CANCEL_WAIT_S", 0.01)
    options = ["--source", "demo", "--output", "null", "--set", "engines.name=tensorrt"]
    code = main(["run", *options])
    is_over.set()
    assert (code, capsys.readouterr()) == (0, ("", ""))
    for thread in threading.enumerate():
        if thread.name == "tensorrt-build":
            thread.join(TIMEOUT_S)
    assert "the build was cancelled" in gpu.calls


def test_as_the_owner_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is read of a bundle or written: what root makes the service cannot use."""
    folders: list[Path] = []

    def drop_privileges_to(folder: Path) -> None:
        folders.append(folder)
        raise PrivilegesDropped

    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "service" / "engines"))
    monkeypatch.setattr(build_command, "drop_privileges_to", drop_privileges_to)
    with pytest.raises(PrivilegesDropped):
        main(["build", "--bundle", "/none"])
    assert folders == [tmp_path / "service"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """Whoever looks on sees that it builds; a log is not filled with it."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    report_build_progress("building face fp16")
    assert capsys.readouterr() == ("", "building face fp16\n" if is_terminal else "")


def test_without_tensorrt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why not, and that nothing is lost."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, lines, errors = build(capsys)
    assert (code, lines, len(errors.splitlines())) == (4, [], 1)
    assert errors.startswith("TensorRT is ")
    assert errors.endswith("; ONNX Runtime needs no build\n")


def test_help_in_a_process_of_its_own() -> None:
    """What it takes."""
    done = subprocess.run(
        [sys.executable, "-m", "emotion_edge.runtime", "build", "--help"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    for option in ("--bundle", "--fp16", "--int8", "--fp32", "--level", "--dla", "--force"):
        assert option in done.stdout

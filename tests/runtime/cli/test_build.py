"""`emotion-edge build` on the command line, with stand-ins for TensorRT and the GPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, load_bundle
from emotion_edge.engines.tensorrt import builder as build_module
from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.session import report_build_progress

from ...engines.fake_cuda import FakeGpu
from ...engines.fake_tensorrt import use_fake_tensorrt

TIMEOUT_S = 500


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return use_fake_tensorrt(monkeypatch, tmp_path / "cache")


def build(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    code = main(["build", *arguments])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_shipped_bundle(gpu: FakeGpu, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line for each network has precision, sizes, time and file. Each network is verified."""
    code, lines, errors = build(capsys)
    assert (code, errors) == (0, "")
    assert [line.split()[:2] for line in lines] == [["face", "fp16"], ["voice", "fp16"]]
    sizes = {level.face_px for level in load_bundle(DEFAULT_BUNDLE).manifest.levels}
    assert ", ".join(f"4x3x{px}x{px}" for px in sorted(sizes, reverse=True)) in lines[0]
    assert "1x64x300" in lines[1]
    for line in lines:
        assert "built in " in line
        assert Path(line.split()[-1]).parent == tmp_path / "cache"
        assert Path(line.split()[-1]).is_file()
    assert "cuGraphLaunch" in gpu.calls  # the golden input went through


def test_nothing_to_do(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine that is up to date is not built again without --force."""
    build(capsys)
    code, lines, _ = build(capsys)
    assert (code, lines[-1], gpu.num_builds) == (0, "up to date", 2)
    assert all("up to date" in line for line in lines)
    code, lines, _ = build(capsys, "--force")
    assert (code, gpu.num_builds) == (0, 4)
    assert not any("up to date" in line for line in lines)


def test_precision_and_levels(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    best = load_bundle(DEFAULT_BUNDLE).manifest.levels[0]
    code, lines, _ = build(capsys, "--fp32", "--level", best.name)
    assert code == 0
    assert [line.split()[:3] for line in lines] == [
        ["face", "fp32", f"{best.faces}x3x{best.face_px}x{best.face_px}"],
        ["voice", "fp32", "1x64x300"],
    ]


def test_precisions_of_the_levels(
    gpu: FakeGpu, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A level at INT8 has engines too."""
    folder = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle")
    manifest = folder / "bundle.json"
    fields = json.loads(manifest.read_text())
    fields["levels"][-1]["precision"] = "int8"
    manifest.write_text(json.dumps(fields))
    code, lines, _ = build(capsys, "--bundle", str(folder))
    assert code == 0
    built = [tuple(line.split()[:2]) for line in lines]
    assert built == [(n, p) for p in ("fp16", "int8") for n in ("face", "voice")]
    code, lines, _ = build(capsys, "--bundle", str(folder), "--level", fields["levels"][0]["name"])
    assert [line.split()[1] for line in lines[:2]] == ["fp16", "fp16"]


def test_folder_that_cannot_be_written(
    gpu: FakeGpu,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Engines are built and not stored."""
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
    """systemd does not kill a unit that builds for minutes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert build(capsys)[0] == 0
        first = systemd.recv(4096).decode()
    assert first.startswith("EXTEND_TIMEOUT_USEC=60000000\n")


@pytest.mark.parametrize(
    ("arguments", "names", "code"),
    [
        (["--bundle", "nowhere"], "nowhere", 4),
        (["--level", "best"], "--level 'best'", 2),
        (["--dla", "0"], "DLA core 0", 4),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_user_errors(
    capsys: pytest.CaptureFixture[str], arguments: list[str], names: str, code: int
) -> None:
    """One line names the value: code 2 for a wrong argument, 4 for a missing part."""
    left, lines, errors = build(capsys, *arguments)
    assert (left, lines, len(errors.splitlines())) == (code, [], 1)
    assert names in errors


def test_wrong_golden_output(gpu: FakeGpu, capsys: pytest.CaptureFixture[str]) -> None:
    """An engine with wrong outputs fails the command, not the next start."""
    gpu.is_off_by = 1.0
    code, _, errors = build(capsys)
    assert (code, len(errors.splitlines()), "golden" in errors) == (4, 1, True)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the signal handlers that `run` replaces."""
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
    """Ctrl-C and systemd's stop end a first start at once, with code 0."""
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


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """A terminal has the progress, a log does not."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    report_build_progress("face fp16")
    assert capsys.readouterr() == ("", "face fp16\n" if is_terminal else "")


def test_without_tensorrt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, lines, errors = build(capsys)
    assert (code, lines, len(errors.splitlines())) == (4, [], 1)
    assert "TensorRT" in errors


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every option."""
    with pytest.raises(SystemExit) as ended:
        main(["build", "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    for option in ("--bundle", "--fp16", "--int8", "--fp32", "--level", "--dla", "--force"):
        assert option in printed

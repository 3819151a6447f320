"""Builds: progress, interruption, a killed process, and two at once.

TensorRT is a fake; the processes, signals and files are real.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.engines.tensorrt import builder as build

from ..building import Builder
from ..fake_cuda import FakeGpu

TIMEOUT_S = 500


def test_progress_is_reported(
    builder: Builder,
    gpu: FakeGpu,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The outermost phase and its step are reported during the build."""
    monkeypatch.setattr(build, "REPORT_EVERY_S", 0.001)
    reports = threading.Event()

    def report(text: str) -> None:
        builder.reports.append(text)
        if "step" in text:
            reports.set()

    def wait() -> None:
        assert reports.wait(TIMEOUT_S)

    gpu.on_build = wait
    builder.report = report
    with caplog.at_level(logging.INFO, "emotion_edge"):
        builder.prepare()
    assert "face fp16" in builder.reports[0]
    assert any("Building Engine, step 2 of 4" in text for text in builder.reports)
    assert ["face fp16" in message for message in caplog.messages] == [True, True]


def test_interrupted_build_stops(
    builder: Builder, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C stops the builder at its next step; nothing is stored, and the lock is free."""
    is_building, is_cancelled = threading.Event(), threading.Event()

    class Progress:
        text = ""

        @property
        def is_cancelled(self) -> bool:
            return is_cancelled.is_set()

        @is_cancelled.setter
        def is_cancelled(self, cancelled: bool) -> None:
            is_cancelled.set()

    def work() -> None:
        is_building.set()
        assert is_cancelled.wait(TIMEOUT_S)

    def interrupt(text: str) -> None:
        if is_building.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(build, "REPORT_EVERY_S", 0.001)
    monkeypatch.setattr(build, "Progress", Progress)
    gpu.on_build, builder.report = work, interrupt
    with pytest.raises(KeyboardInterrupt):
        builder.prepare()
    assert gpu.calls[-1] == "the build was cancelled"
    assert not [thread for thread in threading.enumerate() if "tensorrt" in thread.name]
    assert not list(builder.cache.folder.glob("*.engine*"))
    monkeypatch.undo()
    gpu.on_build = lambda: None
    with builder.cache.lock(builder.reports.append, wait_s=0):
        pass


CHILD = """
import os, stat, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.engines.fake_tensorrt import install_permanently
gpu = install_permanently()
def stop():
    print("stopped", flush=True)
    time.sleep(600)
if sys.argv[3] == "building":
    gpu.on_build = stop
elif sys.argv[3] == "writing":
    os.fsync = lambda handle: stat.S_ISREG(os.fstat(handle).st_mode) and stop()
from emotion_edge.engines import open_engine
from emotion_edge.engines.bundles.manifest import load_bundle
bundle = load_bundle(Path(sys.argv[2]))
with open_engine("tensorrt", bundle, "face", report=lambda text: print(text, flush=True)):
    print(gpu.num_builds, "built", flush=True)
"""


def start_child(bundle: Bundle, where: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, root, str(bundle.path), where],
        stdout=subprocess.PIPE,
        bufsize=0,  # or `select` would not see what Python has read ahead
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], TIMEOUT_S)[0], "no output of the child"
    return process.stdout.readline().decode().strip()


@pytest.mark.parametrize("where", ["building", "writing"])
def test_killed_build_is_repeated(builder: Builder, where: str) -> None:
    """No incomplete engine is found, and the lock of a dead process is free."""
    with start_child(builder.bundle, where) as process:
        assert read_line(process) == "building face fp16"
        assert read_line(process) == "stopped"
        process.send_signal(signal.SIGKILL)
    assert not list(builder.cache.folder.glob("*.engine"))
    assert builder.prepare().seconds > 0
    assert builder.reports[0] == "building face fp16"
    assert not list(builder.cache.folder.glob("*.part"))
    assert builder.prepare().seconds == 0


def test_two_builders_at_once(builder: Builder, gpu: FakeGpu) -> None:
    """The second waits for the first and loads its engine."""
    children: list[subprocess.Popen[bytes]] = []
    waiting = "waiting for another process that builds an engine"

    def start_another() -> None:
        children.append(start_child(builder.bundle, "nowhere"))
        assert read_line(children[0]) == waiting

    gpu.on_build = start_another
    assert builder.prepare().seconds > 0
    with children[0] as process:
        while (line := read_line(process)) == waiting:
            pass
        assert line == "0 built"
        assert process.wait(TIMEOUT_S) == 0

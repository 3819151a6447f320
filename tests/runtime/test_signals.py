"""Signals: what ends a run, at any moment, and what does not."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import Mock

import pytest

from emotion_edge.engines import bounded_run
from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, MANIFEST
from emotion_edge.runtime.__main__ import handle_signals
from emotion_edge.runtime.config import Config, Realtime, Source
from emotion_edge.runtime.live import LiveRun, StoppedDuringStart

from ..engines.hostile_networks import VOICE_INPUTS, make_endless

TIMEOUT_S = 500
TRACED = ("live.py", "threading.py", "buffers.py")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The process of the tests keeps its own."""
    before = {
        number: signal.getsignal(number) for number in (*ENDING, signal.SIGUSR1, signal.SIGALRM)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_what_ends_a_run(number: signal.Signals) -> None:
    """A closed terminal too: else the light stays on and nothing is wiped."""
    signal.signal(number, signal.SIG_DFL)
    live = Mock()
    handle_signals(live)
    signal.raise_signal(number)
    live.stop.assert_called_once_with()


def test_run_that_shall_outlive_its_terminal() -> None:
    """As nohup asks for."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    live = Mock()
    handle_signals(live)
    signal.raise_signal(signal.SIGHUP)
    live.stop.assert_not_called()


def stop_with_signals_at(live: LiveRun, at: int) -> bool:
    """Stop, with two signals at the instruction `at` of it; False where it has fewer."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        if count == at and event == "opcode":
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        live.stop()
    finally:
        sys.settrace(before)
    return count >= at


def test_signals_at_once() -> None:
    """More of them at any instruction of `stop` neither wait for themselves nor get lost."""

    def give_up(*_: object) -> None:
        raise TimeoutError("a deadlock")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    num_instructions, reached = 0, True
    while reached:
        live = LiveRun(Config(), ())
        handle_signals(live)
        reached = stop_with_signals_at(live, num_instructions + 1)
        assert live._stop.is_set()
        assert live._frames.ended
        num_instructions += reached
    signal.alarm(0)
    assert num_instructions > 10


def test_stopped_while_a_network_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in order, without waiting for the limit."""
    folder = shutil.copytree(DEFAULT_BUNDLE, tmp_path / "endless")
    data = make_endless(VOICE_INPUTS, {"embedding": ["batch", 256], "logits": ["batch", 7]})
    (folder / "voice.onnx").write_bytes(data)
    fields = json.loads((folder / MANIFEST).read_text())
    fields["files"]["voice.onnx"] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    (folder / MANIFEST).write_text(json.dumps(fields))
    config = Config(
        bundle=str(folder), source=Source(name="demo"), realtime=Realtime(priority=False)
    )
    live = LiveRun(config, ())
    handle_signals(live)
    monkeypatch.setattr(bounded_run, "LIMIT_S", 500.0)
    main, begun = threading.get_ident(), threading.Event()
    real = bounded_run._wait

    def wait(title: str, done: threading.Event) -> None:
        if title == "voice.onnx":
            begun.set()
        real(title, done)

    def send() -> None:
        begun.wait(TIMEOUT_S)
        signal.pthread_kill(main, signal.SIGTERM)

    monkeypatch.setattr(bounded_run, "_wait", wait)
    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(StoppedDuringStart):
        live.run()
    thread.join()


TRACE_WHILE_LOADING = """
import os, signal, sys
from emotion_edge.runtime.entry import main
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGUSR1)
sys.meta_path.insert(0, Finder())
sys.argv = ["emotion-edge", "config"]
sys.exit(main())
"""


def test_trace_asked_for_too_early() -> None:
    """A run that is still loading has none, and goes on."""
    done = subprocess.run(
        [sys.executable, "-c", TRACE_WHILE_LOADING],
        stdout=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0

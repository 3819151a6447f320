"""Networks that never end, or ask for all memory, end in an EngineError."""

from __future__ import annotations

import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.engines import bounded_run
from emotion_edge.engines.base import MAX_ROW_NUMBERS, EngineError
from emotion_edge.engines.bounded_run import run_bounded
from emotion_edge.engines.bundles.schema import FaceDetectorEntry
from emotion_edge.engines.detection_network import open_detection_network
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.engines.voice_activity import VoiceActivityDetector

from .hostile_networks import (
    IMAGE_INPUTS,
    LUMA_INPUTS,
    MEL_INPUTS,
    make_endless,
    make_greedy,
)

LOGITS: dict[str, list[int | str]] = {"logits": ["batch", 7]}
PLACES: dict[str, list[int | str]] = {"scores": [9], "boxes": [9, 3], "landmarks": [9, 10]}
FACE = {"image": np.zeros((1, 3, 32, 32), np.float32)}
NAME = Path("network")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_run, "LIMIT_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_endless_network() -> None:
    """Its first run is cancelled, of whichever kind it is."""
    engine = OnnxEngine(NAME, 1, model=make_endless(IMAGE_INPUTS, LOGITS))
    with pytest.raises(EngineError, match=NAME.name):
        engine.warm_up(FACE)
    heard = VoiceActivityDetector(NAME, make_endless(MEL_INPUTS, {"speech": [1]}))
    with pytest.raises(EngineError, match=NAME.name):
        heard.warm_up(np.zeros((1, 64, 64), np.float32))
    entry = FaceDetectorEntry(NAME.name, 0.5, [0.0] * 8)
    with pytest.raises(EngineError, match=NAME.name):
        open_detection_network(Path(), entry, make_endless(LUMA_INPUTS, PLACES))


def test_network_that_asks_for_all_memory() -> None:
    """Its allocation fails, before the system has none left; the limit is gone afterwards."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    engine = OnnxEngine(NAME, 1, model=make_greedy(IMAGE_INPUTS, LOGITS, 1 << 34))
    with pytest.raises(EngineError, match=NAME.name):
        engine.warm_up(FACE)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_output_too_large_for_a_buffer() -> None:
    """Refused by its declared size, when the network is opened."""
    for shape in ([1, 2**40], ["batch", 2**20, 2**20], ["batch", MAX_ROW_NUMBERS + 1]):
        with pytest.raises(EngineError, match=r"logits is \["):
            OnnxEngine(NAME, 1, model=make_greedy(IMAGE_INPUTS, {"logits": shape}, 1))


def test_signal_cancels_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handler raises does not wait for the work."""
    monkeypatch.setattr(bounded_run, "LIMIT_S", 500.0)
    cancelled = threading.Event()
    main = threading.get_ident()

    def work() -> None:
        signal.pthread_kill(main, signal.SIGUSR1)
        assert cancelled.wait(500)

    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_bounded("x", work, cancelled.set)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert cancelled.is_set()


def test_result_and_errors_of_the_work() -> None:
    """They are those of the call."""
    assert run_bounded("x", lambda: 3, lambda: None) == 3
    with pytest.raises(ZeroDivisionError):
        run_bounded("x", lambda: 1 // 0, lambda: None)

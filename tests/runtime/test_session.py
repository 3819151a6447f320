"""What a run is opened with on a machine with a GPU. TensorRT and the GPU are stand-ins."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import emotion_edge.engines
import emotion_edge.kernels
from emotion_edge.engines.base import EngineError, GpuHangsError
from emotion_edge.runtime import session
from emotion_edge.runtime.clock import MonotonicClock
from emotion_edge.runtime.config import load_config
from emotion_edge.runtime.messages import SourceError, Window
from emotion_edge.runtime.session import open_runtime

from ..engines.fake_cuda import FakeGpu
from ..engines.fake_tensorrt import use_fake_tensorrt


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """A GPU that shows; the kernels see none, so the CPU prepares the input."""
    monkeypatch.setattr(emotion_edge.engines, "has_gpu", lambda: True)
    monkeypatch.setattr(emotion_edge.kernels, "has_gpu", lambda: False)
    return use_fake_tensorrt(monkeypatch, tmp_path / "cache")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_taken() -> None:
    """Both networks on TensorRT, the fusion network on the CPU."""
    with open_runtime(load_config(None), MonotonicClock()) as runtime:
        assert dict(runtime.engines) == {
            "face": "tensorrt fp16",
            "voice": "tensorrt fp16",
            "fusion": "onnx fp32",
        }


def test_auto_does_without_an_engine_that_answers_wrongly(
    gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """A slower run that is right; the log says why."""
    gpu.is_off_by = 1.0
    with (
        caplog.at_level(logging.WARNING, "emotion_edge"),
        open_runtime(load_config(None), MonotonicClock()) as runtime,
    ):
        assert set(runtime.engines.values()) == {"onnx fp32"}
        assert not runtime.on_gpu
    assert "ONNX Runtime instead of TensorRT" in caplog.text
    assert "golden_logits" in caplog.text


def test_tensorrt_by_name_must_answer_rightly(gpu: FakeGpu) -> None:
    """Nothing else is run for who asked for it."""
    gpu.is_off_by = 1.0
    config = load_config(None, ["engines.name=tensorrt"])
    with (
        pytest.raises(EngineError, match="golden_logits"),
        open_runtime(config, MonotonicClock()),
    ):
        pass


def test_gpu_that_hangs_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, with the reason: to close anything would hang too."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    def hang(*_: object) -> None:
        raise GpuHangsError("face fp16: the GPU has not answered for 5 s")

    monkeypatch.setattr(session.os, "_exit", leave)
    config = load_config(None, ["engines.name=null"])
    window = Window(0, None, None, None, None, 0, 0)
    with open_runtime(config, MonotonicClock()) as runtime:
        monkeypatch.setattr(runtime.pipeline, "estimate", hang)
        with pytest.raises(SystemExit) as left:
            runtime.process(window, 0, 0, [])
    assert left.value.code == session.EXIT_GPU_HANGS
    assert capsys.readouterr().err == "face fp16: the GPU has not answered for 5 s\n"


@pytest.mark.parametrize(
    ("controlled", "socket", "counted"),
    [(True, "/run/systemd/notify", True), (True, "", False), (False, "/run/systemd/notify", False)],
)
def test_only_starts_of_the_service_are_counted(
    monkeypatch: pytest.MonkeyPatch, controlled: bool, socket: str, counted: bool
) -> None:
    """A run by hand or a benchmark, which ends by Ctrl-C, says nothing about a bundle on trial."""
    monkeypatch.setenv("NOTIFY_SOCKET", socket)
    asked: list[bool] = []

    def choose(*_: object, starting: bool) -> None:
        asked.append(starting)
        raise EngineError("far enough")

    monkeypatch.setattr(session, "choose_bundle", choose)
    with (
        pytest.raises(EngineError, match="far enough"),
        open_runtime(load_config(None), MonotonicClock(), controlled=controlled),
    ):
        pass
    assert asked == [counted]


def test_what_is_not_the_bundles_fails_before_it_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A face finder that cannot be had is not held against it."""
    monkeypatch.setattr(session, "choose_bundle", lambda *_, **__: pytest.fail("was chosen"))
    config = load_config(None, [f"face.yunet_file='{tmp_path / 'none.onnx'}'"])
    with pytest.raises(SourceError, match=r"none\.onnx"):
        open_runtime(config, MonotonicClock()).__enter__()

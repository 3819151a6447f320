"""Which engine a name and a precision stand for, and what is said where there is none."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import emotion_edge.engines
from emotion_edge.engines import open_engine
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.engines.golden import check_golden_output
from emotion_edge.engines.onnx_runtime import OnnxEngine

from .fake_cuda import FakeGpu


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system shows an NVIDIA GPU."""
    monkeypatch.setattr(emotion_edge.engines, "has_gpu", lambda: True)
    emotion_edge.engines._warn_of_fall_back.cache_clear()


def test_names_are_checked(bundle: Bundle) -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match="engine 'tpu' is not one of auto, tensorrt, onnx, null"):
        open_engine("tpu", bundle, "face")
    with pytest.raises(ValueError, match="precision 'fp8' is not one of auto, fp32, fp16, int8"):
        open_engine("onnx", bundle, "face", precision="fp8")


def test_auto_without_a_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime, never null, and nothing to say about it."""
    monkeypatch.setattr(emotion_edge.engines, "has_gpu", lambda: False)
    with open_engine("auto", bundle, "face", 1) as engine:
        assert (engine.name, engine.precision) == ("onnx", "fp32")
    assert caplog.text == ""


@pytest.mark.usefixtures("visible", "gpu")
def test_auto_with_a_gpu(fused: Bundle) -> None:
    """TensorRT in 16 bits; the fusion network stays on the CPU."""
    for network, name in (("face", "tensorrt"), ("voice", "tensorrt"), ("fusion", "onnx")):
        with open_engine("auto", fused, network, 1) as engine:
            assert engine.name == name
            check_golden_output(engine, fused, network)


@pytest.mark.usefixtures("visible")
def test_auto_falls_back_and_says_why_once(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for both networks where the reason is the same."""
    gpu.driver_version = 11040
    for network in ("face", "voice"):
        with open_engine("auto", bundle, network, 1) as engine:
            assert (engine.name, engine.precision) == ("onnx", "fp32")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "ONNX Runtime instead of TensorRT: the NVIDIA driver is too old" in caplog.text


@pytest.mark.usefixtures("visible")
def test_explicit_tensorrt_must_work(bundle: Bundle, gpu: FakeGpu) -> None:
    """No fall-back for who asked for it by name."""
    gpu.driver_version = 11040
    with pytest.raises(EngineError, match="the NVIDIA driver is too old: it is for CUDA 11"):
        open_engine("tensorrt", bundle, "face")


@pytest.mark.parametrize("name", ["onnx", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.usefixtures("gpu")
def test_each_precision(quantized: Bundle, name: str, precision: str) -> None:
    """Opened from its own file, and it answers as that does."""
    answers = []
    image = np.linspace(-3, 3, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
    with open_engine(name, quantized, "face", 1, precision) as engine:
        assert engine.precision == precision
        check_golden_output(engine, quantized, "face")
        answers.append(engine.infer({"image": image})["logits"].copy())
    for file in ("face.onnx", "face.int8.onnx"):
        with OnnxEngine(quantized.path / file, 1) as engine:
            answers.append(engine.infer({"image": image})["logits"])
    apart = [float(np.abs(answers[0] - other).max()) for other in answers[1:]]
    assert apart.index(min(apart)) == (precision == "int8")
    assert max(apart) > 100 * min(apart)


@pytest.mark.parametrize("name", ["auto", "onnx", "tensorrt"])
@pytest.mark.usefixtures("gpu", "visible")
def test_int8_that_the_bundle_lacks(bundle: Bundle, name: str) -> None:
    """Named with what there is; "auto" does not run another precision instead."""
    with pytest.raises(EngineError, match=r"no face network of precision int8.* fp32 and fp16"):
        open_engine(name, bundle, "face", precision="int8")


def test_fp16_of_an_invalid_network(bundle: Bundle) -> None:
    """The file is named."""
    Path(bundle.model_path("face")).write_bytes(b"no network")
    with pytest.raises(EngineError, match=r"face\.onnx: not an ONNX network"):
        open_engine("onnx", bundle, "face", precision="fp16")

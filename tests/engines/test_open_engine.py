"""Selection of an engine by name and precision, and the errors."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emotion_edge.engines
from emotion_edge.engines import open_engine
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles import DEFAULT_BUNDLE, Bundle, BundleError, load_bundle
from emotion_edge.engines.face_detector import open_detector
from emotion_edge.engines.golden import check_golden_output
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.engines.speech_tracker import open_speech_tracker
from emotion_edge.engines.tensorrt.plan import BuildOptions, plan_engine

from .conftest import replace_network
from .fake_cuda import FakeGpu


@pytest.fixture
def visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system shows an NVIDIA GPU."""
    monkeypatch.setattr(emotion_edge.engines, "has_gpu", lambda: True)
    emotion_edge.engines._warn_of_fallback.cache_clear()


def test_names_are_checked(bundle: Bundle) -> None:
    """The message has the value and the allowed ones."""
    with pytest.raises(ValueError, match=r"engine 'tpu' .*auto, tensorrt, onnx, null"):
        open_engine("tpu", bundle, "face")
    with pytest.raises(ValueError, match=r"precision 'fp8' .*auto, fp32, fp16, int8"):
        open_engine("onnx", bundle, "face", precision="fp8")


def test_auto_without_a_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime, without a warning."""
    monkeypatch.setattr(emotion_edge.engines, "has_gpu", lambda: False)
    with open_engine("auto", bundle, "face", 1) as engine:
        assert (engine.name, engine.precision) == ("onnx", "fp32")
    assert caplog.text == ""


@pytest.mark.usefixtures("visible", "gpu")
def test_auto_with_a_gpu(fused: Bundle) -> None:
    """TensorRT; the fusion network stays on the CPU."""
    for network, name in (("face", "tensorrt"), ("voice", "tensorrt"), ("fusion", "onnx")):
        with open_engine("auto", fused, network, 1) as engine:
            assert engine.name == name
            check_golden_output(engine, fused, network)


@pytest.mark.usefixtures("visible")
def test_auto_falls_back_with_one_warning(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """Both networks have the same reason, which is logged once."""
    gpu.driver_version = 11040
    for network in ("face", "voice"):
        with open_engine("auto", bundle, network, 1) as engine:
            assert (engine.name, engine.precision) == ("onnx", "fp32")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "driver" in caplog.text


@pytest.mark.usefixtures("visible")
def test_explicit_tensorrt_must_work(bundle: Bundle, gpu: FakeGpu) -> None:
    """An engine named explicitly has no fallback."""
    gpu.driver_version = 11040
    with pytest.raises(EngineError, match=r"driver .*CUDA 11"):
        open_engine("tensorrt", bundle, "face")


@pytest.mark.parametrize("name", ["onnx", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.usefixtures("gpu")
def test_each_precision(quantized: Bundle, name: str, precision: str) -> None:
    """Each precision runs its own file, with that network's outputs."""
    outputs = []
    image = np.linspace(-3, 3, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
    with open_engine(name, quantized, "face", 1, precision) as engine:
        assert engine.precision == precision
        check_golden_output(engine, quantized, "face")
        outputs.append(engine.infer({"image": image})["logits"].copy())
    for file in ("face.onnx", "face.int8.onnx"):
        with OnnxEngine(quantized.path / file, 1) as engine:
            outputs.append(engine.infer({"image": image})["logits"])
    differences = [float(np.abs(outputs[0] - other).max()) for other in outputs[1:]]
    assert differences.index(min(differences)) == (precision == "int8")
    assert max(differences) > 100 * min(differences)


@pytest.mark.parametrize("name", ["auto", "onnx", "tensorrt"])
@pytest.mark.usefixtures("gpu", "visible")
def test_int8_that_the_bundle_lacks(bundle: Bundle, name: str) -> None:
    """No engine runs another precision instead."""
    with pytest.raises(EngineError, match=r"face .*int8"):
        open_engine(name, bundle, "face", precision="int8")


def test_fp16_of_an_invalid_network(bundle: Bundle) -> None:
    """The error has the file."""
    bundle = replace_network(bundle, "face", b"no network")
    with pytest.raises(EngineError, match=r"face\.onnx"):
        open_engine("onnx", bundle, "face", precision="fp16")


def test_what_was_verified_is_what_runs(tmp_path: Path) -> None:
    """A file that is replaced after the bundle was loaded is refused, by each part that reads
    one."""
    shutil.copytree(DEFAULT_BUNDLE, tmp_path / "b")
    bundle = load_bundle(tmp_path / "b")
    options = BuildOptions()
    readers: dict[str, Callable[[], object]] = {
        "face.onnx": lambda: open_engine("onnx", bundle, "face"),
        "voice.onnx": lambda: open_engine("onnx", bundle, "voice", precision="fp16"),
        "face_int8.onnx": lambda: plan_engine(bundle, "face", "int8", options),
        "fusion.onnx": lambda: open_engine("onnx", bundle, "fusion"),
        "face_detector.onnx": lambda: open_detector("", bundle),
        "voice_activity.onnx": lambda: open_speech_tracker(bundle),
    }
    named = {name for name in bundle.manifest.files if name.endswith(".onnx")}
    assert named - readers.keys() == {"voice_int8.onnx"}  # as face_int8.onnx
    for name, read in readers.items():
        file = bundle.path / name
        other = file.with_name("other")
        other.write_bytes(file.read_bytes() + b"\x00")
        other.replace(file)
        with pytest.raises(BundleError, match=name):
            read()

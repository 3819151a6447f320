"""Runs of an engine: copies, waits, graph captures, and the calls of a frame.

TensorRT and CUDA are fakes that run the network on the addresses that they are given.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.base import EngineError, GpuHangsError
from emotion_edge.engines.bundles.manifest import Bundle
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.engines.tensorrt import engine as tensorrt_engine
from emotion_edge.engines.tensorrt.engine import TensorRTEngine, open_tensorrt
from emotion_edge.engines.tensorrt.execution import MAX_GRAPHS
from emotion_edge.engines.tensorrt.plan import BuildOptions
from emotion_edge.kernels.memory import DeviceArray

from ..fake_cuda import FakeGpu

PER_FRAME = {"cuGraphLaunch": 1, "cuEventRecord": 1, "cuEventQuery": 2}
CAPTURE = [
    "cuStreamBeginCapture_v2",
    "execute_async_v3 in a capture",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphDestroy",
    "cuGraphLaunch",
]
FOREIGN_STREAM = 0x77
Feed = dict[str, Any]


def make_image(seed: int = 0, size: int = 64) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1, 3, size, size)).astype(np.float32)


def make_voice(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    mel = rng.standard_normal((1, 64, 300)).astype(np.float32)
    return {"mel": mel, "mask": (mel[:, 0] > 0).astype(np.float32)}


class OnDevice:
    """A preprocessor's buffer in GPU memory, filled on another stream."""

    def __init__(self, gpu: FakeGpu, shape: tuple[int, ...], stream: int = FOREIGN_STREAM) -> None:
        self._gpu, self._shape, self._stream = gpu, shape, stream
        self._buffer = gpu.allocate(4 * int(np.prod(shape)))

    def write(self, values: NDArray[np.float32]) -> DeviceArray:
        """Enqueue a write, which takes effect when the stream reaches it."""
        address = next(key for key, each in self._gpu.memory.items() if each is self._buffer)
        target, copy = self._gpu.see(address, self._shape), values.copy()
        self._gpu.enqueue(self._stream, lambda: np.copyto(target, copy))
        return DeviceArray(address, self._shape, "float32", self._stream, self)


def assert_equals_onnx(
    engine: TensorRTEngine, bundle: Bundle, feed: Feed, host_feed: Feed | None = None
) -> None:
    """Run once; the logits are ONNX Runtime's for the same numbers in host memory."""
    logits = engine.infer(feed)["logits"]
    network = "voice" if "mel" in feed else "face"
    with OnnxEngine(bundle.model_path(network), 1) as reference:
        want = reference.infer(host_feed or feed)["logits"]
    np.testing.assert_allclose(logits, want, rtol=1e-5, atol=1e-6)


@pytest.fixture
def face(bundle: Bundle, gpu: FakeGpu) -> TensorRTEngine:
    return open_tensorrt(bundle, "face", "fp32")


@pytest.fixture
def voice(bundle: Bundle, gpu: FakeGpu) -> TensorRTEngine:
    return open_tensorrt(bundle, "voice", "fp32")


def take_calls(gpu: FakeGpu) -> list[str]:
    """Return the calls since the last time."""
    calls = list(gpu.calls)
    gpu.calls.clear()
    return calls


def test_host_arrays(voice: TensorRTEngine, bundle: Bundle) -> None:
    """The logits are the network's, of the first plain run and every graph after it."""
    for seed in range(5):
        assert_equals_onnx(voice, bundle, make_voice(seed))


def test_device_arrays_are_read_in_place(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu
) -> None:
    """They are read on the stream that writes them, without a copy or a wait."""
    buffer = OnDevice(gpu, (1, 3, 64, 64))
    take_calls(gpu)
    for seed in range(4):
        image = make_image(seed)
        assert_equals_onnx(face, bundle, {"image": buffer.write(image)}, {"image": image})
    assert "cuMemcpyHtoDAsync_v2" not in gpu.calls
    assert "synchronize" not in gpu.calls
    assert all(stream == FOREIGN_STREAM for stream, _ in gpu.events.values())


def test_device_and_host_array(voice: TensorRTEngine, bundle: Bundle, gpu: FakeGpu) -> None:
    """With the log-mel on the device, its mask is copied on the same stream."""
    buffer = OnDevice(gpu, (1, 64, 300))
    for seed in range(4):
        feed = make_voice(seed)
        mixed: Feed = {"mel": buffer.write(feed["mel"]), "mask": feed["mask"]}
        assert_equals_onnx(voice, bundle, mixed, feed)
    assert gpu.calls.count("cuMemcpyHtoDAsync_v2") == 2  # once plain, once in the capture


def test_outputs_are_reused(face: TensorRTEngine) -> None:
    """The GPU writes the same arrays each time, without a copy back."""
    first = face.infer({"image": make_image()})
    second = face.infer({"image": make_image(1)})
    assert all(second[name] is first[name] for name in ("logits", "embedding"))


def test_each_size_has_its_buffers(face: TensorRTEngine, bundle: Bundle) -> None:
    """Quality levels can alternate."""
    assert face.shapes == ((4, 3, 64, 64), (4, 3, 32, 32))
    for seed, size in enumerate([64, 32, 64, 32, 32, 64]):
        assert_equals_onnx(face, bundle, {"image": make_image(seed, size)})


def test_captures_after_a_plain_run(face: TensorRTEngine, gpu: FakeGpu) -> None:
    """Each size runs plain, is captured, then launched, which is the warm-up."""
    for size in (64, 32):
        feed = {"image": make_image(size=size)}
        take_calls(gpu)
        face.infer(feed)
        assert [call for call in take_calls(gpu) if "ueue" in call or "xecute" in call] == [
            "execute_async_v3"
        ]
        face.infer(feed)
        calls = [call for call in take_calls(gpu) if call in CAPTURE]
        assert calls == CAPTURE
        face.infer(feed)
        assert Counter(take_calls(gpu)) == PER_FRAME


def test_frame_allocates_nothing(face: TensorRTEngine, voice: TensorRTEngine, gpu: FakeGpu) -> None:
    """After the warm-up: one launch and one event; no allocation, free or synchronization."""
    image, mel = OnDevice(gpu, (1, 3, 64, 64)), OnDevice(gpu, (1, 64, 300))
    host = make_voice()
    face_feed: Feed = {"image": image.write(make_image())}
    voice_feed: Feed = {"mel": mel.write(host["mel"]), "mask": host["mask"]}
    for engine, feed in ((face, face_feed), (voice, voice_feed)):
        engine.warm_up(feed)
        take_calls(gpu)
        for _ in range(3):
            engine.infer(feed)
        assert Counter(take_calls(gpu)) == {name: 3 * count for name, count in PER_FRAME.items()}


def test_captures_again_for_a_new_address(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu
) -> None:
    """An address is part of a graph, which is reused when the address returns."""
    buffers = [OnDevice(gpu, (1, 3, 64, 64)) for _ in range(2)]
    face.warm_up({"image": make_image()})
    take_calls(gpu)
    for seed, buffer in enumerate([*buffers, *buffers]):
        image = make_image(seed)
        assert_equals_onnx(face, bundle, {"image": buffer.write(image)}, {"image": image})
    assert take_calls(gpu).count("cuStreamEndCapture") == 2


def test_always_new_addresses(face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu) -> None:
    """They run without a graph after `MAX_GRAPHS` captures."""
    for seed in range(MAX_GRAPHS + 4):
        image = make_image(seed)
        buffer = OnDevice(gpu, image.shape)
        assert_equals_onnx(face, bundle, {"image": buffer.write(image)}, {"image": image})
    assert gpu.calls.count("cuStreamEndCapture") == MAX_GRAPHS
    assert gpu.calls.count("execute_async_v3") == 4


def test_network_that_cannot_be_captured(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs without a graph after one warning; the stream stays usable."""
    gpu.fails.add("execute_async_v3 in a capture")
    for seed in range(4):
        assert_equals_onnx(face, bundle, {"image": make_image(seed)})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "face fp32" in caplog.text
    assert "execute_async_v3" in caplog.text
    assert gpu.captures == {}
    assert gpu.calls.count("execute_async_v3") == 4


def test_wrong_thread(face: TensorRTEngine) -> None:
    """An EngineError instead of a crash in the driver."""
    with ThreadPoolExecutor() as pool, pytest.raises(EngineError, match="face fp32"):
        pool.submit(face.infer, {"image": make_image()}).result()


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_several_faces_are_one_run(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu, rows: int
) -> None:
    """Each number of faces that a level allows is one launch of a graph of its own, and the
    numbers may alternate."""
    buffers = {count: OnDevice(gpu, (count, 3, 64, 64)) for count in (1, rows)}
    for seed in range(3):
        for count, buffer in buffers.items():
            images = np.concatenate([make_image(10 * seed + n) for n in range(count)])
            take_calls(gpu)
            feed = {"image": buffer.write(images)}
            assert_equals_onnx(face, bundle, feed, {"image": images})
    assert take_calls(gpu).count("cuGraphLaunch") == 1


def test_more_faces_than_a_level_has(face: TensorRTEngine, bundle: Bundle) -> None:
    """They run row by row."""
    images = np.concatenate([make_image(n) for n in range(5)])
    assert_equals_onnx(face, bundle, {"image": images})


def test_size_without_a_profile(face: TensorRTEngine) -> None:
    """The message has the size and those of the engine."""
    with pytest.raises(EngineError, match=r"image is \[1, 3, 48, 48\].*\[1, 3, 64, 64\]"):
        face.infer({"image": make_image(size=48)})


def test_device_arrays_that_do_not_fit(voice: TensorRTEngine, gpu: FakeGpu) -> None:
    """Two streams, another type, several rows: each is refused by name before a run."""
    mel, mask = OnDevice(gpu, (1, 64, 300)), OnDevice(gpu, (1, 300), stream=0x88)
    host = make_voice()
    feed = {"mel": mel.write(host["mel"]), "mask": mask.write(host["mask"])}
    take_calls(gpu)
    with pytest.raises(EngineError, match="two streams"):
        voice.infer(feed)
    half = DeviceArray(feed["mel"].ptr, (1, 64, 300), "float16", FOREIGN_STREAM, None)
    with pytest.raises(ValueError, match=r"mel: float16\[1, 64, 300\].*float32"):
        voice.infer({**feed, "mel": half})
    many = DeviceArray(feed["mel"].ptr, (2, 64, 300), "float32", FOREIGN_STREAM, None)
    two_masks = np.ones((2, 300), np.float32)
    with pytest.raises(EngineError, match="2 rows"):
        voice.infer({"mel": many, "mask": two_masks})
    with pytest.raises(EngineError, match=r"\[1, 2\] rows"):
        voice.infer({**feed, "mask": two_masks})
    assert take_calls(gpu) == []


@pytest.mark.parametrize(
    "call", ["execute_async_v3", "cuEventRecord", "cuEventQuery", "cuMemcpyHtoDAsync_v2"]
)
def test_errors_in_a_run(face: TensorRTEngine, gpu: FakeGpu, call: str) -> None:
    """The EngineError has the network and the call."""
    gpu.fails.add(call)
    with pytest.raises(EngineError, match=rf"^face fp32: .*{call}"):
        face.infer({"image": make_image()})


def test_gpu_that_hangs(
    face: TensorRTEngine, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends with an error after the timeout; closing does not wait either."""
    monkeypatch.setattr(tensorrt_engine, "TIMEOUT_S", 0.01)
    gpu.hangs = True
    with pytest.raises(GpuHangsError, match="face fp32"):
        face.infer({"image": make_image()})
    take_calls(gpu)
    face.close()
    assert take_calls(gpu) == []


def test_closing_after_an_error_of_the_gpu(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """The first error is raised; the fault of closing is only logged."""
    engine = open_tensorrt(bundle, "face", "fp32")
    engine.warm_up({"image": make_image()})
    gpu.fails |= {"cuGraphLaunch", "cuGraphExecDestroy"}
    with pytest.raises(EngineError, match=r"^face fp32: .*cuGraphLaunch"), engine:
        engine.infer({"image": make_image()})
    assert ["cuGraphExecDestroy" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("create_execution_context", "create_execution_context"),
        ("set_input_shape", "the shape of image"),
        ("mem_alloc", "cuMemAlloc"),
        ("cuEventCreate", "cuEventCreate: CUDA_ERROR_OF_THE_FAKE"),
    ],
)
def test_errors_in_opening(bundle: Bundle, gpu: FakeGpu, call: str, reason: str) -> None:
    """A null context, a refused shape, no memory: an EngineError with network and call."""
    gpu.fails.add(call)
    with pytest.raises(EngineError, match=f"^face fp32: .*{reason}"):
        open_tensorrt(bundle, "face", "fp32")


def test_closed_engine(face: TensorRTEngine, gpu: FakeGpu) -> None:
    """All device memory is freed once; another run is an error."""
    face.warm_up({"image": make_image()})
    take_calls(gpu)
    face.close()
    face.close()
    assert Counter(take_calls(gpu)) == {"cuGraphExecDestroy": 1, "free": 8, "cuEventDestroy_v2": 1}
    assert gpu.graphs == {}
    with pytest.raises(EngineError, match="face fp32"):
        face.infer({"image": make_image()})


def test_engine_of_all_levels_serves_one(bundle: Bundle, gpu: FakeGpu) -> None:
    """A run at one level uses the engine of `emotion-edge build`, but not the reverse."""
    best, small = (BuildOptions((level.name,)) for level in bundle.manifest.levels)
    with open_tensorrt(bundle, "face", "fp32", best) as engine:
        assert engine.shapes == ((4, 3, 64, 64),)
    with open_tensorrt(bundle, "face", "fp32") as engine:
        assert engine.shapes == ((4, 3, 64, 64), (4, 3, 32, 32))
    assert gpu.num_builds == 2
    for options in (best, small):
        with open_tensorrt(bundle, "face", "fp32", options) as engine:
            assert engine.build_seconds == 0
            assert engine.shapes == ((4, 3, 64, 64), (4, 3, 32, 32))
            assert engine.infer({"image": make_image(size=32)})["logits"].shape == (1, 7)
    assert gpu.num_builds == 2
    open_tensorrt(bundle, "face", "fp32", best, force=True).close()
    assert gpu.num_builds == 3


def test_unreadable_engine_is_built_again(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine with the right hash that TensorRT refuses is built once more, with a warning."""
    gpu.version = "10.4.0"  # the fake builds with this version; the key has the module's 10.3.0
    open_tensorrt(bundle, "face", "fp32").close()
    gpu.version = "10.3.0"
    with open_tensorrt(bundle, "face", "fp32") as engine:
        assert engine.build_seconds > 0
        assert engine.infer({"image": make_image()})["logits"].shape == (1, 7)
    assert ["Version tag does not match" in message for message in caplog.messages] == [True, False]
    with open_tensorrt(bundle, "face", "fp32") as engine:
        assert engine.build_seconds == 0


def test_engine_that_is_never_readable(bundle: Bundle, gpu: FakeGpu) -> None:
    """One build a start, then an error."""
    gpu.fails.add("deserialize_cuda_engine")
    with pytest.raises(EngineError, match=r"face fp32: .*Serialization"):
        open_tensorrt(bundle, "face", "fp32")
    assert gpu.num_builds == 1
    with pytest.raises(EngineError, match="face fp32"):
        open_tensorrt(bundle, "face", "fp32")
    assert gpu.num_builds == 2


def test_fp16_outputs(bundle: Bundle, gpu: FakeGpu) -> None:
    """An engine with FP16 inputs or outputs is refused by the tensor's name."""
    gpu.half_tensors.add("logits")
    with pytest.raises(EngineError, match=r"face fp32: logits is .*HALF"):
        open_tensorrt(bundle, "face", "fp32")

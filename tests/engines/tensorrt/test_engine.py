"""How an engine is run: what is copied, what is waited for, when a graph is captured, what a frame
costs. TensorRT and CUDA are stand-ins, which run the network on the addresses they are given."""

from __future__ import annotations

import logging
import threading
from collections import Counter
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
    """A preprocessor's own buffer in the memory of the GPU, filled on a stream of its own."""

    def __init__(self, gpu: FakeGpu, shape: tuple[int, ...], stream: int = FOREIGN_STREAM) -> None:
        self._gpu, self._shape, self._stream = gpu, shape, stream
        self._buffer = gpu.allocate(4 * int(np.prod(shape)))

    def write(self, values: NDArray[np.float32]) -> DeviceArray:
        """Enqueued, not done: whoever reads before the stream has come so far reads the old."""
        address = next(key for key, each in self._gpu.memory.items() if each is self._buffer)
        target, copy = self._gpu.see(address, self._shape), values.copy()
        self._gpu.enqueue(self._stream, lambda: np.copyto(target, copy))
        return DeviceArray(address, self._shape, "float32", self._stream, self)


def ask_onnx(bundle: Bundle, network: str, feed: Feed) -> NDArray[np.float32]:
    with OnnxEngine(bundle.model_path(network), 1) as engine:
        return engine.infer(feed)["logits"]


@pytest.fixture
def face(bundle: Bundle, gpu: FakeGpu) -> TensorRTEngine:
    return open_tensorrt(bundle, "face", "fp32")


@pytest.fixture
def voice(bundle: Bundle, gpu: FakeGpu) -> TensorRTEngine:
    return open_tensorrt(bundle, "voice", "fp32")


def since(gpu: FakeGpu) -> list[str]:
    """The calls since it was asked last."""
    calls = list(gpu.calls)
    gpu.calls.clear()
    return calls


# What flows


def test_host_arrays(voice: TensorRTEngine, bundle: Bundle) -> None:
    """The numbers are the network's, on the first plain run and on every graph after it."""
    for seed in range(5):
        feed = make_voice(seed)
        want = ask_onnx(bundle, "voice", feed)
        np.testing.assert_allclose(voice.infer(feed)["logits"], want, rtol=1e-5, atol=1e-6)


def test_device_arrays_are_read_where_they_lie(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu
) -> None:
    """On the stream that writes them, without a copy and without a wait before."""
    buffer = OnDevice(gpu, (1, 3, 64, 64))
    since(gpu)
    for seed in range(4):
        image = make_image(seed)
        answer = face.infer({"image": buffer.write(image)})["logits"]
        want = ask_onnx(bundle, "face", {"image": image})
        np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-6)
    assert "cuMemcpyHtoDAsync_v2" not in gpu.calls
    assert "synchronize" not in gpu.calls
    assert all(stream == FOREIGN_STREAM for stream, _ in gpu.events.values())


def test_one_of_each(voice: TensorRTEngine, bundle: Bundle, gpu: FakeGpu) -> None:
    """The log-mel on the device, its mask on the host: the copy goes on the mel's stream."""
    buffer = OnDevice(gpu, (1, 64, 300))
    for seed in range(4):
        feed = make_voice(seed)
        mixed: Feed = {"mel": buffer.write(feed["mel"]), "mask": feed["mask"]}
        want = ask_onnx(bundle, "voice", feed)
        np.testing.assert_allclose(voice.infer(mixed)["logits"], want, rtol=1e-5, atol=1e-6)
    assert gpu.calls.count("cuMemcpyHtoDAsync_v2") == 2  # once plain, once in the capture


def test_outputs_are_where_the_gpu_writes(face: TensorRTEngine) -> None:
    """The same arrays each time: no copy back."""
    first = face.infer({"image": make_image()})
    second = face.infer({"image": make_image(1)})
    assert all(second[name] is first[name] for name in ("logits", "embedding"))


def test_each_size_has_its_buffers(face: TensorRTEngine, bundle: Bundle) -> None:
    """To and fro between quality levels."""
    assert face.shapes == ((1, 3, 64, 64), (1, 3, 32, 32))
    for seed, size in enumerate([64, 32, 64, 32, 32, 64]):
        feed = {"image": make_image(seed, size)}
        want = ask_onnx(bundle, "face", feed)
        np.testing.assert_allclose(face.infer(feed)["logits"], want, rtol=1e-5, atol=1e-6)


# Graphs


def test_captures_after_a_plain_run(face: TensorRTEngine, gpu: FakeGpu) -> None:
    """First plain, then captured, then launched: warm-up is just that, for each size."""
    for size in (64, 32):
        feed = {"image": make_image(size=size)}
        since(gpu)
        face.infer(feed)
        assert [call for call in since(gpu) if "ueue" in call or "xecute" in call] == [
            "execute_async_v3"
        ]
        face.infer(feed)
        calls = [call for call in since(gpu) if call in CAPTURE]
        assert calls == CAPTURE
        face.infer(feed)
        assert Counter(since(gpu)) == PER_FRAME


def test_a_frame_allocates_nothing(
    face: TensorRTEngine, voice: TensorRTEngine, gpu: FakeGpu
) -> None:
    """After the warm-up: one launch, one event; no allocation, no free, no synchronise."""
    image, sound = OnDevice(gpu, (1, 3, 64, 64)), OnDevice(gpu, (1, 64, 300))
    heard = make_voice()
    seen: Feed = {"image": image.write(make_image())}
    mixed: Feed = {"mel": sound.write(heard["mel"]), "mask": heard["mask"]}
    for engine, feed in ((face, seen), (voice, mixed)):
        engine.warm_up(feed)
        since(gpu)
        for _ in range(3):
            engine.infer(feed)
        assert Counter(since(gpu)) == {name: 3 * count for name, count in PER_FRAME.items()}


def test_captures_again_for_a_new_address(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu
) -> None:
    """An address is part of a graph. One that comes back finds its graph again."""
    buffers = [OnDevice(gpu, (1, 3, 64, 64)) for _ in range(2)]
    face.warm_up({"image": make_image()})
    since(gpu)
    for number, buffer in enumerate([*buffers, *buffers]):
        image = make_image(number)
        answer = face.infer({"image": buffer.write(image)})["logits"]
        want = ask_onnx(bundle, "face", {"image": image})
        np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-6)
    assert since(gpu).count("cuStreamEndCapture") == 2


def test_ever_new_addresses(face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu) -> None:
    """Are served without a graph: capturing each would cost more than it saves."""
    for number in range(MAX_GRAPHS + 4):
        image = make_image(number)
        answer = face.infer({"image": OnDevice(gpu, image.shape).write(image)})["logits"]
        want = ask_onnx(bundle, "face", {"image": image})
        np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-6)
    assert gpu.calls.count("cuStreamEndCapture") == MAX_GRAPHS
    assert gpu.calls.count("execute_async_v3") == 4


def test_network_that_cannot_be_captured(
    face: TensorRTEngine, bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs without, which is said once; the stream is given back."""
    gpu.fails.add("execute_async_v3 in a capture")
    for seed in range(4):
        feed = {"image": make_image(seed)}
        want = ask_onnx(bundle, "face", feed)
        np.testing.assert_allclose(face.infer(feed)["logits"], want, rtol=1e-5, atol=1e-6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert (
        "face fp32: runs without a CUDA graph: face fp32: execute_async_v3: cannot" in caplog.text
    )
    assert gpu.captures == {}
    assert gpu.calls.count("execute_async_v3") == 4


# What goes wrong


def test_wrong_thread(face: TensorRTEngine) -> None:
    """One line instead of a crash in the driver."""
    said: list[str] = []

    def work() -> None:
        try:
            face.infer({"image": make_image()})
        except EngineError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["face fp32: used on another thread than it was opened on"]


def test_size_it_was_not_built_for(face: TensorRTEngine) -> None:
    """Named beside those it was built for."""
    with pytest.raises(EngineError, match=r"image is \[1, 3, 48, 48\], built for \[1, 3, 64, 64\]"):
        face.infer({"image": make_image(size=48)})


def test_device_arrays_that_do_not_fit(voice: TensorRTEngine, gpu: FakeGpu) -> None:
    """Another type, two streams, several rows: each is named and nothing is run."""
    mel, mask = OnDevice(gpu, (1, 64, 300)), OnDevice(gpu, (1, 300), stream=0x88)
    heard = make_voice()
    good = {"mel": mel.write(heard["mel"]), "mask": mask.write(heard["mask"])}
    since(gpu)
    with pytest.raises(EngineError, match="inputs on two streams of the GPU"):
        voice.infer(good)
    half = DeviceArray(good["mel"].ptr, (1, 64, 300), "float16", FOREIGN_STREAM, None)
    with pytest.raises(ValueError, match=r"mel: float16\[1, 64, 300\] given, float32"):
        voice.infer({**good, "mel": half})
    many = DeviceArray(good["mel"].ptr, (2, 64, 300), "float32", FOREIGN_STREAM, None)
    two_masks = np.ones((2, 300), np.float32)
    with pytest.raises(EngineError, match="2 rows in the GPU's memory, one at a time"):
        voice.infer({"mel": many, "mask": two_masks})
    with pytest.raises(EngineError, match=r"inputs with \[1, 2\] rows"):
        voice.infer({**good, "mask": two_masks})
    assert since(gpu) == []


@pytest.mark.parametrize(
    "call", ["execute_async_v3", "cuEventRecord", "cuEventQuery", "cuMemcpyHtoDAsync_v2"]
)
def test_errors_in_a_run(face: TensorRTEngine, gpu: FakeGpu, call: str) -> None:
    """An EngineError with the network and the call."""
    gpu.fails.add(call)
    with pytest.raises(EngineError, match=rf"^face fp32: .*{call}"):
        face.infer({"image": make_image()})


def test_gpu_that_hangs(
    face: TensorRTEngine, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error after a while; closing does not wait for it either."""
    monkeypatch.setattr(tensorrt_engine, "TIMEOUT_S", 0.01)
    gpu.hangs = True
    with pytest.raises(GpuHangsError, match="face fp32: the GPU has not answered for 0 s"):
        face.infer({"image": make_image()})
    since(gpu)
    face.close()
    assert since(gpu) == []


def test_closing_after_an_error_of_the_gpu(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing fails as everything does then; what is raised is what went wrong first."""
    engine = open_tensorrt(bundle, "face", "fp32")
    engine.warm_up({"image": make_image()})
    gpu.fails |= {"cuGraphLaunch", "cuGraphExecDestroy"}
    with pytest.raises(EngineError, match=r"^face fp32: failed: cuGraphLaunch"), engine:
        engine.infer({"image": make_image()})
    assert "face fp32: not all of its memory is freed: cuGraphExecDestroy" in caplog.text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("create_execution_context", "create_execution_context"),
        ("set_input_shape", "the shape of image"),
        ("mem_alloc", "cannot be prepared: cuMemAlloc failed: out of memory"),
        ("cuEventCreate", "cannot be prepared: cuEventCreate: CUDA_ERROR_OF_THE_STAND_IN"),
    ],
)
def test_errors_in_opening(bundle: Bundle, gpu: FakeGpu, call: str, says: str) -> None:
    """A null context, no memory: an EngineError with the network."""
    gpu.fails.add(call)
    with pytest.raises(EngineError, match=f"^face fp32: {says}"):
        open_tensorrt(bundle, "face", "fp32")


def test_closed_engine(face: TensorRTEngine, gpu: FakeGpu) -> None:
    """Everything it had on the device is free; using it again is an error."""
    face.warm_up({"image": make_image()})
    since(gpu)
    face.close()
    face.close()
    assert Counter(since(gpu)) == {"cuGraphExecDestroy": 1, "free": 2, "cuEventDestroy_v2": 1}
    assert gpu.graphs == {}
    with pytest.raises(EngineError, match="face fp32: is closed"):
        face.infer({"image": make_image()})


# Engines that are there already


def test_an_engine_of_all_levels_serves_one(bundle: Bundle, gpu: FakeGpu) -> None:
    """What `emotion-edge build` has built is what a run at any level takes; not the reverse."""
    best, small = (BuildOptions((level.name,)) for level in bundle.manifest.levels)
    with open_tensorrt(bundle, "face", "fp32", best) as engine:
        assert engine.shapes == ((1, 3, 64, 64),)
    with open_tensorrt(bundle, "face", "fp32") as engine:
        assert engine.shapes == ((1, 3, 64, 64), (1, 3, 32, 32))
    assert gpu.num_builds == 2
    for options in (best, small):
        with open_tensorrt(bundle, "face", "fp32", options) as engine:
            assert engine.build_seconds == 0
            assert engine.shapes == ((1, 3, 64, 64), (1, 3, 32, 32))
            assert engine.infer({"image": make_image(size=32)})["logits"].shape == (1, 7)
    assert gpu.num_builds == 2
    open_tensorrt(bundle, "face", "fp32", best, force=True).close()
    assert gpu.num_builds == 3


# Engines that cannot be read


def test_unreadable_engine_is_built_again(
    bundle: Bundle, gpu: FakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """Its hash is right, TensorRT returns nothing all the same: once more, and the log says so."""
    gpu.version = "10.4.0"  # what builds is not what its version says: the key is that of 10.3.0
    open_tensorrt(bundle, "face", "fp32").close()
    gpu.version = "10.3.0"
    with open_tensorrt(bundle, "face", "fp32") as engine:
        assert engine.build_seconds > 0
        assert engine.infer({"image": make_image()})["logits"].shape == (1, 7)
    assert "is built again: Version tag does not match" in caplog.text
    with open_tensorrt(bundle, "face", "fp32") as engine:
        assert engine.build_seconds == 0


def test_engine_that_is_never_readable(bundle: Bundle, gpu: FakeGpu) -> None:
    """One build, then an error: no loop."""
    gpu.fails.add("deserialize_cuda_engine")
    with pytest.raises(EngineError, match="face fp32: the engine cannot be read: Serialization"):
        open_tensorrt(bundle, "face", "fp32")
    assert gpu.num_builds == 1
    with pytest.raises(EngineError, match="cannot be read"):
        open_tensorrt(bundle, "face", "fp32")
    assert gpu.num_builds == 2


def test_other_number_types(bundle: Bundle, gpu: FakeGpu) -> None:
    """A network with 16-bit inputs or outputs is none of ours; the name is told."""
    gpu.half_tensors.add("logits")
    with pytest.raises(EngineError, match=r"face fp32: logits is .*HALF, 32-bit numbers wanted"):
        open_tensorrt(bundle, "face", "fp32")

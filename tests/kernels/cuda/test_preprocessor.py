"""The CUDA preprocessor beside its parity tests, in Numba's simulator where there is no GPU.

Where a CUDA compiler is installed, its kernels are also compiled for an Orin.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels import PreprocessorError, open_preprocessor, reference
from emotion_edge.kernels.cpu.mel import StreamingLogMel, compile_push
from emotion_edge.kernels.cuda import mel as cuda_mel
from emotion_edge.kernels.cuda import preprocessor as cuda
from emotion_edge.kernels.cuda.device import DEVICE_NODES, has_gpu, wrap_bytes
from emotion_edge.kernels.cuda.preprocessor import MAX_WRAPPED, CudaPreprocessor
from emotion_edge.kernels.cuda.timing import time_on_device
from emotion_edge.kernels.pixels import LAYOUTS, PIXEL_FORMATS, find_format
from emotion_edge.kernels.spec import ImageSpec, MelSpec

from ..tensors import SIMULATED, read_tensor

TINY = MelSpec(fft_size=64, window=50, hop=20, num_mels=8, num_frames=12)
SHAPES = {"bgr8": (45, 61, 3), "rgb8": (45, 61, 3), "yuyv": (45, 62, 2), "nv12": (66, 62)}
BOX = (10.3, -5.5, 40.0, 0.0)


def make_image(pixel_format: str, padding: int = 0) -> NDArray[np.uint8]:
    shape = SHAPES[find_format(pixel_format).layout]
    padded = (shape[0], shape[1] + padding, *shape[2:])
    noise = np.random.default_rng(0).integers(0, 256, padded, dtype=np.uint8)
    return noise[:, : shape[1]]


@pytest.fixture(scope="module")
def opened() -> Iterator[CudaPreprocessor]:
    try:
        preprocessor = CudaPreprocessor(ImageSpec(), TINY)
    except PreprocessorError as error:
        pytest.skip(str(error))
    with preprocessor:
        yield preprocessor


@pytest.mark.skipif(not SIMULATED, reason="on a GPU the host's memory is not the GPU's")
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_pixels_come_from_the_device_pointer(opened: CudaPreprocessor, pixel_format: str) -> None:
    """The array gives only shape and strides: here its own bytes are all 0."""
    image = make_image(pixel_format, padding=9)
    layout = np.zeros((len(image), image.strides[0]), np.uint8)
    elsewhere = np.lib.stride_tricks.as_strided(layout, image.shape, image.strides)
    got = opened.faces(elsewhere, [BOX], 16, pixel_format, image.ctypes.data)
    want = reference.face_tensor(image, BOX, 16, ImageSpec(), pixel_format)
    np.testing.assert_allclose(read_tensor(got)[0], want, rtol=0, atol=1e-4)


@pytest.mark.skipif(not SIMULATED, reason="on a GPU the address is not the host's")
def test_the_result_lies_at_its_address(opened: CudaPreprocessor) -> None:
    """A face and a window, read from the address as an engine does."""
    opened.mel.restart(0)
    opened.mel.push(np.full(100, 0.5, np.float32))
    for tensor in (opened.faces(make_image("bgr8"), [BOX], 16), *opened.mel.window()):
        count = int(np.prod(tensor.shape))
        memory = (ctypes.c_float * count).from_address(tensor.ptr)
        np.testing.assert_array_equal(np.array(memory), read_tensor(tensor).ravel())


def test_float16_for_engines_that_want_it() -> None:
    """The same numbers, rounded to FP16; other types are refused."""
    image = make_image("nv12")
    with CudaPreprocessor(ImageSpec(), TINY, "float16") as preprocessor:
        tensor = preprocessor.faces(image, [BOX], 16, "nv12")
        assert tensor.dtype == "float16"
        want = reference.face_tensor(image, BOX, 16, ImageSpec(), "nv12")
        np.testing.assert_allclose(read_tensor(tensor)[0], want, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="int8"):
        CudaPreprocessor(ImageSpec(), TINY, "int8")


@pytest.mark.parametrize("pixel_format", LAYOUTS)
def test_only_the_bytes_of_the_box_are_staged(
    opened: CudaPreprocessor, monkeypatch: pytest.MonkeyPatch, pixel_format: str
) -> None:
    """Without a device pointer: a box of 8 pixels costs twelve rows of twelve pixels."""
    monkeypatch.setattr(opened, "_staging", None)
    opened.faces(make_image(pixel_format) | np.uint8(1), [(20.0, 20.0, 8.0, 0.0)], 16, pixel_format)
    staging = opened._staging
    assert staging is not None
    assert staging.host.size == np.prod(SHAPES[pixel_format])
    assert 64 <= np.count_nonzero(staging.host) <= 12 * 12 * 3


def test_staging_is_made_once(opened: CudaPreprocessor) -> None:
    """A smaller image uses the memory of a larger one."""
    opened.faces(make_image("bgr8"), [BOX], 16)
    before = opened._staging
    opened.faces(make_image("yuyv"), [BOX], 16, "yuyv")
    assert opened._staging is before


@pytest.mark.skipif(not SIMULATED, reason="these addresses are the host's")
def test_buffers_of_a_camera_are_remembered(
    opened: CudaPreprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is wrapped once; the cache stays small for a source with ever new buffers."""
    wrapped = []

    def count(address: int, num_bytes: int) -> object:
        wrapped.append(address)
        return wrap_bytes(address, num_bytes)

    monkeypatch.setattr(cuda, "wrap_bytes", count)
    monkeypatch.setattr(opened, "_enqueue", lambda *_: None)
    ring = [make_image("rgb8").copy() for _ in range(4)]
    for image in ring * 5:
        opened.faces(image, [BOX], 16, "rgb8", image.ctypes.data)
    assert sorted(wrapped) == sorted(image.ctypes.data for image in ring)
    many = [make_image("rgb8").copy() for _ in range(2 * MAX_WRAPPED)]
    for image in many:
        opened.faces(image, [BOX], 16, "rgb8", image.ctypes.data)
        assert len(opened._wrapped) <= MAX_WRAPPED


@pytest.mark.parametrize("view", ["mirrored", "every second pixel", "upside down"])
def test_unusual_layouts_are_staged(opened: CudaPreprocessor, view: str) -> None:
    """The kernel reads rows of contiguous pixels; other views are copied even with a pointer."""
    image = make_image("bgr8").copy()
    views = {
        "mirrored": image[:, ::-1],
        "every second pixel": image[:, ::2],
        "upside down": image[::-1],
    }
    viewed = views[view]
    got = opened.faces(viewed, [BOX], 16, "bgr8", viewed.ctypes.data)
    want = reference.face_tensor(viewed, BOX, 16, ImageSpec())
    np.testing.assert_allclose(read_tensor(got)[0], want, rtol=0, atol=1e-4)


def test_same_columns_as_the_cpu(opened: CudaPreprocessor) -> None:
    """Equal counts, levels, windows and errors over pushes and restarts, also for more audio than
    one launch takes and over the end of the ring."""
    compile_push()
    gpu, cpu = opened.mel, StreamingLogMel(TINY)
    rng = np.random.default_rng(1)
    pushes = [0, 1, 49, 1, 19, 20, 21, 333, 20 * 40 + 7, 5, 1_500, 50, 900, 77]
    for first in (0, 7 * 20, 10**9 + 3, 10**9 - 50):
        gpu.restart(first)
        cpu.restart(first)
        for count in pushes if first == 0 else pushes[:7]:
            audio = rng.standard_normal(count).astype(np.float32) * 0.3
            assert gpu.push(audio) == cpu.push(audio)
            for name in ("first_column", "num_columns", "next_sample"):
                assert getattr(gpu, name) == getattr(cpu, name), name
            newest = cpu.num_columns
            for end in (None, newest + 1, newest - 5, newest - 127, newest - 150, 0):
                try:
                    want = [read_tensor(tensor) for tensor in cpu.window(end)]
                except IndexError as error:
                    with pytest.raises(IndexError, match=str(error)):
                        gpu.window(end)
                    with pytest.raises(IndexError, match=str(error)):
                        gpu.levels_db(end)
                    continue
                np.testing.assert_array_equal(gpu.levels_db(end), cpu.levels_db(end))
                if end is None or count > 1_000:  # the simulator takes its time
                    for have, wanted in zip(gpu.window(end), want, strict=True):
                        np.testing.assert_allclose(read_tensor(have), wanted, rtol=0, atol=1e-5)
    assert gpu.HISTORY_COLUMNS == cpu.HISTORY_COLUMNS


def test_full_blocks(opened: CudaPreprocessor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many threads as on a GPU, more than the work needs: no data race."""
    monkeypatch.setattr(cuda_mel, "THREADS", 64)
    audio = np.random.default_rng(2).standard_normal(110).astype(np.float32) * 0.3
    opened.mel.restart(0)
    opened.mel.push(audio)
    want = reference.log_mel(audio, TINY)
    got = read_tensor(opened.mel.window()[0])[0, :, -want.shape[1] :]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_an_fft_too_large_for_a_block_is_refused() -> None:
    """When it is opened, and not by the driver at the first audio."""
    with pytest.raises(PreprocessorError, match="fft_size 4096"):
        CudaPreprocessor(ImageSpec(), MelSpec(fft_size=4096, num_frames=10))


def test_closing_after_an_error_of_the_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first error is raised and not the one of closing; host memory is still overwritten."""
    try:
        preprocessor = CudaPreprocessor(ImageSpec(), TINY)
    except PreprocessorError as error:
        pytest.skip(str(error))

    def fail() -> None:
        raise RuntimeError("an illegal memory access")

    preprocessor.faces(make_image("bgr8"), [BOX], 16)
    assert preprocessor._staging is not None
    host = preprocessor._staging.host
    assert np.any(host)
    monkeypatch.setattr(preprocessor.stream, "synchronize", fail)
    with pytest.raises(ValueError, match="first"), preprocessor:
        raise ValueError("first")
    assert "an illegal memory access" in caplog.text
    assert not np.any(host)


@pytest.mark.parametrize("node", ["nvidia0", "nvhost-gpu", "nvgpu/igpu0"])
def test_a_gpu_shows_in_dev(tmp_path: Path, node: str) -> None:
    """By the device node of a PC or of any JetPack; otherwise, or without /dev, there is none."""
    assert not has_gpu(tmp_path / "nothing")
    (tmp_path / "nvme0").touch()
    (tmp_path / "nvidia-uvm").touch()
    (tmp_path / "nvidiactl").touch()  # the driver's, with or without a GPU
    assert not has_gpu(tmp_path)
    (tmp_path / node).parent.mkdir(exist_ok=True)
    (tmp_path / node).touch()
    assert has_gpu(tmp_path)
    assert len(DEVICE_NODES) == 3


def refuse(*_: object) -> CudaPreprocessor:
    raise PreprocessorError("CUDA cannot be used: no driver")


def test_auto_falls_back_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for a GPU that cannot be used, none without a GPU. "cuda" raises instead."""
    monkeypatch.setattr(cuda, "CudaPreprocessor", refuse)
    monkeypatch.setattr("emotion_edge.kernels.has_gpu", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert open_preprocessor("auto", ImageSpec(), TINY).name == "cpu"
        monkeypatch.setattr("emotion_edge.kernels.has_gpu", lambda: True)
        monkeypatch.setattr("emotion_edge.kernels.is_simulated", lambda: True)
        assert open_preprocessor("auto", ImageSpec(), TINY).name == "cpu"
        assert caplog.messages == []
        monkeypatch.setattr("emotion_edge.kernels.is_simulated", lambda: False)
        assert open_preprocessor("auto", ImageSpec(), TINY).name == "cpu"
    (record,) = caplog.records
    assert record.name == "emotion_edge.kernels"
    assert "no driver" in record.getMessage()
    with pytest.raises(PreprocessorError, match="no driver"):
        open_preprocessor("cuda", ImageSpec(), TINY)


def run_without_simulator(code: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_ENABLE_CUDASIM"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.mark.skipif(has_gpu(), reason="there is a GPU here")
def test_no_driver_is_one_line() -> None:
    """Numba's message, in one line, as a PreprocessorError."""
    done = run_without_simulator(
        "from emotion_edge.kernels import *\n"
        "from emotion_edge.kernels.spec import ImageSpec, MelSpec\n"
        "try: open_preprocessor('cuda', ImageSpec(), MelSpec())\n"
        "except PreprocessorError as error: print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


COMPILE = """
import sys
from numba import cuda
from numba.core import sigutils
from numba.cuda import dispatcher
from numba.cuda.cudadrv.nvvm import NVVM
from numba.cuda.cudadrv.error import NvvmSupportError

try:
    NVVM()
except NvvmSupportError:
    print("no compiler")
    sys.exit()

class Orin:
    compute_capability = (8, 7)

dispatcher.get_current_device = lambda: Orin  # read for functions that kernels call
from emotion_edge.kernels.cuda import face as cuda_face, mel_kernels as mel

for kernel, signature in (
    (cuda_face.face_kernel, cuda_face.face_signature("float32")),
    (cuda_face.face_kernel, cuda_face.face_signature("float16")),
    (mel.mel_kernel, mel.MEL_SIGNATURE),
    (mel.pcen_kernel, mel.PCEN_SIGNATURE),
    (mel.window_kernel, mel.WINDOW_SIGNATURE),
):
    arguments, _ = sigutils.normalize_signature(signature)
    ptx, _ = cuda.compile_ptx(kernel, arguments, cc=Orin.compute_capability)
    assert "sm_87" in ptx
    print(kernel.__name__, ptx.count(".f64"), "div.s64" in ptx or "rem.s64" in ptx)
"""


def test_kernels_compile_for_an_orin() -> None:
    """NVVM compiles them with their types, which the simulator ignores. The face pass has no
    float64 and no kernel divides integers: both are slow."""
    done = run_without_simulator(COMPILE)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "no compiler":
        pytest.skip("Numba finds no NVVM: no CUDA toolkit is installed")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [
        "face_kernel",
        "face_kernel",
        "mel_kernel",
        "pcen_kernel",
        "window_kernel",
    ]
    assert [int(line[1]) > 0 for line in lines] == [False, False, True, True, False]
    assert {line[2] for line in lines} == {"False"}


def test_importing_opens_nothing() -> None:
    """Neither the package nor the GPU detection loads Numba."""
    code = "import sys, emotion_edge.kernels.cuda.device; print('numba' in sys.modules)"
    assert run_without_simulator(code).stdout.strip() == "False"


class CountingDriver:
    """A stand-in for the driver's graphs: captured calls run at once."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin_capture(self, stream: int) -> None:
        self.calls.append("begin")

    def end_capture(self, stream: int) -> int:
        self.calls.append("end")
        return 7

    def launch_graph(self, graph: int, stream: int) -> None:
        assert graph == 7
        self.calls.append("launch")

    def destroy_graph(self, graph: int) -> None:
        self.calls.append("destroy")


@pytest.mark.skipif(not SIMULATED, reason="test_gpu times the real GPU")
def test_timing_captures_once_and_cleans_up(
    opened: CudaPreprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten calls in one graph, launched a hundred times; a failing capture is ended too."""
    from numba import cuda as numba_cuda

    monkeypatch.setattr(numba_cuda.event, "elapsed_time", lambda self, end: 0.5)
    driver, calls = CountingDriver(), []
    took = time_on_device(driver, opened.stream, lambda: calls.append(1), repeats=10)
    assert took == pytest.approx(50)
    assert len(calls) == 11
    assert driver.calls == ["begin", "end", *["launch"] * 100, "destroy"]
    failing = CountingDriver()
    with pytest.raises(ZeroDivisionError):
        time_on_device(failing, opened.stream, lambda: 1 / (1 - len(failing.calls)))
    assert failing.calls == ["begin", "end"]

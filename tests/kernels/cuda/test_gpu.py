"""Tests that need a GPU: Numba's simulator has one memory, no clock and no driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.tensorrt.cuda_driver import CudaDriver
from emotion_edge.kernels import PreprocessorError, reference
from emotion_edge.kernels.cuda.device import Staging, address_of, has_gpu, make_staging
from emotion_edge.kernels.cuda.preprocessor import CudaPreprocessor
from emotion_edge.kernels.cuda.timing import time_frame
from emotion_edge.kernels.pixels import LAYOUTS, PIXEL_FORMATS, find_format
from emotion_edge.kernels.spec import ImageSpec, MelSpec

from ..tensors import SIMULATED, read_tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(SIMULATED or not has_gpu(), reason="no NVIDIA GPU shows in /dev"),
]
SHAPES = {"bgr8": (720, 1280, 3), "rgb8": (720, 1280, 3), "yuyv": (720, 1280, 2)}
SHAPES["nv12"] = (1080, 1280)  # type: ignore[assignment]
BOX = (430.25, 190.5, 310.0, 0.0)


@pytest.fixture(scope="module")
def opened() -> Iterator[CudaPreprocessor]:
    try:
        preprocessor = CudaPreprocessor(ImageSpec(), MelSpec())
    except PreprocessorError as error:
        pytest.skip(str(error))
    with preprocessor:
        yield preprocessor


def make_frame(pixel_format: str) -> tuple[NDArray[np.uint8], int, Staging]:
    """Return 1280x720 noise in mapped memory, its address on the GPU, and its owner."""
    shape = SHAPES[find_format(pixel_format).layout]
    memory = make_staging(int(np.prod(shape)), "uint8")
    memory.host[:] = np.random.default_rng(0).integers(0, 256, memory.host.size, np.uint8)
    return memory.host.reshape(shape), address_of(memory.device), memory


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_camera_frame_equals_reference(
    opened: CudaPreprocessor, pixel_format: str, mapped: bool
) -> None:
    """1280x720 of every format, through staging and in place."""
    image, address, _memory = make_frame(pixel_format)
    for box in (BOX, (-100.0, -50.0, 900.0, 0.0), (430.25, 190.5, 310.0, -0.6)):
        got = opened.faces(image, [box], 224, pixel_format, address if mapped else 0)
        want = reference.face_tensor(image, box, 224, ImageSpec(), pixel_format)
        np.testing.assert_allclose(read_tensor(got)[0], want, rtol=0, atol=1e-3)


def test_a_frame_allocates_nothing(
    opened: CudaPreprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by Numba nor by the driver's count, once each buffer has been used."""
    from numba import cuda

    image, address, _memory = make_frame("nv12")
    audio = np.zeros(533, np.float32)

    def do_one_frame() -> None:
        opened.faces(image, [BOX], 224, "nv12", address)
        opened.faces(image, [BOX], 112, "nv12")
        opened.mel.push(audio)
        opened.mel.window()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("memory was asked for")

    for _ in range(5):
        do_one_frame()
    opened.stream.synchronize()
    context = cuda.current_context()
    before = context.get_memory_info().free
    monkeypatch.setattr(context, "memalloc", refuse)
    monkeypatch.setattr(context, "memhostalloc", refuse)
    for _ in range(200):
        do_one_frame()
    opened.stream.synchronize()
    assert context.get_memory_info().free == before


def test_a_graph_around_the_kernels(opened: CudaPreprocessor) -> None:
    """A graph captured once and launched on other pixels gives the result of the new pixels."""
    driver = CudaDriver()
    image, address, _memory = make_frame("yuyv")
    result = opened.faces(image, [BOX], 112, "yuyv", address)
    opened.stream.synchronize()
    driver.begin_capture(result.stream)
    try:
        opened.faces(image, [BOX], 112, "yuyv", address)
    finally:
        graph = driver.end_capture(result.stream)
    image[:] = np.random.default_rng(1).integers(0, 256, image.shape, np.uint8)
    driver.launch_graph(graph, result.stream)
    opened.stream.synchronize()
    driver.destroy_graph(graph)
    want = reference.face_tensor(image, BOX, 112, ImageSpec(), "yuyv")
    np.testing.assert_allclose(read_tensor(result)[0], want, rtol=0, atol=1e-3)


def test_pycuda_shares_the_context(opened: CudaPreprocessor) -> None:
    """Memory that pycuda has mapped in the primary context is read in place."""
    driver = pytest.importorskip("pycuda.driver", reason="pycuda is not installed")
    pytest.importorskip("pycuda.autoprimaryctx")
    image = driver.pagelocked_empty(
        (720, 1280, 3), np.uint8, mem_flags=driver.host_alloc_flags.DEVICEMAP
    )
    image[:] = np.random.default_rng(2).integers(0, 256, image.shape, np.uint8)
    address = int(image.base.get_device_pointer())
    got = opened.faces(image, [BOX], 112, "rgb8", address)
    want = reference.face_tensor(image, BOX, 112, ImageSpec(), "rgb8")
    np.testing.assert_allclose(read_tensor(got)[0], want, rtol=0, atol=1e-3)


def test_a_frame_is_timed(opened: CudaPreprocessor) -> None:
    """GPU times of the columns, a window and a face of each layout; bench_kernels has the goals."""
    times = time_frame(CudaDriver(), opened)
    assert len(times) == 2 + 2 * len(LAYOUTS)
    assert all(us > 0 for _, us in times)

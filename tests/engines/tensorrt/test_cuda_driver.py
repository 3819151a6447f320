"""The calls of libcuda that pycuda lacks: on a stand-in, and on a real GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.engines.tensorrt import cuda_driver
from emotion_edge.engines.tensorrt.cuda_driver import CudaDriver, CudaError
from emotion_edge.kernels import has_gpu

from ..fake_cuda import FakeGpu


def test_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-of-nobody.so.1")
    with pytest.raises(CudaError, match=r"libcuda-of-nobody\.so\.1: "):
        CudaDriver()


def test_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without graphs, say; any library that has none of the names stands for it."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libc.so.6")
    with pytest.raises(CudaError, match=r"libc\.so\.6: .*cuStreamBeginCapture_v2"):
        CudaDriver()


def test_errors_are_named(gpu: FakeGpu) -> None:
    """The call, and the driver's own name for what is wrong."""
    gpu.fails.add("cuEventCreate")
    with pytest.raises(CudaError, match=r"cuEventCreate: CUDA_ERROR_OF_THE_STAND_IN \(719\)"):
        CudaDriver().create_event()


def test_a_capture_that_failed_leaves_no_graph(gpu: FakeGpu) -> None:
    """The stream is no longer captured, and what was made is destroyed."""
    driver = CudaDriver()
    driver.begin_capture(5)
    gpu.fails.add("cuGraphInstantiateWithFlags")
    with pytest.raises(CudaError, match="cuGraphInstantiateWithFlags"):
        driver.end_capture(5)
    assert (gpu.captures, gpu.graphs) == ({}, {})


def test_waits_no_longer_than_told(gpu: FakeGpu) -> None:
    """False where the GPU is not done."""
    driver = CudaDriver()
    event = driver.create_event()
    driver.record_event(event, 5)
    gpu.hangs = True
    assert not driver.wait_for_event(event, 0.001)
    gpu.hangs = False
    assert driver.wait_for_event(event, 0.001)


@pytest.mark.gpu
def test_graph_on_a_real_gpu() -> None:
    """A captured copy is done at each launch, not at the capture; the event says when."""
    cuda = pytest.importorskip("numba.cuda", reason="no numba.cuda")
    if not has_gpu() or not cuda.is_available():
        pytest.skip("no CUDA device")
    driver = CudaDriver()
    source = cuda.pinned_array(1000, np.float32)
    source[:] = 1
    target = cuda.to_device(np.zeros(1000, np.float32))
    stream, other = cuda.stream(), cuda.stream()
    address = target.device_ctypes_pointer.value
    driver.begin_capture(stream.handle.value)
    driver.copy_to_device(address, source.ctypes.data, source.nbytes, stream.handle.value)
    graph = driver.end_capture(stream.handle.value)
    stream.synchronize()
    assert not target.copy_to_host().any()
    event = driver.create_event()
    for value in (2, 3):
        source[:] = value
        driver.launch_graph(graph, other.handle.value)
        driver.record_event(event, other.handle.value)
        assert driver.wait_for_event(event, 5)
        assert (target.copy_to_host() == value).all()
    driver.destroy_event(event)
    driver.destroy_graph(graph)

"""The driver calls that pycuda lacks: on a fake, and on a real GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from emotion_edge.engines.tensorrt import cuda_driver
from emotion_edge.engines.tensorrt.cuda_driver import CudaDriver, CudaError
from emotion_edge.kernels import has_gpu

from ..fake_cuda import FakeGpu


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-missing.so.1")
    with pytest.raises(CudaError, match=r"libcuda-missing\.so\.1"):
        CudaDriver()


def test_old_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library without the symbols, here another one, is refused with the missing symbol."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libc.so.6")
    with pytest.raises(CudaError, match=r"libc\.so\.6: .*cuStreamBeginCapture_v2"):
        CudaDriver()


def test_errors_are_named(gpu: FakeGpu) -> None:
    """The error has the call, the driver's name and the code."""
    gpu.fails.add("cuEventCreate")
    with pytest.raises(CudaError, match=r"cuEventCreate: CUDA_ERROR_OF_THE_FAKE \(719\)"):
        CudaDriver().create_event()


def test_failed_capture_leaves_no_graph(gpu: FakeGpu) -> None:
    """The capture ends and the graph is destroyed."""
    driver = CudaDriver()
    driver.begin_capture(5)
    gpu.fails.add("cuGraphInstantiateWithFlags")
    with pytest.raises(CudaError, match="cuGraphInstantiateWithFlags"):
        driver.end_capture(5)
    assert (gpu.captures, gpu.graphs) == ({}, {})


def test_wait_has_a_timeout(gpu: FakeGpu) -> None:
    """False while the GPU has not reached the event."""
    driver = CudaDriver()
    event = driver.create_event()
    driver.record_event(event, 5)
    gpu.hangs = True
    assert not driver.wait_for_event(event, 0.001)
    gpu.hangs = False
    assert driver.wait_for_event(event, 0.001)


@pytest.mark.gpu
def test_graph_on_a_real_gpu() -> None:
    """A captured copy runs at each launch, not at the capture, and the event signals its end."""
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

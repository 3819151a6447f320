"""Execution of a TensorRT engine at one input shape: context, buffers and CUDA graphs.

In: a feed of host arrays or device arrays. Out: host arrays that the GPU writes. Everything is
allocated once; a run allocates nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...kernels.memory import DeviceArray
from ..base import EngineError, Feed
from .cuda_driver import CudaDriver, CudaError
from .loader import TensorRTDiagnostics
from .plan import Shapes

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

MAX_GRAPHS = 4
"""The input addresses are part of a graph; a caller that always has new ones runs without."""


@dataclass(frozen=True, slots=True)
class TensorRTContext:
    """State shared by all shapes of an engine."""

    title: str
    driver: Any
    """The module `pycuda.driver`."""
    cuda: CudaDriver
    stream: Any
    """A pycuda stream of the engine alone."""
    diagnostics: TensorRTDiagnostics

    def require(self, done: bool, what: str) -> None:
        """Raise EngineError with TensorRT's log when a call returns False."""
        if not done:
            raise EngineError(f"{self.title}: {what}: {self.diagnostics.explain()}")

    def require_result(self, result: ResultT | None, what: str) -> ResultT:
        """Return the result of a call; raise EngineError when it is None."""
        if result is None:
            raise EngineError(f"{self.title}: {what}: {self.diagnostics.explain()}")
        return result


class FixedShapeContext:
    """One input shape. Every method raises EngineError, CudaError or one of pycuda's errors."""

    def __init__(
        self,
        engine: trt.ICudaEngine,
        profile: int,
        shapes: Shapes,
        outputs: Sequence[str],
        shared: TensorRTContext,
    ) -> None:
        self.outputs: dict[str, NDArray[np.float32]] = {}
        """Page-locked memory that the GPU writes."""
        self._shared = shared
        self._staging: dict[str, NDArray[np.float32]] = {}
        self._device: dict[str, Any] = {}
        self._addresses: tuple[int, ...] = ()  # of the inputs, as last set in the context
        self._graphs: dict[tuple[int, ...], int] = {}
        self._has_run = False
        self._can_capture = True
        driver = shared.driver
        context = shared.require_result(
            engine.create_execution_context(), "create_execution_context"
        )
        self._context = context
        done = context.set_optimization_profile_async(profile, shared.stream.handle)
        shared.require(done, "set_optimization_profile_async")
        for name, shape in shapes.items():
            shared.require(context.set_input_shape(name, shape), f"the shape of {name}")
            self._staging[name] = driver.pagelocked_empty(shape, np.float32)
            self._device[name] = driver.mem_alloc(self._staging[name].nbytes)
        for name in outputs:
            shape = context.get_tensor_shape(name)[:]
            shared.require(all(size > 0 for size in shape), f"the shape of {name}")
            flags = driver.host_alloc_flags.DEVICEMAP
            array = driver.pagelocked_empty(shape, np.float32, mem_flags=flags)
            address = array.base.get_device_pointer()
            shared.require(context.set_tensor_address(name, address), f"the address of {name}")
            self.outputs[name] = array

    def run(self, feed: Feed) -> int:
        """Enqueue one run and return its stream: that of the device arrays, else the engine's."""
        stream: int | None = None
        addresses = []
        for name, staging in self._staging.items():
            tensor = feed[name]
            if isinstance(tensor, DeviceArray):
                if stream not in (None, tensor.stream):
                    raise EngineError(f"{self._shared.title}: inputs on two streams of the GPU")
                stream = tensor.stream
                addresses.append(tensor.ptr)
            else:
                np.copyto(staging, tensor)
                addresses.append(int(self._device[name]))
        if stream is None:
            stream = int(self._shared.stream.handle)
        graph = self._find_graph(tuple(addresses))
        if graph is not None:
            self._shared.cuda.launch_graph(graph, stream)
        else:
            self._enqueue(stream)
            self._has_run = True
        return stream

    def close(self) -> None:
        for graph in self._graphs.values():
            self._shared.cuda.destroy_graph(graph)
        for allocation in self._device.values():
            allocation.free()
        self._graphs.clear()
        self._device.clear()

    def _find_graph(self, addresses: tuple[int, ...]) -> int | None:
        """Return the graph that reads `addresses`, captured now if possible; None for a plain run.
        The first run is plain: TensorRT then initializes what it may not during a capture."""
        graph = self._graphs.get(addresses)
        if graph is not None:
            return graph
        if addresses != self._addresses:
            for name, address in zip(self._staging, addresses, strict=True):
                done = self._context.set_tensor_address(name, address)
                self._shared.require(done, f"the address of {name}")
            self._addresses = addresses
        if not self._has_run or not self._can_capture or len(self._graphs) >= MAX_GRAPHS:
            return None
        graph = self._capture()
        if graph is not None:
            self._graphs[addresses] = graph
        return graph

    def _capture(self) -> int | None:
        """Capture one run on the engine's stream, for launches on any. None after a failure, which
        is not tried again."""
        cuda, stream = self._shared.cuda, int(self._shared.stream.handle)
        self._shared.diagnostics.clear()
        failures: list[Exception] = []
        graph = None
        try:
            cuda.begin_capture(stream)
            try:
                self._enqueue(stream)
            except (CudaError, EngineError) as error:
                failures.append(error)
            graph = cuda.end_capture(stream)
        except CudaError as error:
            failures.append(error)
        if failures:
            self._can_capture = False
            log.warning("%s: runs without a CUDA graph: %s", self._shared.title, failures[0])
            if graph is not None:
                cuda.destroy_graph(graph)
            return None
        return graph

    def _enqueue(self, stream: int) -> None:
        for (name, staging), address in zip(self._staging.items(), self._addresses, strict=True):
            if address == int(self._device[name]):
                self._shared.cuda.copy_to_device(
                    address, staging.ctypes.data, staging.nbytes, stream
                )
        self._shared.require(
            self._context.execute_async_v3(stream_handle=stream), "execute_async_v3"
        )

"""One shape that a TensorRT engine was built for: its execution context, its buffers, its CUDA
graphs. All of it is made once; a run allocates nothing."""

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
"""The addresses of the inputs are part of a graph; a caller that has ever new ones is served
without."""


@dataclass(frozen=True, slots=True)
class TensorRTContext:
    """What all shapes of an engine share."""

    title: str
    driver: Any
    """The module `pycuda.driver`."""
    cuda: CudaDriver
    stream: Any
    """The engine's own, of pycuda: nothing else is ever enqueued there."""
    diagnostics: TensorRTDiagnostics

    def require(self, done: bool, what: str) -> None:
        """Raise EngineError, with what TensorRT has logged, when a call says False."""
        if not done:
            raise EngineError(f"{self.title}: {what}: {self.diagnostics.explain()}")

    def take(self, result: ResultT | None, what: str) -> ResultT:
        """The same for a call that makes something, or returns None."""
        if result is None:
            raise EngineError(f"{self.title}: {what}: {self.diagnostics.explain()}")
        return result


class FixedShapeContext:
    """Raises EngineError, CudaError or one of pycuda's errors, from every method."""

    def __init__(
        self,
        engine: trt.ICudaEngine,
        profile: int,
        shapes: Shapes,
        outputs: Sequence[str],
        tools: TensorRTContext,
    ) -> None:
        self.outputs: dict[str, NDArray[np.float32]] = {}
        """Page-locked memory that the GPU writes."""
        self._tools = tools
        self._staging: dict[str, NDArray[np.float32]] = {}
        self._device: dict[str, Any] = {}
        self._addresses: tuple[int, ...] = ()  # of the inputs, as the context was told last
        self._graphs: dict[tuple[int, ...], int] = {}
        self._has_run = False
        self._can_capture = True
        driver = tools.driver
        context = tools.take(engine.create_execution_context(), "create_execution_context")
        self._context = context
        done = context.set_optimization_profile_async(profile, tools.stream.handle)
        tools.require(done, "set_optimization_profile_async")
        for name, shape in shapes.items():
            tools.require(context.set_input_shape(name, shape), f"the shape of {name}")
            self._staging[name] = driver.pagelocked_empty(shape, np.float32)
            self._device[name] = driver.mem_alloc(self._staging[name].nbytes)
        for name in outputs:
            shape = context.get_tensor_shape(name)[:]
            tools.require(all(size > 0 for size in shape), f"the shape of {name}")
            flags = driver.host_alloc_flags.DEVICEMAP
            array = driver.pagelocked_empty(shape, np.float32, mem_flags=flags)
            address = array.base.get_device_pointer()
            tools.require(context.set_tensor_address(name, address), f"the address of {name}")
            self.outputs[name] = array

    def run(self, feed: Feed) -> int:
        """Enqueue one run. The stream it is on: that of the arrays on the device, or the own."""
        stream: int | None = None
        addresses = []
        for name, staging in self._staging.items():
            tensor = feed[name]
            if isinstance(tensor, DeviceArray):
                if stream not in (None, tensor.stream):
                    raise EngineError(f"{self._tools.title}: inputs on two streams of the GPU")
                stream = tensor.stream
                addresses.append(tensor.ptr)
            else:
                np.copyto(staging, tensor)
                addresses.append(int(self._device[name]))
        if stream is None:
            stream = int(self._tools.stream.handle)
        graph = self._find_graph(tuple(addresses))
        if graph is not None:
            self._tools.cuda.launch_graph(graph, stream)
        else:
            self._enqueue(stream)
            self._has_run = True
        return stream

    def close(self) -> None:
        for graph in self._graphs.values():
            self._tools.cuda.destroy_graph(graph)
        for allocation in self._device.values():
            allocation.free()
        self._graphs.clear()
        self._device.clear()

    def _find_graph(self, addresses: tuple[int, ...]) -> int | None:
        """The graph that reads from `addresses`, captured now where it can be; None for a plain
        run. The first run is plain: TensorRT settles then what it may not during a capture."""
        graph = self._graphs.get(addresses)
        if graph is not None:
            return graph
        if addresses != self._addresses:
            for name, address in zip(self._staging, addresses, strict=True):
                done = self._context.set_tensor_address(name, address)
                self._tools.require(done, f"the address of {name}")
            self._addresses = addresses
        if not self._has_run or not self._can_capture or len(self._graphs) >= MAX_GRAPHS:
            return None
        graph = self._capture()
        if graph is not None:
            self._graphs[addresses] = graph
        return graph

    def _capture(self) -> int | None:
        """One run as a graph. None where that cannot be, which is not tried again.

        Captured on the engine's own stream, launched on any.
        """
        cuda, stream = self._tools.cuda, int(self._tools.stream.handle)
        self._tools.diagnostics.clear()
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
            log.warning("%s: runs without a CUDA graph: %s", self._tools.title, failures[0])
            if graph is not None:
                cuda.destroy_graph(graph)
            return None
        return graph

    def _enqueue(self, stream: int) -> None:
        for (name, staging), address in zip(self._staging.items(), self._addresses, strict=True):
            if address == int(self._device[name]):
                self._tools.cuda.copy_to_device(
                    address, staging.ctypes.data, staging.nbytes, stream
                )
        self._tools.require(
            self._context.execute_async_v3(stream_handle=stream), "execute_async_v3"
        )

"""Fakes of pycuda and libcuda that record every call and fail on request; see fake_tensorrt.py.

"Device memory" is host memory, so the networks really run. The fakes refuse what the real ones
refuse: an address that the GPU cannot reach, an array that is not page-locked. Enqueued work runs
when it is waited for.
"""

from __future__ import annotations

import ctypes
import itertools
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAPPED = 1 << 60
"""Difference of the GPU's and the host's address of mapped memory."""
NOT_READY, INVALIDATED = 600, 901


@dataclass
class FakeGpu:
    """The fake machine: its properties, recorded calls, and injected faults."""

    version: str = "10.3.0"
    sm: str = "8.7"
    gpu_name: str = "Orin"
    num_sms: int = 8
    l4t: str = "# R36 (release), REVISION: 4.3"
    integrated: bool = True
    num_dla_cores: int = 0
    driver_version: int = 12060
    available_mb: int = 4000
    calls: list[str] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    """Lines that the builder logs: ("ERROR", "text")."""
    fails: set[str] = field(default_factory=set)
    """Names of calls that return None, False or an error."""
    parser_errors: list[str] = field(default_factory=list)
    on_build: Callable[[], None] = lambda: None
    """Called in the middle of a build."""
    num_builds: int = 0
    hangs: bool = False
    is_off_by: float = 0.0
    """Added to every output."""
    half_tensors: set[str] = field(default_factory=set)
    """Inputs and outputs that an engine reports as FP16."""
    options: dict[str, Any] = field(default_factory=dict)
    """Configuration of the last build."""
    memory: dict[int, Any] = field(default_factory=dict)
    """Buffers by their address on the GPU."""
    queues: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    captures: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    events: dict[int, tuple[int, int]] = field(default_factory=dict)
    handles: Any = field(default_factory=lambda: itertools.count(0x1000))

    def note(self, call: str) -> bool:
        """Record a call and return whether it succeeds."""
        self.calls.append(call)
        return call not in self.fails

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        self.captures.get(stream, self.queues.setdefault(stream, [])).append(work)

    def finish(self, stream: int) -> None:
        queue = self.queues.setdefault(stream, [])
        while queue:
            queue.pop(0)()

    def allocate(self, num_bytes: int, offset: int = 0) -> Any:
        buffer = (ctypes.c_char * num_bytes)()
        self.memory[ctypes.addressof(buffer) + offset] = buffer
        return buffer

    def see(self, address: int, shape: tuple[int, ...]) -> Any:
        """Return the array at a GPU address. KeyError for an address that it cannot reach."""
        buffer = self.memory[address]
        assert ctypes.sizeof(buffer) >= 4 * int(np.prod(shape))
        return np.frombuffer(buffer, np.float32, int(np.prod(shape))).reshape(shape)


# pycuda


def make_driver(gpu: FakeGpu) -> Any:
    driver: Any = types.ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    class Allocation:
        def __init__(self, num_bytes: int) -> None:
            if not gpu.note("mem_alloc"):
                raise Error("cuMemAlloc failed: out of memory")
            self.buffer = gpu.allocate(num_bytes)

        def __int__(self) -> int:
            return ctypes.addressof(self.buffer)

        def free(self) -> None:
            gpu.note("free")
            del gpu.memory[int(self)]

    class Pagelocked:
        def __init__(self, shape: tuple[int, ...], dtype: Any, mem_flags: int) -> None:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            self.flags, self.buffer = mem_flags, (ctypes.c_char * size)()
            self.address = ctypes.addressof(self.buffer)
            self.__array_interface__ = {
                "shape": tuple(shape),
                "typestr": np.dtype(dtype).str,
                "data": (self.address, False),
                "version": 3,
            }

        def get_device_pointer(self) -> int:
            assert self.flags == 2, "not mapped"
            gpu.memory[self.address + MAPPED] = self.buffer
            return self.address + MAPPED

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any, mem_flags: int = 0) -> Any:
        gpu.note("pagelocked_empty")
        return np.asarray(Pagelocked(shape, dtype, mem_flags))

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            gpu.note("Stream")
            assert flags == 1, "would wait for the default stream"
            self.handle = next(gpu.handles)

        def synchronize(self) -> None:
            gpu.note("synchronize")
            gpu.finish(self.handle)

    class Device:
        def name(self) -> str:
            return gpu.gpu_name

        def compute_capability(self) -> tuple[int, ...]:
            return tuple(map(int, gpu.sm.split(".")))

        def get_attribute(self, attribute: str) -> int:
            return gpu.num_sms if attribute == "sms" else int(gpu.integrated)

    vars(driver).update(
        Error=Error,
        Stream=Stream,
        Device=Device,
        mem_alloc=Allocation,
        pagelocked_empty=pagelocked_empty,
        host_alloc_flags=types.SimpleNamespace(DEVICEMAP=2),
        device_attribute=types.SimpleNamespace(MULTIPROCESSOR_COUNT="sms", INTEGRATED="own"),
        get_version=lambda: (12, 6, 0),
        get_driver_version=lambda: gpu.driver_version,
        mem_get_info=lambda: (2 << 30, 8 << 30),
    )
    return driver


# libcuda


def make_libcuda(gpu: FakeGpu) -> Any:
    def value(handle: Any) -> int:
        return int(getattr(handle, "value", handle))

    def begin_capture(stream: int, mode: int) -> int:
        assert mode == 1, "not thread-local"
        gpu.captures[stream] = []
        return 0

    def end_capture(stream: int, graph: Any) -> int:
        graph._obj.value = next(gpu.handles)
        gpu.graphs[graph._obj.value] = gpu.captures.pop(stream)
        return INVALIDATED if "execute_async_v3 in a capture" in gpu.fails else 0

    def instantiate(instance: Any, graph: Any, _flags: int) -> int:
        instance._obj.value = next(gpu.handles)
        gpu.graphs[instance._obj.value] = gpu.graphs[value(graph)]
        return 0

    def launch(graph: int, stream: int) -> int:
        for work in gpu.graphs[graph]:
            gpu.enqueue(stream, work)
        return 0

    def destroy(graph: Any) -> int:
        del gpu.graphs[value(graph)]
        return 0

    def copy(target: int, source: int, num_bytes: int, stream: int) -> int:
        assert target in gpu.memory, "not device memory"

        def work() -> None:
            ctypes.memmove(target, source, num_bytes)

        gpu.enqueue(stream, work)
        return 0

    def create_event(event: Any, _flags: int) -> int:
        event._obj.value = next(gpu.handles)
        return 0

    def record(event: int, stream: int) -> int:
        gpu.events[event] = (stream, 0)
        return 0

    def query(event: int) -> int:
        """Not ready at the first query: the GPU runs asynchronously."""
        stream, num_queries = gpu.events[event]
        gpu.events[event] = (stream, num_queries + 1)
        if num_queries == 0 or gpu.hangs:
            return NOT_READY
        gpu.finish(stream)
        return 0

    def describe(_code: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_OF_THE_FAKE"
        return 0

    functions: dict[str, Callable[..., int]] = {
        "cuStreamBeginCapture_v2": begin_capture,
        "cuStreamEndCapture": end_capture,
        "cuGraphInstantiateWithFlags": instantiate,
        "cuGraphLaunch": launch,
        "cuGraphDestroy": destroy,
        "cuGraphExecDestroy": destroy,
        "cuMemcpyHtoDAsync_v2": copy,
        "cuEventCreate": create_event,
        "cuEventRecord": record,
        "cuEventQuery": query,
        "cuEventDestroy_v2": lambda event: 0,
        "cuGetErrorName": describe,
    }

    def wrap(name: str, function: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            return function(*arguments) if gpu.note(name) else 719

        return call

    return types.SimpleNamespace(**{name: wrap(name, each) for name, each in functions.items()})

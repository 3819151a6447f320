"""CUDA driver calls that pycuda 2026.1 lacks: graphs, and copies and events on the streams of
other libraries.

In and out: handles as plain integers. Names are the symbols that the library exports (CUDA 11.4 to
13), not the macros of cuda.h. Every call uses the current context, see `gpu.open_gpu`.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

LIBRARY = "libcuda.so.1"
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: calls of other threads do not disturb a capture."""
EVENT_DISABLE_TIMING = 2
POLL_S = 40e-6
_HANDLE, _OUT = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_NOT_READY = 600
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, _OUT),
    "cuGraphInstantiateWithFlags": (_OUT, _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuMemcpyHtoDAsync_v2": (_HANDLE, _HANDLE, ctypes.c_size_t, _HANDLE),
    "cuEventCreate": (_OUT, ctypes.c_uint),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventQuery": (_HANDLE,),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuGetErrorName": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


class CudaError(RuntimeError):
    """A failed driver call: its name and the driver's name of the error."""


class CudaDriver:
    """The loaded library. Raises CudaError where it is missing or too old."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
            for name, types in _SIGNATURES.items():
                function = getattr(library, name)
                function.argtypes, function.restype = types, ctypes.c_int
        except (OSError, AttributeError) as error:
            raise CudaError(f"{LIBRARY}: {error}") from error
        self._library = library

    def begin_capture(self, stream: int) -> None:
        """Record what this thread enqueues on `stream` instead of running it."""
        self._call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return the captured graph, ready to launch. Must follow `begin_capture` even after an
        error, or the stream stays unusable."""
        graph, instance = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(instance), graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)
        return instance.value or 0

    def launch_graph(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)

    def copy_to_device(self, target: int, source: int, num_bytes: int, stream: int) -> None:
        """Enqueue a copy from page-locked memory."""
        self._call("cuMemcpyHtoDAsync_v2", target, source, num_bytes, stream)

    def create_event(self) -> int:
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), EVENT_DISABLE_TIMING)
        return event.value or 0

    def record_event(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def wait_for_event(self, event: int, timeout_s: float) -> bool:
        """Return False when the event is not reached in time. CUDA's own wait has no timeout, so
        this polls and sleeps."""
        query = self._library.cuEventQuery
        code = query(event)
        if code == _NOT_READY:
            deadline = time.monotonic() + timeout_s
            while code == _NOT_READY and time.monotonic() < deadline:
                time.sleep(POLL_S)
                code = query(event)
        if code not in (0, _NOT_READY):
            raise CudaError(self._describe("cuEventQuery", code))
        return bool(code == 0)

    def destroy_event(self, event: int) -> None:
        self._call("cuEventDestroy_v2", event)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(self._describe(name, code))

    def _describe(self, name: str, code: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(code, ctypes.byref(text))
        return f"{name}: {(text.value or b'unknown error').decode()} ({code})"

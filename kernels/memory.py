"""Memory that crosses the border between CPU and GPU without a copy.

`MappedMemory` is host memory that the CPU, a camera's driver and the GPU share. It is ordinary
memory, page-locked and mapped for the GPU afterwards (cuMemHostRegister), not memory of CUDA's own
(cudaHostAlloc): a V4L2 driver must be able to pin its pages (get_user_pages), which fails for the
pages of another driver's mapping. It is shared (MAP_SHARED): after a fork, private pages would be
copied on write and would no longer be the ones the driver holds.

`DeviceArray` is an array in GPU memory, passed from a kernel to an engine.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Pin = Callable[[object, int, int], tuple[int, Callable[[], None]]]
"""(owner, address, bytes) -> (address on the GPU, a function that unpins, from any thread)."""


class MapError(OSError):
    """Memory cannot be page-locked; the message is one line with the reason."""


class MappedMemory:
    """At least `size` bytes of host memory, aligned to a page.

    `close` overwrites the memory with zeros and unmaps it from the GPU. The memory itself is freed
    with the last array that refers to it. A context manager. `close` may be called twice.
    """

    def __init__(self, size: int, pin: Pin | None = None) -> None:
        """`pin`: `find_pin()`, or None for plain memory. Raises MapError, ValueError."""
        if size <= 0:
            raise ValueError(f"memory of {size} bytes cannot be mapped")
        self.pages = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.array: NDArray[np.uint8] = np.frombuffer(self.pages, np.uint8)
        """All of the memory, in whole pages, uint8."""
        self.array.fill(0)  # allocates the pages now and not when the first frame arrives
        self.address = self.array.ctypes.data
        self.device_ptr = 0
        """The GPU's address of the first byte; 0 without a mapping."""
        self._unpin: Callable[[], None] | None = None
        if pin is not None:
            try:
                self.device_ptr, self._unpin = pin(self.array, self.address, self.array.nbytes)
            except Exception as error:  # Numba's errors share no base class that loads without CUDA
                reason = " ".join(str(error).split())
                raise MapError(f"{size} bytes cannot be page-locked: {reason}") from error

    def close(self) -> None:
        """Overwrite the memory and unmap it. The GPU must not use it any more."""
        self.device_ptr = 0
        self.array.fill(0)
        unpin, self._unpin = self._unpin, None
        if unpin is not None:
            try:
                unpin()
            except Exception as error:  # noqa: BLE001 - a failing driver must not stop the shutdown
                log.warning("memory stays page-locked: %s", error)

    def __enter__(self) -> MappedMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_pin() -> Pin | None:
    """Return `pin_for_gpu` where Numba finds a GPU, else None. The simulator has no such memory."""
    from numba import config, cuda

    if config.ENABLE_CUDASIM or not cuda.is_available():
        return None
    return pin_for_gpu


def pin_for_gpu(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
    """Page-lock and map memory in the primary context, in which Numba's kernels run."""
    from numba import cuda

    pinned = [cuda.current_context().mempin(owner, address, size, mapped=True)]
    pointer = pinned[0].device_pointer  # a ctypes number, cuda-python's CUdeviceptr or an int

    def unpin() -> None:
        cuda.current_context()  # the thread that returns the last frame needs a context too
        pinned.clear()  # Numba unmaps when the last reference is gone

    return int(getattr(pointer, "value", pointer)), unpin


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """A C-contiguous array in GPU memory.

    The kernel that writes it is enqueued on `stream`, so a reader on the same stream needs no
    synchronization.
    """

    ptr: int
    shape: tuple[int, ...]
    dtype: str
    stream: int
    """CUstream handle."""
    owner: object = field(repr=False, compare=False)
    """Keeps the memory alive."""


Tensor = NDArray[np.float32] | DeviceArray
"""A network's input or output: an array in host memory or in GPU memory."""

"""Host memory that the CPU, a camera's driver and the GPU all see.

It is ordinary memory that is page-locked and mapped for the GPU afterwards (cuMemHostRegister),
not CUDA's own kind (cudaHostAlloc): a V4L2 driver that is to fill it must be able to take hold of
its pages (get_user_pages), and the pages of another driver's mapping are not for that. It is
shared (MAP_SHARED), because a fork would part private pages from the ones the driver holds.

An array in the memory of the GPU, passed from a kernel to an engine without a copy.
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
"""(owner, address, bytes) -> (the address on the GPU, what ends that, from any thread)."""


class MapError(OSError):
    """Memory that cannot be page-locked; the message says why, in one line."""


class MappedMemory:
    """At least `size` bytes from a page boundary on. A context manager; `close` may be called
    twice.

    `close` overwrites it with zeros and takes it from the GPU. The memory itself goes with the last
    array that looks at it.
    """

    def __init__(self, size: int, pin: Pin | None = None) -> None:
        """`pin`: `find_pin()`, or None for plain memory. Raises MapError, ValueError."""
        if size <= 0:
            raise ValueError(f"memory of {size} bytes cannot be mapped")
        self.pages = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.array: NDArray[np.uint8] = np.frombuffer(self.pages, np.uint8)
        """All of it, whole pages, uint8."""
        self.array.fill(0)  # the pages are there now, not when the first picture comes
        self.address = self.array.ctypes.data
        self.device_ptr = 0
        """Where the GPU sees the first byte; 0 when it does not."""
        self._unpin: Callable[[], None] | None = None
        if pin is not None:
            try:
                self.device_ptr, self._unpin = pin(self.array, self.address, self.array.nbytes)
            except Exception as error:  # numba's errors share no base that loads without CUDA
                reason = " ".join(str(error).split())
                raise MapError(f"{size} bytes cannot be page-locked: {reason}") from error

    def close(self) -> None:
        """Nothing on the GPU may be using it any more. What lay there is overwritten."""
        self.device_ptr = 0
        self.array.fill(0)
        unpin, self._unpin = self._unpin, None
        if unpin is not None:
            try:
                unpin()
            except Exception as error:  # noqa: BLE001 - the driver is in trouble and will say so
                log.warning("memory stays page-locked: %s", error)

    def __enter__(self) -> MappedMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_pin() -> Pin | None:
    """`pin_for_gpu` where Numba sees a GPU (its simulator has no such memory), else None."""
    from numba import config, cuda

    if config.ENABLE_CUDASIM or not cuda.is_available():
        return None
    return pin_for_gpu


def pin_for_gpu(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
    """Page-lock and map memory in the primary context, the one that Numba's kernels run in."""
    from numba import cuda

    pinned = [cuda.current_context().mempin(owner, address, size, mapped=True)]
    pointer = pinned[0].device_pointer  # a ctypes number, cuda-python's CUdeviceptr or an int

    def unpin() -> None:
        cuda.current_context()  # whichever thread gives the last picture back needs one as well
        pinned.clear()  # Numba unmaps at once when its object goes

    return int(getattr(pointer, "value", pointer)), unpin


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """C-contiguous numbers at an address of the GPU.

    What wrote them was enqueued on `stream`: whoever reads them on the same stream needs no wait.
    """

    ptr: int
    shape: tuple[int, ...]
    dtype: str
    stream: int
    """CUstream handle."""
    owner: object = field(repr=False, compare=False)
    """Keeps the memory alive."""


Tensor = NDArray[np.float32] | DeviceArray
"""What a network reads: an array of the host or of the GPU."""

"""The memory that a V4L2 driver's pictures come in: ours, or the driver's and copied.

A picture is lent out as an array. Its memory is used again when nobody looks at that array, or at
a part of it, any more: the pipeline may take as long as it likes and never sees a picture that is
half the next one.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import weakref

import numpy as np
from numpy.typing import NDArray

from ...kernels.mapped import MappedMemory, Pin
from . import v4l2_abi as abi
from .v4l2_device import Handle

Picture = NDArray[np.uint8]

READERS = 3
"""Pictures that are looked at in the same moment: the pipeline's, the face finder's, the newest."""
WITH_DRIVER = 2
"""One is filled while another waits: with fewer the driver has nowhere to put the next picture."""


class PicturePool:
    """Memory for `count` pictures of `size` bytes each."""

    def __init__(self, count: int, size: int, pin: Pin | None) -> None:
        """Raises MapError when the GPU's driver does not take the memory."""
        self.memories: list[MappedMemory] = []
        self._loans: list[weakref.ref[Picture] | None] = [None] * count
        try:
            self.memories += (MappedMemory(size, pin) for _ in range(count))
        except OSError:
            self.close()
            raise

    @property
    def in_gpu(self) -> bool:
        """Does the GPU see it?"""
        return all(memory.device_ptr for memory in self.memories)

    def lend(self, index: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Picture:
        # Made from the pages and not from an array over them, so that its parts keep it alive: in
        # NumPy the part of a view refers to the array under the view.
        picture: Picture = np.ndarray(
            shape, np.uint8, buffer=self.memories[index].pages, strides=strides
        )
        self._loans[index] = weakref.ref(picture)
        return picture

    def is_free(self, index: int) -> bool:
        loan = self._loans[index]
        return loan is None or loan() is None

    def close(self) -> None:
        """Memory that is still lent is taken from the GPU when it comes back."""
        for memory, loan in zip(self.memories, self._loans, strict=False):
            picture = loan() if loan is not None else None
            if picture is None:
                memory.close()
            else:
                weakref.finalize(picture, memory.close).atexit = False
        self.memories = []


class OurBuffers:
    """V4L2_MEMORY_USERPTR: the driver fills our memory, nothing is copied. Is streaming."""

    memory = abi.MEMORY_USERPTR

    def __init__(self, handle: Handle, size: int, pin: Pin | None) -> None:
        """Raises OSError when the driver does not take memory of ours."""
        self._handle = handle
        self._pool = PicturePool(READERS + 1 + WITH_DRIVER, size, pin)
        self._lent: list[int] = []
        self._queued = 0
        self.copies = 0
        """Of the newest picture, like `in_gpu`."""
        self.in_gpu = self._pool.in_gpu
        try:
            count = _request(handle, self.memory, len(self._pool.memories))
            for index in range(min(count, len(self._pool.memories))):
                self.queue(index)
            _switch(handle, abi.STREAMON)
        except OSError:
            self.close()
            raise

    def queue(self, index: int) -> None:
        memory = self._pool.memories[index]
        buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=self.memory)
        buffer.m.userptr = memory.address
        buffer.length = memory.array.nbytes
        self._handle.ioctl(abi.QBUF, buffer)
        self._queued += 1

    def take(self) -> abi.Buffer:
        """The oldest picture that is ready. Raises OSError, BlockingIOError when there is none."""
        buffer = abi.Buffer(type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.DQBUF, buffer)
        self._queued -= 1
        return buffer

    def hand_out(
        self, buffer: abi.Buffer, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> tuple[Picture, int]:
        """The picture and its address on the GPU. Copied only when too many are still held."""
        picture = self._pool.lend(buffer.index, shape, strides)
        if self._queued < WITH_DRIVER:
            picture, ptr = picture.copy(), 0
            self.queue(buffer.index)
            self.copies = 1
        else:
            ptr = self._pool.memories[buffer.index].device_ptr
            self._lent.append(buffer.index)
            self.copies = 0
        self.in_gpu = bool(ptr)
        return picture, ptr

    def reclaim(self) -> None:
        """Give the driver what nobody looks at any more."""
        for index in [index for index in self._lent if self._pool.is_free(index)]:
            self._lent.remove(index)
            self.queue(index)

    def close(self) -> None:
        _release(self._handle, self.memory)
        self._pool.close()


class DriverBuffers:
    """V4L2_MEMORY_MMAP: the driver fills its own memory and we copy each picture out, once. Is
    streaming."""

    memory = abi.MEMORY_MMAP
    copies = 1

    def __init__(self, handle: Handle, size: int, pin: Pin | None) -> None:
        """Raises OSError."""
        self._handle = handle
        self._maps: list[mmap.mmap] = []
        self._pool = PicturePool(READERS + 1, size, pin)
        self.in_gpu = self._pool.in_gpu
        try:
            for index in range(_request(handle, self.memory, WITH_DRIVER + 1)):
                buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=self.memory)
                handle.ioctl(abi.QUERYBUF, buffer)
                self._maps.append(handle.map(buffer.length, buffer.m.offset))
                self.queue(index)
            _switch(handle, abi.STREAMON)
        except OSError:
            self.close()
            raise

    def queue(self, index: int) -> None:
        buffer = abi.Buffer(index=index, type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.QBUF, buffer)

    def take(self) -> abi.Buffer:
        """As `OurBuffers.take`."""
        buffer = abi.Buffer(type=abi.CAPTURE, memory=self.memory)
        self._handle.ioctl(abi.DQBUF, buffer)
        return buffer

    def hand_out(
        self, buffer: abi.Buffer, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> tuple[Picture, int]:
        """A copy, and its address on the GPU: 0 when so many are held that it found no place."""
        filled: Picture = np.ndarray(
            shape, np.uint8, buffer=self._maps[buffer.index], strides=strides
        )
        free = [i for i in range(len(self._pool.memories)) if self._pool.is_free(i)]
        if free:
            picture = self._pool.lend(free[0], shape, strides)
            ptr = self._pool.memories[free[0]].device_ptr
            np.copyto(picture, filled)
        else:
            picture, ptr = filled.copy(), 0
        self.in_gpu = bool(ptr)
        self.queue(buffer.index)
        return picture, ptr

    def reclaim(self) -> None:
        """The driver has its own back already."""

    def close(self) -> None:
        for mapped in self._maps:
            mapped.close()
        self._maps = []
        _release(self._handle, self.memory)
        self._pool.close()


def _request(handle: Handle, memory: int, count: int) -> int:
    """The number of buffers there are, which may be another than `count`."""
    request = abi.RequestBuffers(count=count, type=abi.CAPTURE, memory=memory)
    handle.ioctl(abi.REQBUFS, request)
    return int(request.count)


def _switch(handle: Handle, number: int) -> None:
    handle.ioctl(number, struct.pack("i", abi.CAPTURE))


def _release(handle: Handle, memory: int) -> None:
    """Take all buffers back from the driver, or from what is left of it."""
    with contextlib.suppress(OSError):
        _switch(handle, abi.STREAMOFF)
    with contextlib.suppress(OSError):
        _request(handle, memory, 0)

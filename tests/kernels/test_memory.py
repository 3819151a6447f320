"""Page-locked memory, with a stand-in for the driver's call, and on a GPU where there is one."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emotion_edge.kernels.memory import MapError, MappedMemory, find_pin, pin_for_gpu


class Pinned:
    """What Numba returns: it unmaps when its last reference is gone."""

    def __init__(self, device_pointer: object) -> None:
        self.device_pointer = device_pointer


class Context:
    """Numba's context, with a driver that maps everything at `device_pointer`."""

    def __init__(self, device_pointer: object) -> None:
        self.device_pointer = device_pointer
        self.calls: list[tuple[int, int, bool]] = []
        self.pinned: list[weakref.ref[Pinned]] = []

    def mempin(self, owner: object, pointer: int, size: int, mapped: bool) -> Pinned:
        self.calls.append((pointer, size, mapped))
        pinned = Pinned(self.device_pointer)
        self.pinned.append(weakref.ref(pinned))
        return pinned


class CuDevicePtr:
    """cuda-python's: converts to int and has no value."""

    def __int__(self) -> int:
        return 77


def test_plain_memory_is_whole_pages() -> None:
    """Without a GPU: whole pages from a page boundary on, zero, writable."""
    with MappedMemory(mmap.PAGESIZE + 1) as memory:
        assert memory.array.shape == (2 * mmap.PAGESIZE,)
        assert memory.address == memory.array.ctypes.data
        assert memory.address % mmap.PAGESIZE == 0
        assert memory.device_ptr == 0
        assert not memory.array.any()
        ctypes.memset(memory.address + 5, 9, 1)
        assert memory.array[5] == 9
        array = memory.array
    assert not array.any()  # overwritten, and still allocated: an array refers to it
    array[:] = 3
    memory.close()
    assert not array.any()


def test_memory_is_overwritten_while_it_is_held() -> None:
    """Before it is unpinned: afterwards the system may reuse the pages."""
    seen: list[bool] = []
    memory = MappedMemory(
        10, lambda owner, address, size: (77, lambda: seen.append(bool(memory.array.any())))
    )
    memory.array[:] = 200
    memory.close()
    assert seen == [False]


@pytest.mark.parametrize("pointer", [77, ctypes.c_uint64(77), CuDevicePtr()])
def test_memory_is_pinned_in_the_current_context(
    monkeypatch: pytest.MonkeyPatch, pointer: object
) -> None:
    """Every pointer type of Numba's versions becomes an integer; closing unpins once."""
    from numba import cuda

    context = Context(pointer)
    monkeypatch.setattr(cuda, "current_context", lambda: context)
    memory = MappedMemory(10, pin_for_gpu)
    assert memory.device_ptr == 77
    assert context.calls == [(memory.address, mmap.PAGESIZE, True)]
    assert context.pinned[0]() is not None
    memory.close()
    assert context.pinned[0]() is None
    memory.close()
    assert memory.device_ptr == 0


def test_memory_is_unpinned_once(caplog: pytest.LogCaptureFixture) -> None:
    """A driver that fails to unpin is a warning and no crash, and is not called again."""
    calls: list[bool] = []

    def fail() -> None:
        calls.append(True)
        raise RuntimeError("[4] CUDA_ERROR_DEINITIALIZED")

    memory = MappedMemory(10, lambda owner, address, size: (address, fail))
    assert calls == []
    memory.close()
    memory.close()
    assert calls == [True]
    assert "CUDA_ERROR_DEINITIALIZED" in caplog.text


def test_memory_that_cannot_be_pinned() -> None:
    """The message is one line with the size and the driver's reason. Size 0 is a ValueError."""

    def refuse(owner: object, address: int, size: int) -> tuple[int, Callable[[], None]]:
        raise RuntimeError("[712] CUDA_ERROR\nHOST_MEMORY_ALREADY_REGISTERED")

    with pytest.raises(MapError, match=r"^10 bytes .*\[712\] CUDA_ERROR HOST_MEMORY_ALR"):
        MappedMemory(10, refuse)
    with pytest.raises(ValueError, match="0 bytes"):
        MappedMemory(0)


@pytest.mark.parametrize(
    ("is_simulated", "available", "pinned"),
    [(True, True, False), (False, False, False), (0, True, True)],
)
def test_memory_is_pinned_only_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, is_simulated: Any, available: bool, pinned: bool
) -> None:
    """Neither the simulator nor a machine without a GPU has page-locked memory."""
    from numba import config, cuda

    monkeypatch.setattr(config, "ENABLE_CUDASIM", is_simulated)
    monkeypatch.setattr(cuda, "is_available", lambda: available)
    assert find_pin() == (pin_for_gpu if pinned else None)


@pytest.mark.gpu
def test_gpu_reads_what_the_host_wrote() -> None:
    """A kernel sees the bytes in place, without a copy."""
    pin = find_pin()
    if pin is None:
        pytest.skip("no GPU that Numba can use")
    from numba import cuda

    with MappedMemory(1000, pin) as memory:
        memory.array[:1000] = np.arange(1000) % 251
        on_gpu = cuda.from_cuda_array_interface(
            {
                "version": 3,
                "shape": (1000,),
                "typestr": "|u1",
                "data": (memory.device_ptr, False),
            }
        )
        assert np.array_equal(on_gpu.copy_to_host(), memory.array[:1000])

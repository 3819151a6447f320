"""The few matters of the CUDA driver that the CUDA kernels share: is there a GPU, what failed,
memory that both sides see. Importing this module loads no Numba and touches no GPU.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEVICE_NODES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu/igpu*")
"""Under /dev: of a PC and JetPack 7, of JetPack 5, of JetPack 6."""


class PreprocessorError(RuntimeError):
    """A preprocessor that this machine cannot run; the message says why, in one line."""


def has_gpu(dev: Path = Path("/dev")) -> bool:
    """Whether the system shows an NVIDIA GPU. Nothing is loaded or opened to find out."""
    return any(True for pattern in DEVICE_NODES for _ in dev.glob(pattern))


def is_simulated() -> bool:
    """Whether Numba runs CUDA kernels in its simulator (NUMBA_ENABLE_CUDASIM was set)."""
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)


@contextmanager
def wrap_cuda_errors() -> Iterator[None]:
    """What Numba or the driver raises becomes a PreprocessorError. A ValueError stays one."""
    known = _list_errors()
    try:
        yield
    except PreprocessorError:
        raise
    except known as error:
        reason = " ".join(str(error).split()).rstrip(" :") or type(error).__name__
        raise PreprocessorError(f"CUDA cannot be used: {reason}") from error


def _list_errors() -> tuple[type[Exception], ...]:
    """The errors of the driver, of the compilers and of missing libraries share no base, and
    numba-cuda, which may stand in for Numba's own CUDA target, has some of its own."""
    from numba.core import errors
    from numba.cuda.cudadrv import error as cuda_errors

    names = ("CudaDriverError", "CudaRuntimeError", "NvvmError", "NvrtcError")
    found = [getattr(cuda_errors, name, RuntimeError) for name in names]  # not all are everywhere
    found += [ImportError, RuntimeError, OSError, errors.NumbaError]
    with suppress(ImportError):
        from numba.cuda.core.errors import NumbaError

        found.append(NumbaError)
    return tuple(found)


@contextmanager
def ignore_small_grid_warnings() -> Iterator[None]:
    """Numba warns of a launch of few blocks when it is first put together. A few blocks per frame
    are what these kernels are."""
    with warnings.catch_warnings():
        # By its text: the category has another place in numba-cuda. Colour codes come before it.
        warnings.filterwarnings("ignore", message=".*Grid size")
        yield


def open_stream() -> Any:
    """Make the primary context of GPU 0 current -> a new Numba stream on it, not the default one.

    It is the context that TensorRT, pycuda.autoprimaryctx and jetson-utils use too, so that an
    address of one is an address of all.
    """
    from numba import cuda

    cuda.select_device(0)
    return cuda.stream()


def stream_handle(stream: Any) -> int:
    """CUstream as an integer. The simulator has no streams: 0."""
    return 0 if is_simulated() else int(stream)


def address_of(array: Any) -> int:
    """Where the GPU sees the first number of a Numba device array. In the simulator the GPU's
    memory is the host's."""
    protocol = "__array_interface__" if is_simulated() else "__cuda_array_interface__"
    return int(getattr(array, protocol)["data"][0])


def wrap_bytes(address: int, num_bytes: int) -> Any:
    """Memory that somebody else owns as a Numba device array, uint8 (num_bytes,). Nothing is
    copied and nothing kept alive."""
    if is_simulated():
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        memory = (ctypes.c_uint8 * num_bytes).from_address(address)
        return FakeCUDAArray(np.ctypeslib.as_array(memory))
    from numba import cuda

    return cuda.from_cuda_array_interface(
        {"version": 3, "shape": (num_bytes,), "typestr": "|u1", "data": (address, False)}
    )


@dataclass(frozen=True, slots=True)
class Staging:
    """Page-locked host memory that the GPU reads in place: what `host` holds, kernels see in
    `device`."""

    host: NDArray[Any]
    device: Any
    read: Any
    """Event: recorded when the kernels that read it are enqueued."""

    def wait(self) -> None:
        """Until the GPU has read what lies there. It nearly always has: the last use is a frame
        ago."""
        self.read.synchronize()


def make_staging(size: int, dtype: str) -> Staging:
    """`size` numbers, zero."""
    from numba import cuda

    device = cuda.mapped_array(size, np.dtype(dtype))
    host = np.asarray(device)
    host[:] = 0
    event = cuda.event() if is_simulated() else cuda.event(timing=False)
    return Staging(host, device, event)

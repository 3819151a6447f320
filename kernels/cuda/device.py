"""GPU detection, error translation, streams and page-locked memory for the CUDA kernels.

Importing this module neither loads Numba nor opens the GPU.
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

from ... import Error

DEVICE_NODES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu/igpu*")
"""The GPU's device nodes in /dev: of a PC and JetPack 7, of JetPack 5, of JetPack 6."""


class PreprocessorError(Error, RuntimeError):
    """This machine cannot run a preprocessor; the message is one line with the reason."""


def has_gpu(dev: Path = Path("/dev")) -> bool:
    """Check whether the system shows an NVIDIA GPU, without loading or opening anything."""
    return any(True for pattern in DEVICE_NODES for _ in dev.glob(pattern))


def is_simulated() -> bool:
    """Check whether Numba runs CUDA kernels in its simulator (NUMBA_ENABLE_CUDASIM is set)."""
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)


@contextmanager
def wrap_cuda_errors() -> Iterator[None]:
    """Turn errors of Numba and of the driver into PreprocessorError. A ValueError passes."""
    known = _list_errors()
    try:
        yield
    except PreprocessorError:
        raise
    except known as error:
        reason = " ".join(str(error).split()).rstrip(" :") or type(error).__name__
        raise PreprocessorError(f"CUDA cannot be used: {reason}") from error


def _list_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the driver, the compilers and missing libraries.

    They share no base class, and numba-cuda, which may replace Numba's own CUDA target, adds some.
    """
    from numba.core import errors
    from numba.cuda.cudadrv import error as cuda_errors

    names = ("CudaDriverError", "CudaRuntimeError", "NvvmError", "NvrtcError")
    # No version has all of them.
    errors_of_cuda = [getattr(cuda_errors, name, RuntimeError) for name in names]
    errors_of_cuda += [ImportError, RuntimeError, OSError, errors.NumbaError]
    with suppress(ImportError):
        from numba.cuda.core.errors import NumbaError

        errors_of_cuda.append(NumbaError)
    return tuple(errors_of_cuda)


@contextmanager
def ignore_small_grid_warnings() -> Iterator[None]:
    """Suppress Numba's warning about launches of few blocks: these kernels need only a few."""
    with warnings.catch_warnings():
        # Matched by its text, after color codes: numba-cuda has the category in another module.
        warnings.filterwarnings("ignore", message=".*Grid size")
        yield


def open_stream() -> Any:
    """Make the primary context of GPU 0 current and open a new Numba stream in it.

    TensorRT, pycuda.autoprimaryctx and jetson-utils use the same context, so addresses are valid in
    all of them.
    """
    from numba import cuda

    cuda.select_device(0)
    return cuda.stream()


def stream_handle(stream: Any) -> int:
    """Return the CUstream as an integer; 0 in the simulator, which has no streams."""
    return 0 if is_simulated() else int(stream)


def address_of(array: Any) -> int:
    """Return the GPU's address of a Numba device array. The simulator's memory is the host's."""
    protocol = "__array_interface__" if is_simulated() else "__cuda_array_interface__"
    return int(getattr(array, protocol)["data"][0])


def wrap_bytes(address: int, num_bytes: int) -> Any:
    """Wrap memory as a Numba device array, uint8 (num_bytes,), without copying or owning it."""
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
    """Page-locked host memory that the GPU reads in place.

    `host` and `device` are the same bytes.
    """

    host: NDArray[Any]
    device: Any
    read: Any
    """Event, recorded after the kernels that read the memory."""

    def wait(self) -> None:
        """Wait until the GPU has read the memory, which a frame later it nearly always has."""
        self.read.synchronize()


def make_staging(size: int, dtype: str) -> Staging:
    """Allocate `size` numbers of `dtype`, all 0."""
    from numba import cuda

    device = cuda.mapped_array(size, np.dtype(dtype))
    host = np.asarray(device)
    host[:] = 0
    event = cuda.event() if is_simulated() else cuda.event(timing=False)
    return Staging(host, device, event)

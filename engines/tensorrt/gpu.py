"""The NVIDIA GPU: its description, its CUDA context, and the memory for a build.

Out: a `Gpu`, opened through pycuda, and the builder's workspace, or an EngineError where there is
no GPU or too little memory. Importing this module does not touch the GPU.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import EngineError

L4T_RELEASE = Path("/etc/nv_tegra_release")
MEMINFO = Path("/proc/meminfo")
MIN_FREE_MB = 1500
"""No build starts under this. The builder's own kernels take about 1 GB; not measured on a
Jetson."""
MIN_WORKSPACE_MB = 64
MAX_WORKSPACE_MB = 1024
"""Far more than networks this small can use."""
WORKSPACE_FRACTION = 0.25


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that engines are built for, with its context open."""

    name: str
    num_sms: int
    compute_capability: str
    """Such as "8.7"."""
    integrated: bool
    """It shares the machine's memory, as on a Jetson."""
    driver: Any
    """The module `pycuda.driver`."""


def read_l4t_release(file: Path = L4T_RELEASE) -> str:
    """Return a Jetson's Linux release, such as "# R36 (release), REVISION: 4.3"; "" elsewhere."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return ",".join(lines[0].split(",")[:2]).strip() if lines else ""


def open_gpu() -> Gpu:
    """Make the primary context of the GPU current. Raises EngineError.

    Numba, TensorRT and jetson-utils use this context too, so they share addresses.
    `pycuda.autoinit` would create another context.
    """
    if threading.current_thread() is not threading.main_thread():
        # pycuda aborts the process when another thread ends with a context on its stack.
        raise EngineError("the GPU must be opened on the main thread")
    try:
        import pycuda.autoprimaryctx
        import pycuda.driver
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("pycuda"):
            raise EngineError(f"pycuda cannot be loaded: {error}") from error
        raise EngineError("pycuda is not installed: pip install pycuda") from error
    except (ImportError, OSError) as error:
        raise EngineError(
            f"pycuda cannot be loaded: {error}: install the NVIDIA driver, or compile pycuda"
            " again for it: pip install --force-reinstall --no-cache-dir pycuda"
        ) from error
    except Exception as error:  # pycuda's errors cannot be named before it is loaded
        raise EngineError(f"no CUDA device can be used: {error}") from error
    driver = pycuda.driver
    compiled_for, supported = driver.get_version()[0], driver.get_driver_version() // 1000
    if supported < compiled_for:
        raise EngineError(
            f"the NVIDIA driver is too old: it is for CUDA {supported}, pycuda was compiled for"
            f" CUDA {compiled_for}"
        )
    try:
        device = pycuda.autoprimaryctx.device
        attribute = driver.device_attribute
        return Gpu(
            name=device.name(),
            num_sms=device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
            compute_capability=".".join(map(str, device.compute_capability())),
            integrated=bool(device.get_attribute(attribute.INTEGRATED)),
            driver=driver,
        )
    except driver.Error as error:
        raise EngineError(f"the GPU does not answer: {error}") from error


def read_free_bytes(gpu: Gpu) -> int | None:
    """Return the free memory of a discrete GPU, None of an integrated one. Raises EngineError."""
    if gpu.integrated:
        return None
    try:
        return int(gpu.driver.mem_get_info()[0])
    except gpu.driver.Error as error:
        raise EngineError(f"the GPU does not answer: {error}") from error


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Free memory of the machine, in MB of 2^20 bytes."""

    available_mb: int
    """Memory that programs can allocate without swapping."""
    nvmap_mb: int
    """Unpageable memory of a Jetson's GPU driver; 0 elsewhere."""


def read_free_memory(meminfo: Path = MEMINFO) -> FreeMemory:
    """Read the kernel's figures. Raises EngineError where they are missing."""
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
        values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        available = int(values["MemAvailable"][0]) // 1024
        return FreeMemory(available, int(values.get("NvMapMemUsed", ["0"])[0]) // 1024)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise EngineError(f"{meminfo}: has no MemAvailable") from error


def choose_workspace(memory: FreeMemory, gpu_free_bytes: int | None) -> int:
    """Return the builder's workspace in bytes. Raises EngineError when memory is too low.

    `gpu_free_bytes` is the free memory of a discrete GPU. On a Jetson it is None: cudaMemGetInfo
    counts the page cache as used and ignores swap, so only the kernel's figures count.
    """
    free_mb = memory.available_mb
    if free_mb < MIN_FREE_MB:
        nvmap = f", the GPU's driver uses {memory.nvmap_mb} MB" if memory.nvmap_mb else ""
        raise EngineError(
            f"{free_mb} MB of memory are free{nvmap}: building an engine takes {MIN_FREE_MB} MB;"
            " close programs or the desktop (sudo systemctl isolate multi-user.target)"
        )
    if gpu_free_bytes is not None:
        free_mb = min(free_mb, gpu_free_bytes >> 20)
        if free_mb < MIN_WORKSPACE_MB / WORKSPACE_FRACTION:
            raise EngineError(f"{free_mb} MB of GPU memory are free: close programs that use it")
    share = int(free_mb * WORKSPACE_FRACTION)
    return max(MIN_WORKSPACE_MB, min(share, MAX_WORKSPACE_MB)) << 20

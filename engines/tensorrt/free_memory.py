"""How much memory there is for building an engine.

In: /proc/meminfo and what CUDA says. Out: the builder's workspace, or an EngineError where a
build would run the machine out of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base import EngineError

MEMINFO = Path("/proc/meminfo")
MIN_FREE_MB = 1500
"""Under this no build is begun. The builder's own kernels take about 1 GB; not measured on a
Jetson."""
MIN_WORKSPACE_MB = 64
MAX_WORKSPACE_MB = 1024
"""Far more than networks this small can use."""
WORKSPACE_FRACTION = 0.25


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """In MB of 2^20 bytes."""

    available_mb: int
    """What programs can still have without swapping."""
    nvmap_mb: int
    """What a Jetson's GPU driver holds and nothing can page out; 0 elsewhere."""


def read_free_memory(meminfo: Path = MEMINFO) -> FreeMemory:
    """Raises EngineError where the kernel does not say."""
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
        values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        available = int(values["MemAvailable"][0]) // 1024
        return FreeMemory(available, int(values.get("NvMapMemUsed", ["0"])[0]) // 1024)
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise EngineError(f"{meminfo}: does not say how much memory is free") from error


def choose_workspace(memory: FreeMemory, gpu_free_bytes: int | None) -> int:
    """Bytes that the builder may use for a trial. Raises EngineError when there is too little.

    `gpu_free_bytes` is what a GPU with memory of its own has left. On a Jetson it is None:
    cudaMemGetInfo counts the page cache as used and knows no swap, so the kernel is asked alone.
    """
    free_mb = memory.available_mb
    if free_mb < MIN_FREE_MB:
        held = f", the GPU's driver holds {memory.nvmap_mb} MB" if memory.nvmap_mb else ""
        raise EngineError(
            f"{free_mb} MB of memory are free{held}: building an engine takes {MIN_FREE_MB} MB;"
            " close programs or the desktop (sudo systemctl isolate multi-user.target)"
        )
    if gpu_free_bytes is not None:
        free_mb = min(free_mb, gpu_free_bytes >> 20)
        if free_mb < MIN_WORKSPACE_MB / WORKSPACE_FRACTION:
            raise EngineError(f"{free_mb} MB of the GPU's memory are free: close what uses it")
    share = int(free_mb * WORKSPACE_FRACTION)
    return max(MIN_WORKSPACE_MB, min(share, MAX_WORKSPACE_MB)) << 20

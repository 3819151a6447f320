"""How much a build may take, and when it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.tensorrt.gpu import FreeMemory, choose_workspace, read_free_memory

MB = 1 << 20


def test_reads_what_the_kernel_says(tmp_path: Path) -> None:
    """With what a Jetson's GPU driver holds, where there is one."""
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 7811072 kB\nMemAvailable:    4194304 kB\nNvMapMemUsed:  204800 kB\n")
    assert read_free_memory(file) == FreeMemory(4096, 200)
    file.write_text("MemAvailable:    4194304 kB\nHugePages_Total:       0\n")
    assert read_free_memory(file) == FreeMemory(4096, 0)


@pytest.mark.parametrize("text", [None, "", "MemAvailable:\n", "MemAvailable: many kB\n"])
def test_a_kernel_that_does_not_say(tmp_path: Path, text: str | None) -> None:
    """The file is named."""
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    with pytest.raises(EngineError, match="meminfo: does not say how much memory is free"):
        read_free_memory(tmp_path / "meminfo")


@pytest.mark.parametrize(
    ("available_mb", "gpu_mb", "workspace_mb"),
    [(1500, None, 375), (4000, None, 1000), (60_000, None, 1024), (8000, 400, 100)],
)
def test_a_share_within_limits(available_mb: int, gpu_mb: int | None, workspace_mb: int) -> None:
    """A quarter of the smaller of both memories."""
    gpu_bytes = None if gpu_mb is None else gpu_mb * MB
    assert choose_workspace(FreeMemory(available_mb, 0), gpu_bytes) == workspace_mb * MB


def test_too_little_is_refused() -> None:
    """With what is free, what is needed and what to do."""
    with pytest.raises(
        EngineError, match=r"^1499 MB of memory are free, the GPU's driver holds 700 MB: .*1500 MB"
    ):
        choose_workspace(FreeMemory(1499, 700), None)
    with pytest.raises(EngineError, match="100 MB of the GPU's memory are free"):
        choose_workspace(FreeMemory(8000, 0), 100 * MB)

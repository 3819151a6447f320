"""The GPU: its description, the errors of opening it, and the memory for a build."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.tensorrt.gpu import (
    FreeMemory,
    choose_workspace,
    open_gpu,
    read_free_bytes,
    read_free_memory,
    read_l4t_release,
)

from ..fake_cuda import FakeGpu

MB = 1 << 20


def test_l4t_release(tmp_path: Path) -> None:
    """The first two fields of the first line; empty without the file."""
    file = tmp_path / "release"
    assert read_l4t_release(file) == ""
    file.write_text("")
    assert read_l4t_release(file) == ""
    file.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n# KERNEL\n")
    assert read_l4t_release(file) == "# R36 (release), REVISION: 4.3"


def test_describes_the_gpu(gpu: FakeGpu) -> None:
    """The properties that an engine depends on."""
    orin = open_gpu()
    assert (orin.name, orin.num_sms, orin.compute_capability) == ("Orin", 8, "8.7")
    assert orin.integrated
    assert read_free_bytes(orin) is None
    gpu.integrated = False
    assert read_free_bytes(open_gpu()) == 2 << 30


@pytest.mark.usefixtures("gpu")
def test_main_thread_only() -> None:
    """pycuda would abort the process at the end of another thread."""
    with ThreadPoolExecutor() as pool, pytest.raises(EngineError, match="main thread"):
        pool.submit(open_gpu).result()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder for a broken pycuda, first on the search path."""
    for name in list(sys.modules):
        if name.split(".")[0] == "pycuda":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    yield tmp_path / "pycuda"
    for name in list(sys.modules):
        if name.split(".")[0] == "pycuda":
            del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('No CUDA enabled device found.')", "No CUDA enabled device found"),
        ("raise ImportError('libcuda.so.1: cannot open')", r"pycuda .*libcuda\.so\.1"),
        ("import pytools_is_missing", "pycuda .*pytools_is_missing"),
    ],
)
def test_broken_pycuda(broken: Path, code: str, reason: str) -> None:
    """No device, no driver, an incomplete installation: one line each with the reason."""
    (broken / "autoprimaryctx.py").write_text(code)
    with pytest.raises(EngineError, match=reason):
        open_gpu()


def test_no_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the package to install."""
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(EngineError, match="pip install pycuda"):
        open_gpu()


def test_free_memory(tmp_path: Path) -> None:
    """A Jetson also has the memory of its GPU driver."""
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 7811072 kB\nMemAvailable:    4194304 kB\nNvMapMemUsed:  204800 kB\n")
    assert read_free_memory(file) == FreeMemory(4096, 200)
    file.write_text("MemAvailable:    4194304 kB\nHugePages_Total:       0\n")
    assert read_free_memory(file) == FreeMemory(4096, 0)


@pytest.mark.parametrize("text", [None, "", "MemAvailable:\n", "MemAvailable: many kB\n"])
def test_kernel_without_figures(tmp_path: Path, text: str | None) -> None:
    """The file is named."""
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    with pytest.raises(EngineError, match=str(tmp_path / "meminfo")):
        read_free_memory(tmp_path / "meminfo")


@pytest.mark.parametrize(
    ("available_mb", "gpu_mb", "workspace_mb"),
    [(1500, None, 375), (4000, None, 1000), (60_000, None, 1024), (8000, 400, 100)],
)
def test_workspace(available_mb: int, gpu_mb: int | None, workspace_mb: int) -> None:
    """A quarter of the smaller memory, within limits."""
    gpu_bytes = None if gpu_mb is None else gpu_mb * MB
    assert choose_workspace(FreeMemory(available_mb, 0), gpu_bytes) == workspace_mb * MB


def test_too_little_memory() -> None:
    """The message has the free and the required memory."""
    with pytest.raises(EngineError, match=r"^1499 MB .*700 MB.*1500 MB"):
        choose_workspace(FreeMemory(1499, 700), None)
    with pytest.raises(EngineError, match="100 MB"):
        choose_workspace(FreeMemory(8000, 0), 100 * MB)

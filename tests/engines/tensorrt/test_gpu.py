"""The GPU: seen, opened, described; and each way in which that fails."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.tensorrt.gpu import open_gpu, read_free_bytes, read_l4t_release

from ..fake_cuda import FakeGpu


def test_l4t_release(tmp_path: Path) -> None:
    """The first two fields of the first line; nothing where there is no such file."""
    file = tmp_path / "release"
    assert read_l4t_release(file) == ""
    file.write_text("")
    assert read_l4t_release(file) == ""
    file.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n# KERNEL\n")
    assert read_l4t_release(file) == "# R36 (release), REVISION: 4.3"


def test_describes_the_gpu(gpu: FakeGpu) -> None:
    """What an engine depends on."""
    found = open_gpu()
    assert (found.name, found.num_sms, found.compute_capability) == ("Orin", 8, "8.7")
    assert found.integrated
    assert read_free_bytes(found) is None
    gpu.integrated = False
    assert read_free_bytes(open_gpu()) == 2 << 30


@pytest.mark.usefixtures("gpu")
def test_main_thread_only() -> None:
    """pycuda would abort the process at the end of another."""
    said: list[str] = []

    def work() -> None:
        try:
            open_gpu()
        except EngineError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["the GPU must be opened on the main thread"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder for a pycuda that fails, first on the search path."""
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
    ("code", "says"),
    [
        ("raise RuntimeError('No CUDA enabled device found.')", "no CUDA device can be used: No"),
        ("raise ImportError('libcuda.so.1: cannot open')", "pycuda cannot be loaded: libcuda"),
        ("import pytools_is_missing", "pycuda cannot be loaded: No module named 'pytools_is"),
    ],
)
def test_pycuda_that_fails(broken: Path, code: str, says: str) -> None:
    """No device, no driver, half an installation: one line each."""
    (broken / "autoprimaryctx.py").write_text(code)
    with pytest.raises(EngineError, match=says):
        open_gpu()


def test_no_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(EngineError, match="pycuda is not installed: pip install pycuda"):
        open_gpu()

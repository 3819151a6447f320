"""Loading TensorRT: the message of each failure, and its log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.tensorrt.loader import (
    MAX_LINE,
    MAX_LINES,
    TensorRTDiagnostics,
    load_tensorrt,
    make_logger,
)

from ..fake_cuda import FakeGpu


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No TensorRT but a module that the test writes to this file."""
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tensorrt").mkdir()
    return tmp_path / "tensorrt" / "__init__.py"


@pytest.mark.usefixtures("gpu")
def test_version() -> None:
    """The version is part of every engine's key."""
    assert load_tensorrt() == "10.3.0"


@pytest.mark.parametrize("version", ["8.6.2", "10.2.0.19", "10.0.1"])
def test_too_old(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The message has the installed and the required version; JetPack 6.0 is too old."""
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", version)
    with pytest.raises(EngineError, match=rf"TensorRT {version} .*10\.3"):
        load_tensorrt()


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message has the package to install."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="python3-libnvinfer"):
        load_tensorrt(tmp_path)


@pytest.mark.parametrize("prefix", ["/home/a/.venv", sys.base_prefix])
def test_environment_without_the_systems_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str
) -> None:
    """JetPack installs it in the system's Python, which a virtual environment must include."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(sys, "prefix", prefix)
    package = tmp_path / "python3.10" / "dist-packages" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    remedy = "--system-site-packages /home/a/.venv"
    words = remedy if prefix != sys.base_prefix else sys.executable
    with pytest.raises(EngineError, match=f"{package.parent}.*{words}"):
        load_tensorrt(tmp_path)


@pytest.mark.parametrize("kind", ["ImportError", "OSError", "RuntimeError"])
def test_library_that_does_not_fit(absent: Path, kind: str) -> None:
    """The message has the linker's first line, as for JetPack 6's in a JetPack 5 container."""
    absent.write_text(f"raise {kind}('libnvdla.so: undefined symbol: _ZN5nvdla\\nTraceback')\n")
    with pytest.raises(EngineError, match=r"libnvdla\.so: undefined symbol") as e:
        load_tensorrt()
    assert "Traceback" not in str(e.value)


def test_incomplete_installation(absent: Path) -> None:
    """The package from the index without its libraries."""
    absent.write_text("import tensorrt_libs_are_missing\n")
    with pytest.raises(EngineError, match="tensorrt_libs_are_missing"):
        load_tensorrt()


@pytest.mark.usefixtures("gpu")
def test_log_goes_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are logged as INFO; errors as DEBUG, as the EngineError has them."""
    import tensorrt as trt

    diagnostics = TensorRTDiagnostics()
    logger = make_logger(diagnostics)
    severity = trt.ILogger.Severity
    no_reason = diagnostics.explain()
    with caplog.at_level(logging.DEBUG, "emotion_edge"):
        logger.log(severity.INFO, "hello")
        logger.log(severity.WARNING, "strange")
        assert diagnostics.explain() == "strange"
        logger.log(severity.ERROR, "wrong\n  here")
        logger.log(severity.INTERNAL_ERROR, "very wrong")
    assert diagnostics.explain() == "wrong here; very wrong"
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "DEBUG", "DEBUG"]
    diagnostics.clear()
    assert diagnostics.explain() == no_reason


@pytest.mark.usefixtures("gpu")
def test_log_is_kept_short() -> None:
    """The last lines, each cut to a maximum length."""
    import tensorrt as trt

    diagnostics = TensorRTDiagnostics()
    logger = make_logger(diagnostics)
    for number in range(20):
        line = f"{number} {'x' * 1000}"
        logger.log(trt.ILogger.Severity.ERROR, line)
    assert [line[:2] for line in diagnostics.errors] == ["16", "17", "18", "19"]
    assert len(diagnostics.explain()) <= MAX_LINES * (MAX_LINE + 2)

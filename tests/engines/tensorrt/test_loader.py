"""Loading TensorRT: each way in which that fails has its line; and what its log is turned into."""

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
    """No TensorRT, or the one that the test writes into this folder."""
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tensorrt").mkdir()
    return tmp_path / "tensorrt" / "__init__.py"


@pytest.mark.usefixtures("gpu")
def test_says_its_version() -> None:
    """Part of every engine's key."""
    assert load_tensorrt() == "10.3.0"


@pytest.mark.parametrize("version", ["8.6.2", "10.2.0.19", "10.0.1"])
def test_too_old(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """JetPack 6.0's, say; with the oldest that will do."""
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", version)
    with pytest.raises(EngineError, match=rf"TensorRT {version} is too old: 10\.3 or newer"):
        load_tensorrt()


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"not installed: .* install python3-libnvinfer"):
        load_tensorrt(tmp_path)


@pytest.mark.parametrize("prefix", ["/home/a/.venv", sys.base_prefix])
def test_environment_without_the_systems_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str
) -> None:
    """JetPack has it in the system: a virtual environment must be told to look there."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(sys, "prefix", prefix)
    package = tmp_path / "python3.10" / "dist-packages" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    way_on = (
        "python3 -m venv --system-site-packages /home/a/.venv"
        if prefix != sys.base_prefix
        else f"{sys.executable} does not read"
    )
    with pytest.raises(EngineError, match=f"TensorRT is in {package.parent}, .*{way_on}"):
        load_tensorrt(tmp_path)


@pytest.mark.parametrize("kind", ["ImportError", "OSError", "RuntimeError"])
def test_library_that_does_not_fit(absent: Path, kind: str) -> None:
    """JetPack 6's in a container on JetPack 5, say: the first line of what the linker says."""
    absent.write_text(f"raise {kind}('libnvdla.so: undefined symbol: _ZN5nvdla\\nTraceback')\n")
    with pytest.raises(EngineError, match=r"loaded: libnvdla\.so: undef.* container") as e:
        load_tensorrt()
    assert "Traceback" not in str(e.value)


def test_incomplete_installation(absent: Path) -> None:
    """The package of the index without its libraries."""
    absent.write_text("import tensorrt_libs_are_missing\n")
    with pytest.raises(EngineError, match="cannot be loaded: No module named 'tensorrt_libs"):
        load_tensorrt()


@pytest.mark.usefixtures("gpu")
def test_log_goes_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings are for who asks; errors are kept for the message that will say them."""
    import tensorrt as trt

    diagnostics = TensorRTDiagnostics()
    logger = make_logger(diagnostics)
    severity = trt.ILogger.Severity
    assert diagnostics.explain() == "TensorRT does not say why"
    with caplog.at_level(logging.DEBUG, "emotion_edge"):
        logger.log(severity.INFO, "hello")
        logger.log(severity.WARNING, "strange")
        assert diagnostics.explain() == "strange"
        logger.log(severity.ERROR, "wrong\n  here")
        logger.log(severity.INTERNAL_ERROR, "very wrong")
    assert diagnostics.explain() == "wrong here; very wrong"
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "DEBUG", "DEBUG"]
    diagnostics.clear()
    assert diagnostics.explain() == "TensorRT does not say why"


@pytest.mark.usefixtures("gpu")
def test_log_is_kept_short() -> None:
    """The last lines, none of them endless."""
    import tensorrt as trt

    diagnostics = TensorRTDiagnostics()
    logger = make_logger(diagnostics)
    for number in range(20):
        line = f"{number} {'x' * 1000}"
        logger.log(trt.ILogger.Severity.ERROR, line)
    assert [line[:2] for line in diagnostics.errors] == ["16", "17", "18", "19"]
    assert len(diagnostics.explain()) <= MAX_LINES * (MAX_LINE + 2)

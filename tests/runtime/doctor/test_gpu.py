"""The doctor's checks of GPU and capture, on healthy and broken machines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.engines.base import EngineError
from emotion_edge.engines.tensorrt.gpu import Gpu
from emotion_edge.kernels import PreprocessorError
from emotion_edge.runtime.capture import CameraSettings
from emotion_edge.runtime.config import Indicator
from emotion_edge.runtime.doctor import gpu as doctor_gpu
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.messages import CapturePath, SourceError, VideoFrame

ORIN = Gpu("Orin", 8, "8.7", True, driver=None)


def fail(error: Exception) -> Callable[..., Any]:
    def raise_it(*_: object, **__: object) -> Any:
        raise error

    return raise_it


def test_gpu_states() -> None:
    """No GPU, a Jetson without one, an unusable one, a usable one."""
    assert doctor_gpu.check_gpu(False, read_l4t_release=str).state == "ok"
    jetson = doctor_gpu.check_gpu(False, read_l4t_release=lambda: "# R36 (release)")
    assert jetson.state == "warn"
    assert "--runtime nvidia" in jetson.message
    broken = doctor_gpu.check_gpu(True, fail(EngineError("pycuda is not installed")))
    assert broken.state == "warn"
    assert "pycuda" in broken.message
    good = doctor_gpu.check_gpu(True, lambda: ORIN)
    assert good == Check("gpu", "ok", "Orin, compute capability 8.7")


def test_tensorrt_states() -> None:
    """Its version, or why it does not load."""
    assert doctor_gpu.check_tensorrt(True, lambda: "10.3.0") == Check("tensorrt", "ok", "10.3.0")
    why = "TensorRT is in /usr/lib, which this virtual environment does not see"
    assert doctor_gpu.check_tensorrt(True, fail(EngineError(why))) == Check("tensorrt", "warn", why)


def test_kernels_are_run_once() -> None:
    """They are opened and closed. An error is passed on."""
    closed: list[bool] = []

    class Opened(AbstractContextManager[None]):
        def __exit__(self, *_: object) -> None:
            closed.append(True)

    assert doctor_gpu.check_kernels(True, Opened).state == "ok"
    assert closed == [True]
    check = doctor_gpu.check_kernels(True, fail(PreprocessorError("CUDA cannot be used: no NVVM")))
    assert check.state == "warn"
    assert "no NVVM" in check.message


def test_engine_cache_states(tmp_path: Path) -> None:
    """A writable folder, and one below a file, where nothing can be written."""
    good = {"EMOTION_EDGE_CACHE": str(tmp_path / "new" / "engines")}
    check = doctor_gpu.check_engine_cache(True, good)
    assert (check.state, f"{tmp_path}/new/engines" in check.message) == ("ok", True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    bad = doctor_gpu.check_engine_cache(True, {"EMOTION_EDGE_CACHE": str(tmp_path / "file" / "x")})
    assert bad.state == "warn"
    assert "set EMOTION_EDGE_CACHE" in bad.message


def test_without_a_gpu_nothing_is_loaded() -> None:
    """On a PC nothing of NVIDIA's is loaded."""
    never = fail(AssertionError("was loaded"))
    checks = [
        doctor_gpu.check_gpu(False, never, str),
        doctor_gpu.check_tensorrt(False, never),
        doctor_gpu.check_kernels(False, never),
        doctor_gpu.check_engine_cache(False, {}),
    ]
    assert {check.state for check in checks} == {"ok"}


class Opener:
    """A camera behind V4L2. Reading it raises `error` if there is one."""

    chosen = "v4l2"

    def __init__(self, copies: int = 1, error: SourceError | None = None) -> None:
        self.path = CapturePath(copies, "not known yet", "pinned")
        self.error = error
        self.settings = CameraSettings()
        self.opened = self.closed = 0
        self.on_read: Callable[[], object] = lambda: None

    def make(self, device: str, clock: object, settings: CameraSettings) -> Opener:
        self.device, self.settings = device, settings
        return self

    def __call__(self) -> Opener:
        self.opened += 1
        return self

    def read(self) -> VideoFrame:
        self.on_read()
        if self.error is not None:
            raise self.error
        self.path = CapturePath(self.path.copies_per_frame, "v4l2 monotonic", "pinned")
        return VideoFrame(0, 0, np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed += 1


def check_camera(
    opener: Opener,
    for_gpu: bool,
    *cameras: str,
    indicator: Indicator = Indicator(),  # noqa: B008 - frozen
    sys_root: Path = Path("/"),
) -> Check:
    return doctor_gpu.check_capture(for_gpu, cameras, indicator, sys_root, opener.make)  # type: ignore[arg-type]


@pytest.mark.parametrize(("copies", "text"), [(0, "0 copies"), (1, "1 copy"), (2, "2 copies")])
def test_capture_path(copies: int, text: str) -> None:
    """One frame is read first: until then the clock is unknown."""
    opener = Opener(copies)
    check = check_camera(opener, True, "/dev/video2", "/dev/video4")
    assert check.state == "ok"
    assert check.message == (
        f"/dev/video2 through v4l2: {text} a frame, clock v4l2 monotonic, zero-copy pinned"
    )
    assert opener.settings == CameraSettings(for_gpu=True)
    assert opener.closed == 1


def test_capture_that_fails() -> None:
    """A failing camera is closed and its error passed on. Without a camera the check is ok."""
    opener = Opener(error=SourceError("camera /dev/video0 failed: Device or resource busy"))
    check = check_camera(opener, False, "/dev/video0")
    assert check.state == "warn"
    assert "busy" in check.message
    assert opener.closed == 1
    assert check_camera(opener, False).state == "ok"


LIGHT = Indicator(kind="file", file="/run/light")


def test_indicator_is_on_during_capture(tmp_path: Path) -> None:
    """The light is on while a frame is read, and off afterwards, also after an error."""
    light = tmp_path / "run/light"
    light.parent.mkdir()
    light.write_text("0\n")
    for error, state in ((None, "ok"), (SourceError("camera /dev/video0 is gone"), "warn")):
        opener = Opener(error=error)
        seen: list[str] = []
        opener.on_read = lambda seen=seen: seen.append(light.read_text())  # type: ignore[misc]
        assert (
            check_camera(opener, False, "/dev/video0", indicator=LIGHT, sys_root=tmp_path).state
            == state
        )
        assert seen == ["1\n"]
        assert light.read_text() == "0\n"


@pytest.mark.parametrize(
    ("indicator", "state"),
    [(Indicator(kind="screen"), "ok"), (LIGHT, "warn"), (Indicator(kind="file", file="x"), "warn")],
)
def test_no_capture_check_without_the_indicator(
    tmp_path: Path, indicator: Indicator, state: str
) -> None:
    """No camera is opened where the indicator is a run's screen or cannot be turned on."""
    opener = Opener()
    check = check_camera(opener, False, "/dev/video0", indicator=indicator, sys_root=tmp_path)
    assert check.state == state
    assert opener.opened == 0


def test_real_kernels_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def open_preprocessor(name: str, *specs: object) -> AbstractContextManager[None]:
        seen.append(name)
        return nullcontext()

    monkeypatch.setattr(doctor_gpu, "open_preprocessor", open_preprocessor)
    assert doctor_gpu.check_kernels(True).state == "ok"
    assert seen == ["cuda"]

"""Which backend "auto" chooses, and what it logs about the others."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from emotion_edge.kernels import memory
from emotion_edge.runtime.capture import camera_opener, v4l2_device
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.camera_opener import CameraOpener
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError

from .v4l2_fake import FakeDriver

RAW_IS_FAST = CameraSettings(640, 480)


class FakeSource:
    """A source that remembers how it was opened."""

    def __init__(self, backend: str, device: str, settings: CameraSettings, pin: object) -> None:
        self.backend, self.device, self.settings, self.pin = backend, device, settings, pin


class Machine:
    """One camera and all three libraries. The backends in `broken` fail to open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver = FakeDriver(FakeClock())
        self.broken: set[str] = set()
        self.opened: list[str] = []
        monkeypatch.setattr(v4l2_device, "Handle", self.driver)
        monkeypatch.setattr(camera_opener, "check_device", lambda device: None)
        monkeypatch.setattr(camera_opener, "find_pin", lambda: memory.pin_for_gpu)
        for backend, name in (
            ("jetson", "jetson_camera.JetsonCamera"),
            ("v4l2", "v4l2_camera.V4l2Camera"),
            ("opencv", "opencv_camera.OpencvCamera"),
        ):
            monkeypatch.setattr(f"emotion_edge.runtime.capture.{name}", self.make_class(backend))

    def make_class(self, backend: str) -> Any:
        def open_source(
            device: str, clock: object, settings: CameraSettings, pin: object = None
        ) -> FakeSource:
            self.opened.append(backend)
            if backend in self.broken:
                raise SourceError(f"camera {device}: {backend} is broken")
            return FakeSource(backend, device, settings, pin)

        return open_source


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def open_camera(settings: CameraSettings) -> tuple[CameraOpener, Any]:
    opener = CameraOpener("/dev/video0", FakeClock(), settings)
    return opener, opener()


def test_raw_frames_at_the_rate_are_preferred(machine: Machine) -> None:
    """640x480 raw reaches 30 frames a second: nothing has to be decoded."""
    opener, source = open_camera(RAW_IS_FAST)
    assert (source.backend, opener.chosen) == ("v4l2", "v4l2")
    assert (source.settings, source.pin) == (RAW_IS_FAST, None)
    assert machine.driver.closed == 1


@pytest.mark.usefixtures("machine")
def test_gpu_gets_pinned_memory() -> None:
    _, source = open_camera(CameraSettings(640, 480, for_gpu=True))
    assert source.pin is memory.pin_for_gpu


@pytest.mark.usefixtures("machine")
def test_mjpeg_where_raw_is_too_slow(caplog: pytest.LogCaptureFixture) -> None:
    """1280x720 raw reaches 10 frames a second: MJPEG through OpenCV, which is no warning."""
    with caplog.at_level(logging.INFO):
        opener, source = open_camera(CameraSettings())
    assert (source.backend, opener.chosen) == ("opencv", "opencv")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "10 of 30" in record.getMessage()


def test_raw_only_camera_uses_v4l2(machine: Machine) -> None:
    """Without MJPEG, OpenCV would read the same slow frames and copy them twice."""
    del machine.driver.formats["MJPG"]
    assert open_camera(CameraSettings())[1].backend == "v4l2"


def test_device_that_v4l2_refuses_is_left_to_opencv(machine: Machine) -> None:
    machine.driver.caps = 0x04001000
    assert open_camera(CameraSettings())[1].backend == "opencv"


def test_fallback_is_a_warning(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The next opening uses the backend that worked."""
    machine.broken = {"v4l2"}
    opener, source = open_camera(RAW_IS_FAST)
    assert source.backend == "opencv"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    machine.opened.clear()
    assert opener().backend == "opencv"  # type: ignore[attr-defined]
    assert machine.opened == ["opencv"]


def test_nothing_is_chosen_if_all_fail(machine: Machine) -> None:
    """The error is that of the last backend."""
    machine.broken = {"v4l2", "opencv"}
    opener = CameraOpener("/dev/video0", FakeClock(), RAW_IS_FAST)
    with pytest.raises(SourceError, match="opencv"):
        opener()
    assert opener.chosen == ""


def test_repeated_failures_do_not_flood_the_log(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """An awaited camera that is busy is tried every few seconds: each cause is logged once."""
    machine.broken = {"v4l2", "opencv"}
    opener = CameraOpener("/dev/video0", FakeClock(), RAW_IS_FAST)
    for device in ("/dev/video0", "/dev/video0", "/dev/video1", "/dev/video1"):
        opener.device = device
        with pytest.raises(SourceError):
            opener()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize("backend", ["jetson", "v4l2", "opencv"])
def test_named_backend_must_work(machine: Machine, backend: str) -> None:
    """It is opened without a check of the others and never replaced."""
    settings = CameraSettings(backend=backend, for_gpu=True)
    _, source = open_camera(settings)
    assert (source.backend, source.settings) == (backend, settings)
    machine.broken = {backend}
    with pytest.raises(SourceError, match=backend):
        open_camera(settings)
    assert machine.opened == [backend, backend]


@pytest.mark.usefixtures("machine")
def test_csi_needs_jetson_utils() -> None:
    for backend in ("auto", "jetson"):
        opener = CameraOpener("csi://0", FakeClock(), CameraSettings(backend=backend))
        assert opener().backend == "jetson"  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match=r"csi://0.*opencv"):
        CameraOpener("csi://0", FakeClock(), CameraSettings(backend="opencv"))


def test_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="capture 'gst'"):
        CameraOpener("/dev/video0", FakeClock(), CameraSettings(backend="gst"))

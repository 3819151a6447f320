"""Which way to read a camera "auto" takes, and what it says about the others."""

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

from .v4l2_stand_in import StandIn

SOURCES = "emotion_edge.runtime.capture"


class Taken:
    """A source that remembers how it was opened."""

    def __init__(self, backend: str, device: str, settings: CameraSettings, pin: object) -> None:
        self.backend, self.device, self.settings, self.pin = backend, device, settings, pin


class Machine:
    """One camera and the libraries there are; `broken` ways fail to open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.driver = StandIn(FakeClock())
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
            monkeypatch.setattr(f"{SOURCES}.{name}", self.opener(backend))

    def opener(self, backend: str) -> Any:
        def open_it(
            device: str, clock: object, settings: CameraSettings, pin: object = None
        ) -> Taken:
            self.opened.append(backend)
            if backend in self.broken:
                raise SourceError(f"camera {device}: {backend} is broken")
            return Taken(backend, device, settings, pin)

        return open_it


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def open_camera(**options: Any) -> tuple[CameraOpener, Any]:
    opener = CameraOpener("/dev/video0", FakeClock(), CameraSettings(**options))
    return opener, opener()


def test_raw_frames_at_the_rate_are_preferred(machine: Machine) -> None:
    """640x480 raw comes at 30: nothing has to be decoded."""
    opener, source = open_camera(width_px=640, height_px=480)
    assert (source.backend, opener.chosen) == ("v4l2", "v4l2")
    assert (source.settings, source.pin) == (CameraSettings(640, 480), None)
    assert machine.driver.closed == 1


def test_gpu_gets_pinned_memory(machine: Machine) -> None:
    """Only a run that reads pictures with the GPU locks pages for it."""
    _, source = open_camera(width_px=640, height_px=480, for_gpu=True)
    assert source.pin is memory.pin_for_gpu


@pytest.mark.parametrize("for_gpu", [True, False])
def test_jetson_camera_gets_for_gpu(machine: Machine, for_gpu: bool) -> None:
    """Its memory is the same, its report is not."""
    _, source = open_camera(backend="jetson", for_gpu=for_gpu)
    assert source.settings.for_gpu == for_gpu


def test_mjpeg_where_raw_is_too_slow(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """At 1280x720 raw comes at 10: MJPEG through OpenCV, the reason at info."""
    with caplog.at_level(logging.INFO):
        opener, source = open_camera()
    assert (source.backend, opener.chosen) == ("opencv", "opencv")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "raw pictures of 1280x720 come at 10 of 30 a second" in record.getMessage()


def test_raw_only_camera_uses_v4l2(machine: Machine) -> None:
    """Without MJPEG, OpenCV could only take the same slow pictures and copy them twice."""
    del machine.driver.formats["MJPG"]
    assert open_camera()[1].backend == "v4l2"


def test_not_our_kind_of_device(machine: Machine) -> None:
    """What our V4L2 source refuses is left to OpenCV."""
    machine.driver.caps = 0x04001000
    assert open_camera()[1].backend == "opencv"


def test_falls_back_with_a_warning(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """What was expected to work and does not is a warning, said once; the way that was found is
    kept for the next opening."""
    machine.broken = {"v4l2"}
    opener, source = open_camera(width_px=640, height_px=480)
    assert source.backend == "opencv"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "v4l2 is broken" in caplog.text
    machine.opened.clear()
    assert opener().backend == "opencv"  # type: ignore[attr-defined]
    assert machine.opened == ["opencv"]


def test_last_way_raises(machine: Machine) -> None:
    """When nothing opens, the error is that of the last; nothing is settled."""
    machine.broken = {"v4l2", "opencv"}
    opener = CameraOpener("/dev/video0", FakeClock(), CameraSettings(640, 480))
    with pytest.raises(SourceError, match="opencv is broken"):
        opener()
    assert opener.chosen == ""


def test_ways_that_fail_for_long_do_not_flood(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera that is awaited and busy is tried every few seconds: the cause is said once, and
    once more when it is another."""
    machine.broken = {"v4l2", "opencv"}
    opener = CameraOpener("/dev/video0", FakeClock(), CameraSettings(640, 480))
    for device in ("/dev/video0", "/dev/video0", "/dev/video1", "/dev/video1"):
        opener.device = device
        with pytest.raises(SourceError):
            opener()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize("backend", ["jetson", "v4l2", "opencv"])
def test_a_name_must_work(machine: Machine, backend: str) -> None:
    """An explicit choice is taken without a look at the others and never replaced."""
    assert open_camera(backend=backend)[1].backend == backend
    machine.broken = {backend}
    with pytest.raises(SourceError, match=f"{backend} is broken"):
        open_camera(backend=backend)
    assert machine.opened == [backend, backend]


def test_csi_is_for_jetson_utils(machine: Machine) -> None:
    """A CSI camera has no other way."""
    for name in ("auto", "jetson"):
        opener = CameraOpener("csi://0", FakeClock(), CameraSettings(backend=name))
        assert opener().device == "csi://0"  # type: ignore[attr-defined]
    with pytest.raises(SourceError, match="csi://0 is for jetson-utils, not for opencv"):
        CameraOpener("csi://0", FakeClock(), CameraSettings(backend="opencv"))
    with pytest.raises(ValueError, match="capture 'gst' is not one of auto, v4l2, opencv, jetson"):
        CameraOpener("/dev/video0", FakeClock(), CameraSettings(backend="gst"))

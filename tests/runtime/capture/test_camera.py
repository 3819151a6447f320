"""Reading and closing any camera, and the list of devices."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from emotion_edge.runtime.capture import v4l2_uapi as abi
from emotion_edge.runtime.capture.camera import Camera, check_device, list_cameras
from emotion_edge.runtime.messages import CapturePath, SourceError, VideoFrame


class WaitingCamera(Camera):
    """A camera whose driver waits for `resume`."""

    path = CapturePath(0, "test", "none")

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.resume = threading.Event(), threading.Event()
        self.releases = 0

    def _read(self) -> VideoFrame | None:
        self.waiting.set()
        self.resume.wait()
        return None

    def _release(self) -> None:
        self.releases += 1


def test_close_does_not_release_under_a_read() -> None:
    """While a read waits in the driver, close returns at once. The read releases at its end."""
    camera = WaitingCamera()
    reader = threading.Thread(target=camera.read)
    reader.start()
    camera.waiting.wait()
    camera.close()
    assert camera.releases == 0
    camera.resume.set()
    reader.join()
    assert camera.releases == 1


def test_list_has_only_devices_that_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webcam has a second node for metadata only. Numbers are sorted as numbers."""
    for name in ("video10", "video9", "video1", "video2", "videodev", "other"):
        (tmp_path / name).touch()
    caps = {"video9": 0x04200001, "video1": 0x04A00000, "video10": 0x04201000}

    def ioctl(file: int, request: int, answer: abi.Capability) -> None:
        assert request == 0x80685600  # VIDIOC_QUERYCAP
        name = Path(f"/proc/self/fd/{file}").readlink().name
        if name not in caps:
            raise OSError("not a video device")
        answer.capabilities, answer.device_caps = 0x84A00001, caps[name]

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert list_cameras(str(tmp_path)) == [str(tmp_path / "video9"), str(tmp_path / "video10")]
    assert list_cameras(str(tmp_path / "missing")) == []


def test_device_without_permission_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it gives the reason. A node that vanished is left out."""
    (tmp_path / "video0").touch()
    errors: list[OSError] = [PermissionError(13, "Permission denied"), OSError(19, "No device")]

    def refuse(*_: object) -> int:
        raise errors.pop(0)

    monkeypatch.setattr("os.open", refuse)
    assert list_cameras(str(tmp_path)) == [str(tmp_path / "video0")]
    assert list_cameras(str(tmp_path)) == []


def test_missing_or_forbidden_device_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match="/dev/video97"):
        check_device("/dev/video97")
    node = tmp_path / "video0"
    node.touch()
    check_device(str(node))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SourceError, match="video0"):
        check_device(str(node))

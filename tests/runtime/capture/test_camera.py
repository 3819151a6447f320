"""Which cameras there are."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from emotion_edge.runtime.capture import v4l2_uapi as abi
from emotion_edge.runtime.capture.camera import check_device, list_cameras
from emotion_edge.runtime.messages import SourceError


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

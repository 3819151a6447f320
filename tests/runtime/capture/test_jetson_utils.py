"""Requests to jetson-utils, answers that are refused, and installations that do not work."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_edge.runtime.capture import jetson_utils
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.jetson_camera import JetsonCamera
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import SourceError

from .jetson_utils_fake import FakeCamera


def open_camera(uri: str = "csi://0") -> JetsonCamera:
    return JetsonCamera(uri, FakeClock(), CameraSettings(for_gpu=True))


@pytest.mark.parametrize(
    ("uri", "their_uri", "flip"),
    [
        ("csi://1", "csi://1", "rotate-180"),
        ("/dev/video2", "v4l2:///dev/video2", "none"),
        ("v4l2:///dev/video2", "v4l2:///dev/video2", "none"),
    ],
)
def test_request_to_jetson_utils(
    device: FakeCamera, clock: FakeClock, uri: str, their_uri: str, flip: str
) -> None:
    """All numbers arrive, memory is mapped, the flip is explicit (swapped for CSI), no window."""
    with JetsonCamera(uri, clock, CameraSettings(640, 480, 29.97)) as camera:
        camera.read()
    assert device.created == [
        {
            "uri": their_uri,
            "width": 640,
            "height": 480,
            "framerate": 29.97,
            "numBuffers": 16,
            "zeroCopy": True,
            "flipMethod": flip,
            "headless": True,
            "log-level": "warning",
            "log-file": "stderr",
        }
    ]
    assert device.windows == 0


@pytest.mark.parametrize(
    "uri",
    ["rtsp://10.0.0.1/live", "file:///x.mp4", "webrtc://0", "display://0", "csi://", "/dev/video",
     "csi://0 ! fakesink", "/dev/video0/../null", ""],
)  # fmt: skip
def test_other_sources_are_refused(device: FakeCamera, uri: str) -> None:
    """jetson-utils could open the network."""
    with pytest.raises(SourceError, match=r"csi://0.*/dev/video0"):
        open_camera(uri)
    assert device.created == []


def test_missing_device_is_named(device: FakeCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before jetson-utils is called, which would leak a pipeline at each attempt."""
    monkeypatch.setattr(jetson_utils, "Path", Path)
    with pytest.raises(SourceError, match="/dev/video97"):
        open_camera("/dev/video97")
    assert device.created == []


def test_camera_that_cannot_be_created(device: FakeCamera) -> None:
    """One line with the camera and jetson-utils' reason."""
    device.exists = False
    with pytest.raises(SourceError, match=r"^camera csi://0 .*failed to create videoSource"):
        open_camera()


def test_fake_loses_options_without_argv(device: FakeCamera) -> None:
    """So `test_request_to_jetson_utils` proves that the numbers arrive."""
    create: Callable[..., object] = sys.modules["jetson_utils_python"].videoSource
    create("csi://0", options={"width": 640, "numBuffers": 9})
    assert (device.created[0]["width"], device.created[0]["numBuffers"]) == (0, 0)


@pytest.mark.parametrize("size", [(1284, 720), (852, 480), (64, 33)])
def test_padded_rows_are_refused(device: FakeCamera, size: tuple[int, int]) -> None:
    """GStreamer pads their rows and jetson-utils does not state it: the image would be skewed."""
    device.size = size
    with open_camera() as camera, pytest.raises(SourceError, match=rf"{size[0]}x{size[1]}"):
        camera.read()


def test_gpu_only_memory_is_refused(device: FakeCamera) -> None:
    device.mapped = False
    with open_camera() as camera, pytest.raises(SourceError, match="GPU"):
        camera.read()


def test_missing_jetson_utils(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the repository and the option that a virtual environment needs."""
    monkeypatch.setitem(sys.modules, "jetson_utils_python", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"dusty-nv/jetson-utils.*--system-site-packages"):
        open_camera()


def test_unrelated_jetson_utils(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyPI's package of that name has no extension. It is not even imported."""
    (tmp_path / "jetson_utils.py").write_text("raise SystemExit('imported')")
    monkeypatch.setitem(sys.modules, "jetson_utils_python", None)
    monkeypatch.delitem(sys.modules, "jetson_utils", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match="pip uninstall jetson-utils"):
        open_camera()


def test_jetson_utils_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the missing shared library."""
    (tmp_path / "jetson_utils_python.py").write_text(
        "raise ImportError('libjetson-utils.so: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "jetson_utils_python", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"libjetson-utils\.so"):
        open_camera()

"""What jetson-utils is asked for, what of its answers is taken, and what is said without it."""

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

from .jetson_utils_stand_in import Camera, install

SETTINGS = CameraSettings(for_gpu=True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(50_000_000_000)


@pytest.fixture
def device(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Camera:
    """The stand-in's camera, found wherever it is looked for."""
    return install(clock, monkeypatch)


@pytest.mark.parametrize(
    ("uri", "theirs", "flip"),
    [
        ("csi://1", "csi://1", "rotate-180"),
        ("/dev/video2", "v4l2:///dev/video2", "none"),
        ("v4l2:///dev/video2", "v4l2:///dev/video2", "none"),
    ],
)
def test_what_jetson_utils_is_asked_for(
    device: Camera, clock: FakeClock, uri: str, theirs: str, flip: str
) -> None:
    """All numbers arrive, memory is mapped, the flip is stated (swapped for CSI), no window."""
    with JetsonCamera(uri, clock, CameraSettings(640, 480, 29.97)) as camera:
        camera.read()
    assert device.created == [
        {
            "uri": theirs,
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
def test_other_sources_are_refused(device: Camera, clock: FakeClock, uri: str) -> None:
    """jetson-utils could open the network; nobody asked for that."""
    with pytest.raises(SourceError, match='given "csi://0" or "/dev/video0", no other'):
        JetsonCamera(uri, clock, SETTINGS)
    assert device.created == []


def test_missing_device_is_named(
    clock: FakeClock, device: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before jetson-utils is asked, which would leak a pipeline at each try."""
    monkeypatch.setattr(jetson_utils, "Path", Path)
    with pytest.raises(SourceError, match="camera /dev/video97: no such device"):
        JetsonCamera("/dev/video97", clock, SETTINGS)
    assert device.created == []


def test_camera_that_cannot_be_made(device: Camera, clock: FakeClock) -> None:
    """One line that names it and says where the reason is."""
    device.exists = False
    with pytest.raises(SourceError) as raised:
        JetsonCamera("csi://0", clock, SETTINGS)
    assert str(raised.value) == (
        "camera csi://0 cannot be opened (jetson-utils' own log above says why): "
        "jetson.utils -- failed to create videoSource device"
    )


def test_stand_in_loses_options_without_argv(device: Camera) -> None:
    """So that the test above proves that the numbers arrive: the parser returns 0 for each."""
    create: Callable[..., object] = sys.modules["jetson_utils_python"].videoSource
    create("csi://0", options={"width": 640, "numBuffers": 9})
    assert (device.created[0]["width"], device.created[0]["numBuffers"]) == (0, 0)


@pytest.mark.parametrize("size", [(1284, 720), (852, 480), (64, 33)])
def test_padded_rows_are_refused(device: Camera, clock: FakeClock, size: tuple[int, int]) -> None:
    """GStreamer pads their rows, jetson-utils does not say so: the picture would be askew."""
    device.size = size
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    with pytest.raises(SourceError, match=rf"camera csi://0 gave {size[0]}x{size[1]}, whose"):
        camera.read()
    camera.close()


def test_memory_of_the_gpu_alone_is_refused(device: Camera, clock: FakeClock) -> None:
    """The CPU cannot look at it."""
    device.mapped = False
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    with pytest.raises(SourceError, match="memory that only the GPU can read"):
        camera.read()
    camera.close()


def test_no_jetson_utils(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to build for which JetPack, and the trap of a venv, in one line."""
    monkeypatch.setitem(sys.modules, "jetson_utils_python", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError) as raised:
        JetsonCamera("csi://0", clock, SETTINGS)
    assert str(raised.value) == (
        "jetson-utils is not installed; build github.com/dusty-nv/jetson-utils (branch v1 on "
        "JetPack 6, master on 7); a venv needs --system-site-packages to see it"
    )


def test_somebody_elses_jetson_utils(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The index's package of that name has no extension; it is not even imported."""
    (tmp_path / "jetson_utils.py").write_text("raise SystemExit('imported')")
    monkeypatch.setitem(sys.modules, "jetson_utils_python", None)
    monkeypatch.delitem(sys.modules, "jetson_utils", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"somebody else's; pip uninstall jetson-utils, then bui"):
        JetsonCamera("csi://0", clock, SETTINGS)


def test_jetson_utils_that_does_not_load(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A missing shared library is passed on with its name."""
    (tmp_path / "jetson_utils_python.py").write_text(
        "raise ImportError('libjetson-utils.so: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "jetson_utils_python", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"does not load \(libjetson-utils.so: cannot open"):
        JetsonCamera("csi://0", clock, SETTINGS)

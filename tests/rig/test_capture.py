"""V4L2 capture with real kernel drivers: vivid and v4l2loopback."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_edge.kernels.reference import to_rgb

from .device import MEDIA, PYTHON, READY, SERVICE
from .machine import Machine

LOOPBACK, VIVID = "/dev/video0", "/dev/video10"
PLAYER = "rig-capture-test"

Capture = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def rig(booted: Machine) -> Machine:
    """The machine without the service, which would occupy the camera."""
    booted.load(READY)
    booted.run(f"systemctl stop {SERVICE}")
    booted.push(Path(__file__).parent / "guest_capture.py", "/opt/capture")
    return booted


@pytest.fixture(scope="module")
def capture(rig: Machine) -> Capture:
    """A function (device, options) -> the report of guest_capture.py."""

    def read(device: str, options: str = "") -> dict[str, Any]:
        command = f"cd /opt/capture && {PYTHON} guest_capture.py {device} {options}"
        return dict(json.loads(rig.run(command)))

    return read


@pytest.fixture
def vivid(rig: Machine) -> Iterator[None]:
    """A still image without text, and no injected fault afterwards."""
    rig.run(f"v4l2-ctl -d {VIVID} --set-ctrl=test_pattern=4,osd_text_mode=2")
    yield
    faults = "percentage_of_dropped_buffers=0,test_pattern=0,osd_text_mode=0"
    rig.run(f"v4l2-ctl -d {VIVID} --set-ctrl={faults}")


def indices(report: dict[str, Any]) -> list[int]:
    return [frame["index"] for frame in report["frames"]]


def check_count(report: dict[str, Any]) -> None:
    """Indices begin at 0 and rise. The emulated machine may lose a frame on a busy host."""
    assert indices(report)[0] == 0
    assert np.diff(indices(report)).min() >= 1
    assert np.median(np.diff(indices(report))[:8]) == 1


def check_times(report: dict[str, Any]) -> None:
    """Timestamps rise, and none is more than 0.1 s from the clock of the machine."""
    times = [frame["t_ns"] for frame in report["frames"]]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert all(-2 < frame["late_ms"] < 100 for frame in report["frames"])


@pytest.mark.usefixtures("vivid")
@pytest.mark.parametrize("memory", ["", "--mmap"])
def test_every_layout_gives_the_same_image(rig: Machine, capture: Capture, memory: str) -> None:
    """NV12, YUYV, RGB24 and BGR24, rows with and without 46 bytes of padding, in memory of the
    program and of the driver: the colored squares of vivid are equal."""
    images = {}
    for name in ("NV12", "YUYV", "RGB3", "BGR3"):
        for more in (0, 46):
            options = f"--format {name} --count 5 --more-row-bytes {more} {memory}"
            report = capture(VIVID, options)
            image = np.load(io.BytesIO(rig.pull("/tmp/image.npy")))
            row_bytes = {"NV12": 640, "YUYV": 1280}.get(name, 1920)
            assert report["strides"][0] == row_bytes + more
            assert report["path"][0] == (1 if memory else 0)
            check_count(report)
            check_times(report)
            images[name, more] = to_rgb(image, report["format"])
    wanted = images["RGB3", 0]
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 3
    for key, image in images.items():
        # At edges, formats with chroma subsampling differ.
        assert np.mean(np.abs(image - wanted).max(axis=-1) > 6) < 0.1, key


@pytest.mark.parametrize("options", ["--hold 3", "--hold 9", "--hold 9 --mmap"])
def test_frames_in_use_do_not_change(capture: Capture, options: str) -> None:
    """vivid draws the time on its frames: one that is in use does not change."""
    report = capture(VIVID, f"--count 25 {options}")
    assert report["unchanged"]
    check_count(report)


def test_slow_reader_gets_the_newest(capture: Capture) -> None:
    """Three frames pass during each pause. Two are returned unread, and the index skips them."""
    report = capture(VIVID, "--count 10 --pause-s 0.1")
    steps = np.diff(indices(report))
    assert 2 <= steps.mean() <= 4
    assert report["stale"] >= 8
    check_times(report)


@pytest.mark.usefixtures("vivid")
def test_lost_buffers_are_gaps(capture: Capture) -> None:
    """vivid drops two of five buffers: the index skips them."""
    report = capture(VIVID, "--count 60 --fault percentage_of_dropped_buffers=40")
    check_count(report)
    after = np.diff(indices(report)[10:])
    assert after.min() == 1
    assert 0.2 < 1 - len(after) / after.sum() < 0.7
    assert report["openings"] == 1


@pytest.mark.usefixtures("vivid")
@pytest.mark.parametrize("fault", ["disconnect=1", "inject_fatal_streaming_error=1"])
def test_failed_camera_is_opened_again(capture: Capture, fault: str) -> None:
    """Unplugged or broken after ten frames: it is reopened, and the index continues."""
    report = capture(VIVID, f"--count 20 --fault {fault}")
    assert report["openings"] == 2
    check_count(report)
    check_times(report)


def test_close_wakes_a_read(capture: Capture) -> None:
    """A close from another thread after a second ends the read."""
    report = capture(VIVID, "--count 1000 --close-after-s 1")
    assert 15 < len(report["frames"]) < 40
    assert 0.9 < report["seconds"] < 1.5


def test_loopback_gives_complete_frames(rig: Machine, capture: Capture, tmp_path: Path) -> None:
    """v4l2loopback does not fill user memory: one copy. Each played frame has one luma, so a torn
    one would have two. The timestamps of the driver are on CLOCK_MONOTONIC."""
    clip = np.full((60, 480, 640, 2), 128, np.uint8)
    clip[..., 0] = 16 + 3 * np.arange(60)[:, None, None]
    clip.tofile(tmp_path / "luma.yuyv")
    rig.push(tmp_path / "luma.yuyv", MEDIA)
    rig.run(f"systemd-run -q -u {PLAYER} rig-camera {MEDIA}/luma.yuyv; sleep 1.5")
    try:
        report = capture(LOOPBACK, "--size 640 480 --count 40")
    finally:
        rig.run(f"systemctl stop {PLAYER}")
    assert report["path"] == [1, "v4l2 monotonic", "none"]
    assert report["format"] == "yuyv"
    assert all(frame["least"] == frame["most"] for frame in report["frames"])
    assert len({frame["least"] for frame in report["frames"]}) > 30
    check_times(report)

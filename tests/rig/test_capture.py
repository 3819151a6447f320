"""Our V4L2 capture on real drivers of the kernel: vivid, and v4l2loopback with its player."""

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

from .device import PYTHON, READY, SERVICE
from .machine import Machine

LOOPBACK, VIVID = "/dev/video0", "/dev/video10"
PLAYER = "rig-capture-test"

Capture = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def rig(booted: Machine) -> Machine:
    """The machine without the service, which would hold the camera."""
    booted.load(READY)
    booted.run(f"systemctl stop {SERVICE}")
    booted.push(Path(__file__).parent / "guest_capture.py", "/opt/capture")
    return booted


@pytest.fixture(scope="module")
def capture(rig: Machine) -> Capture:
    """A function (device, options) -> what guest_capture.py printed."""

    def read(device: str, options: str = "") -> dict[str, Any]:
        command = f"cd /opt/capture && {PYTHON} guest_capture.py {device} {options}"
        return dict(json.loads(rig.run(command)))

    return read


@pytest.fixture
def vivid(rig: Machine) -> Iterator[None]:
    """A still picture without writing on it, and no injected fault afterwards."""
    rig.run(f"v4l2-ctl -d {VIVID} --set-ctrl=test_pattern=4,osd_text_mode=2")
    yield
    faults = "percentage_of_dropped_buffers=0,test_pattern=0,osd_text_mode=0"
    rig.run(f"v4l2-ctl -d {VIVID} --set-ctrl={faults}")


def indices(answer: dict[str, Any]) -> list[int]:
    return [frame["index"] for frame in answer["frames"]]


def check_count(answer: dict[str, Any]) -> None:
    """From 0 on and never twice. The emulated machine may lose a picture when its host is busy."""
    assert indices(answer)[0] == 0
    assert np.diff(indices(answer)).min() >= 1
    assert np.median(np.diff(indices(answer))[:8]) == 1


def check_times(answer: dict[str, Any]) -> None:
    """Each later than the one before, and none more than 0.1 s from the machine's clock."""
    times = [frame["t_ns"] for frame in answer["frames"]]
    assert all(before < after for before, after in itertools.pairwise(times))
    assert all(-2 < frame["late_ms"] < 100 for frame in answer["frames"])


@pytest.mark.usefixtures("vivid")
@pytest.mark.parametrize("memory", ["", "--mmap"])
def test_every_layout_gives_the_same_image(rig: Machine, capture: Capture, memory: str) -> None:
    """NV12, YUYV and RGB24, rows as long as they are and 46 bytes longer, in our memory and in the
    driver's: vivid's coloured squares come out alike."""
    images = {}
    for name in ("NV12", "YUYV", "RGB3", "BGR3"):
        for more in (0, 46):
            options = f"--format {name} --count 5 --more-row-bytes {more} {memory}"
            answer = capture(VIVID, options)
            image = np.load(io.BytesIO(rig.pull("/tmp/picture.npy")))
            row_bytes = {"NV12": 640, "YUYV": 1280}.get(name, 1920)
            assert answer["strides"][0] == row_bytes + more
            assert answer["path"][0] == (1 if memory else 0)
            check_count(answer)
            check_times(answer)
            images[name, more] = to_rgb(image, answer["format"])
    wanted = images["RGB3", 0]
    assert len(np.unique(wanted.reshape(-1, 3), axis=0)) > 3
    for key, picture in images.items():
        # Where two colours meet, formats that share a colour between pixels differ.
        assert np.mean(np.abs(picture - wanted).max(axis=-1) > 6) < 0.1, key


@pytest.mark.parametrize("options", ["--hold 3", "--hold 9", "--hold 9 --mmap"])
def test_frames_in_use_do_not_change(capture: Capture, options: str) -> None:
    """vivid writes the time on its pictures: one that is kept does not change under the reader."""
    answer = capture(VIVID, f"--count 25 {options}")
    assert answer["unchanged"]
    check_count(answer)


def test_slow_reader_gets_the_newest(capture: Capture) -> None:
    """Three pictures pass during each pause: two are given back unread, the index shows them."""
    answer = capture(VIVID, "--count 10 --pause-s 0.1")
    steps = np.diff(indices(answer))
    assert 2 <= steps.mean() <= 4
    assert answer["stale"] >= 8
    check_times(answer)


@pytest.mark.usefixtures("vivid")
def test_lost_buffers_are_gaps(capture: Capture) -> None:
    """vivid loses two of five: the indices jump by what is missing."""
    answer = capture(VIVID, "--count 60 --fault percentage_of_dropped_buffers=40")
    check_count(answer)
    after = np.diff(indices(answer)[10:])
    assert after.min() == 1
    assert 0.2 < 1 - len(after) / after.sum() < 0.7
    assert answer["openings"] == 1


@pytest.mark.usefixtures("vivid")
@pytest.mark.parametrize("fault", ["disconnect=1", "inject_fatal_streaming_error=1"])
def test_failed_camera_is_opened_again(capture: Capture, fault: str) -> None:
    """Unplugged or broken after ten pictures: the supervisor opens it anew, the count goes on."""
    answer = capture(VIVID, f"--count 20 --fault {fault}")
    assert answer["openings"] == 2
    check_count(answer)
    check_times(answer)


def test_close_wakes_a_read(capture: Capture) -> None:
    """Closed from another thread after a second: the read ends and the program with it."""
    answer = capture(VIVID, "--count 1000 --close-after-s 1")
    assert 15 < len(answer["frames"]) < 40
    assert 0.9 < answer["seconds"] < 1.5


def test_loopback_gives_complete_frames(rig: Machine, capture: Capture, tmp_path: Path) -> None:
    """v4l2loopback has no user memory: copied once. Each played picture is of one luma, so a torn
    one would show two; the driver's stamps are on CLOCK_MONOTONIC."""
    clip = np.full((60, 480, 640, 2), 128, np.uint8)
    clip[..., 0] = 16 + 3 * np.arange(60)[:, None, None]
    clip.tofile(tmp_path / "luma.yuyv")
    rig.push(tmp_path / "luma.yuyv", "/opt/films")
    rig.run(f"systemd-run -q -u {PLAYER} rig-camera /opt/films/luma.yuyv; sleep 1.5")
    try:
        answer = capture(LOOPBACK, "--size 640 480 --count 40")
    finally:
        rig.run(f"systemctl stop {PLAYER}")
    assert answer["path"] == [1, "v4l2 monotonic", "none"]
    assert answer["format"] == "yuyv"
    assert all(frame["least"] == frame["most"] for frame in answer["frames"])
    assert len({frame["least"] for frame in answer["frames"]}) > 30
    check_times(answer)

"""The jetson-utils camera on a fake library (`jetson_utils_fake`); nothing here ran on a Jetson."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from emotion_edge.kernels.pixels import image_size
from emotion_edge.runtime.capture.camera import CameraSettings
from emotion_edge.runtime.capture.jetson_camera import (
    FRAME_LIFETIME_S,
    JetsonCamera,
    count_ring_buffers,
)
from emotion_edge.runtime.capture.reconnect import ReconnectingVideo
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.messages import CapturePath, SourceError, VideoFrame

from .jetson_utils_fake import FREED, MS, FakeCamera
from .reading import read_many, read_next

SECOND = 1000 * MS
SETTINGS = CameraSettings(for_gpu=True)


@pytest.fixture
def camera(device: FakeCamera, clock: FakeClock) -> Iterator[JetsonCamera]:
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        yield camera


def lateness_ns(device: FakeCamera, frame: VideoFrame) -> int:
    """Return how much later the frame's time is than its capture."""
    return frame.t_ns - device.base_ns - device.sensor_ns(frame.index)


# Images


@pytest.mark.parametrize(
    ("their_format", "our_format", "shape"),
    [
        ("nv12", "nv12", (48, 64)),
        ("yuyv", "yuyv", (32, 64, 2)),
        ("rgb8", "rgb8", (32, 64, 3)),
        ("bgr8", "bgr8", (32, 64, 3)),
    ],
)
def test_frame_is_a_view_of_the_ring(
    device: FakeCamera,
    clock: FakeClock,
    their_format: str,
    our_format: str,
    shape: tuple[int, ...],
) -> None:
    """Frames are raw. The array and the GPU's pointer are where jetson-utils wrote."""
    device.format = their_format
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        frames = read_many(camera, 3)
        for number, frame in enumerate(frames):
            assert frame.image.shape == shape
            assert (frame.image == number).all()
            assert frame.format == our_format
            assert image_size(frame.image, frame.format) == (32, 64)
            assert frame.device_ptr == frame.image.ctypes.data
            assert frame.image.flags.c_contiguous
            assert frame.image.flags.writeable
    assert len({frame.device_ptr for frame in frames}) == 3
    assert {format_name for format_name, _, _ in device.captures} == {"raw"}
    assert device.waits == 0


def test_leaking_properties_are_never_read(device: FakeCamera, camera: JetsonCamera) -> None:
    """Neither `__cuda_array_interface__` nor the `__array_interface__` that is made from it."""
    total = sum(int(np.asarray(frame.image).sum()) for frame in read_many(camera, 50))
    assert total > 0
    assert device.leaks == 0


def test_other_formats_are_converted(
    device: FakeCamera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """I420, which decoders produce: one log line, an own stream, and the bytes are valid when the
    frame is returned."""
    device.format = "i420"
    with JetsonCamera("/dev/video0", clock, SETTINGS) as camera, caplog.at_level(logging.INFO):
        caplog.clear()
        frames = read_many(camera, 4)
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 3, 4]
        assert all((frame.image == frame.image[0, 0, 0]).all() for frame in frames)
        assert {(frame.format, frame.image.shape) for frame in frames} == {("rgb8", (32, 64, 3))}
        assert [frame.device_ptr for frame in frames] == [f.image.ctypes.data for f in frames]
        (stream,) = device.streams
    assert stream != 0
    assert device.captures == [("raw", 200, 0)] + 4 * [("rgb8", 200, stream)]
    (record,) = caplog.records
    assert "i420" in record.getMessage()
    assert device.leaks == 0
    assert not device.streams  # both are destroyed
    assert not device.events


def test_conversion_that_fails_is_a_failed_camera(
    device: FakeCamera, camera: JetsonCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA error while waiting is a SourceError of one line."""

    def fail(event: int) -> None:
        raise Exception("CUDA error (700)\n  an illegal memory access")

    monkeypatch.setattr(sys.modules["jetson_utils_python"], "cudaEventSynchronize", fail)
    device.format = "uyvy"
    with pytest.raises(SourceError, match=r"^camera csi://0: .*\(700\) an illegal memory access$"):
        camera.read()


# Times


def test_time_is_that_of_the_capture(device: FakeCamera, camera: JetsonCamera) -> None:
    """Up to the shortest delay, however late Capture returns."""
    device.late_ms = {3: 8.0, 7: 60.0, 11: 2.5}
    late = [lateness_ns(device, frame) for frame in read_many(camera, 20)]
    assert late == pytest.approx([4 * MS] * 20, abs=2)
    assert camera.path.clock_domain == "gstreamer running time"


def test_process_time_is_rejected(
    device: FakeCamera, camera: JetsonCamera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a timestamp of GStreamer jetson-utils uses its own clock: longer than it is open."""
    device.app_time = True
    for index in range(5):
        frame = read_next(camera)
        assert (frame.t_ns, frame.index) == (clock.now_ns(), index)
    assert camera.path == CapturePath(1, "time of arrival", "pinned")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_lost_timestamps_are_no_warning(
    device: FakeCamera, camera: JetsonCamera, caplog: pytest.LogCaptureFixture
) -> None:
    """0 on the first frame and now and then later: the time of arrival."""
    device.no_timestamp = {0, 5}
    frames = read_many(camera, 8)
    assert [frame.index for frame in frames] == list(range(8))
    assert np.diff([frame.t_ns for frame in frames]).min() > 30 * MS
    assert caplog.records == []
    assert camera.path.clock_domain == "gstreamer running time"


def test_time_never_goes_back(device: FakeCamera, camera: JetsonCamera, clock: FakeClock) -> None:
    """Frames whose timestamps repeat, go back or lie in the future get their arrival time."""
    device.timestamp_of = {4: device.sensor_ns(3), 6: 1, 8: 3600 * SECOND}
    device.jitter_ms = lambda number: 2.0 if number in device.timestamp_of else 0.0
    times_ms = []
    for number in range(30):
        frame = read_next(camera)
        assert frame.index == number
        assert frame.t_ns <= clock.now_ns()
        times_ms.append(lateness_ns(device, frame) / MS)
    assert times_ms == pytest.approx([6 if n in {4, 6, 8} else 4 for n in range(30)], abs=0.001)


def test_reopened_camera_has_a_new_clock(device: FakeCamera, clock: FakeClock) -> None:
    """The running time restarts, and so does the estimate. The indices continue."""
    device.dies_after = 10
    opened: list[JetsonCamera] = []

    def reopen() -> JetsonCamera:
        opened.append(JetsonCamera("csi://0", clock, SETTINGS))
        return opened[-1]

    with ReconnectingVideo("camera csi://0", reopen, clock) as camera:
        frames = read_many(camera, 11)
        device.dies_after = 10
        frames += read_many(camera, 11)
    times = [frame.t_ns for frame in frames]
    assert [frame.index for frame in frames] == list(range(22))
    assert times[11] == device.base_ns + device.sensor_ns(0) + 4 * MS
    assert np.diff(times).min() > 30 * MS
    assert (len(opened), device.opened, device.closed) == (2, 2, 2)


# Indices


def test_index_has_a_gap_where_the_sensor_lost_frames(
    device: FakeCamera, camera: JetsonCamera
) -> None:
    device.loses = {4, 5, 9}
    indices = [frame.index for frame in read_many(camera, 9)]
    assert indices == [0, 1, 2, 3, 6, 7, 8, 10, 11]


# Memory


@pytest.mark.parametrize("fps", [15, 30, 60, 120])
def test_frame_outlives_the_budget_and_the_face_tracker(
    device: FakeCamera, clock: FakeClock, fps: int
) -> None:
    """Its memory is valid for `FRAME_LIFETIME_S` while the camera goes on, and not much longer."""
    device.fps = fps
    with JetsonCamera("csi://0", clock, CameraSettings(fps=fps)) as camera:
        held = read_next(camera)
        begin_ns = clock.now_ns()
        while clock.now_ns() - begin_ns < FRAME_LIFETIME_S * SECOND:
            read_next(camera)
            assert (held.image == 0).all()
        read_many(camera, count_ring_buffers(fps))
        assert (held.image != 0).all()


def test_camera_faster_than_its_ring_is_a_warning(
    device: FakeCamera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A webcam may be faster than requested. Then frames are valid for a shorter time."""
    device.fps = 120
    JetsonCamera("/dev/video0", clock, SETTINGS).close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "133 ms" in record.getMessage()


def test_memory_outlives_the_camera(device: FakeCamera, clock: FakeClock) -> None:
    """A frame in use, or a view of one, keeps the memory."""
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    first, second = read_many(camera, 2)
    camera.close()
    del camera
    gc.collect()
    row = second.image[5:6]
    assert device.closed == 1
    assert device.deleted == 0
    assert (first.image == 0).all()
    del first, second
    gc.collect()
    assert device.deleted == 0
    assert (row == 1).all()
    assert FREED not in row
    del row
    gc.collect()
    assert device.deleted == 1


# Failures


def test_dead_camera_fails_after_a_second(
    device: FakeCamera, camera: JetsonCamera, clock: FakeClock
) -> None:
    device.dies_after = 4
    read_many(camera, 5)
    begin_ns = clock.now_ns()
    with pytest.raises(SourceError, match="csi://0"):
        camera.read()
    assert SECOND <= clock.now_ns() - begin_ns <= 1.2 * SECOND
    assert camera.timeouts == 5


def test_slow_start_is_awaited(device: FakeCamera, camera: JetsonCamera) -> None:
    """A sensor that starts after three seconds is not dead."""
    device.starts_after_ms = 3000
    assert read_next(camera).index == 0
    assert camera.timeouts > 10


def test_start_fails_after_five_seconds(
    device: FakeCamera, camera: JetsonCamera, clock: FakeClock
) -> None:
    device.dies_after = -1
    begin_ns = clock.now_ns()
    with pytest.raises(SourceError, match="csi://0"):
        camera.read()
    assert 5 * SECOND <= clock.now_ns() - begin_ns <= 5.3 * SECOND


def test_short_silence_is_no_failure(device: FakeCamera, camera: JetsonCamera) -> None:
    """Half a second without frames, twice: each frame restarts the timeout."""
    device.loses = set(range(10, 25)) | set(range(26, 41))
    indices = [frame.index for frame in read_many(camera, 14)]
    assert indices == [*range(10), 25, 41, 42, 43]
    assert camera.timeouts == 4


def test_transient_error_is_tried_again(device: FakeCamera, camera: JetsonCamera) -> None:
    device.errors = [0, 3, 7]
    assert [frame.index for frame in read_many(camera, 8)] == list(range(8))
    assert camera.retries == 3


def test_second_error_in_a_row_is_a_failed_camera(device: FakeCamera, camera: JetsonCamera) -> None:
    device.errors = [2, 3]
    read_many(camera, 2)
    with pytest.raises(SourceError, match=r"^camera csi://0 .*failed to capture image$"):
        camera.read()


# Closing


def test_close_does_not_block_and_keeps_frames_in_use(
    device: FakeCamera, camera: JetsonCamera
) -> None:
    """While Capture waits, close returns. The reader stops the camera after Capture."""
    waiting, resume = threading.Event(), threading.Event()

    def hold() -> None:
        waiting.set()
        resume.wait()

    device.hold = hold
    reader = threading.Thread(target=camera.read)
    reader.start()
    waiting.wait()
    camera.close()
    camera.close()
    assert (device.closed, device.deleted) == (0, 0)
    resume.set()
    reader.join()
    assert device.closed == 1
    camera.close()
    assert camera.read() is None
    assert (device.closed, device.opened, len(device.captures)) == (1, 1, 1)


def test_closed_camera_is_not_reopened(device: FakeCamera, camera: JetsonCamera) -> None:
    """Capture would reopen it by itself."""
    read_next(camera)
    camera.close()
    assert [camera.read(), camera.read()] == [None, None]
    assert device.opened == 1


def test_unused_camera_closes(device: FakeCamera, camera: JetsonCamera) -> None:
    """Without a Capture there is no pipeline."""
    camera.close()
    assert (device.opened, device.closed) == (0, 1)


# The path


@pytest.mark.parametrize(
    ("codec", "copies"), [("raw", 1), ("unknown", 1), ("MJPEG", 2), ("H264", 2)]
)
@pytest.mark.parametrize(("for_gpu", "zero_copy"), [(True, "pinned"), (False, "none")])
def test_path_counts_decoding(
    device: FakeCamera, clock: FakeClock, codec: str, copies: int, for_gpu: bool, zero_copy: str
) -> None:
    """One copy into the ring, and one more for decoding."""
    device.codec = codec
    with JetsonCamera("/dev/video0", clock, CameraSettings(for_gpu=for_gpu)) as camera:
        assert camera.path == CapturePath(copies, "gstreamer running time", zero_copy)  # type: ignore[arg-type]

"""The jetson-utils camera on a stand-in (`jetson_utils_stand_in`): nothing here ran on a Jetson."""

from __future__ import annotations

import gc
import logging
import sys
import threading

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

from .jetson_utils_stand_in import FREED, MS, Camera, install

SECOND = 1000 * MS


SETTINGS = CameraSettings(for_gpu=True)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(50_000 * MS)


@pytest.fixture
def device(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Camera:
    """The stand-in's camera, found wherever it is looked for."""
    return install(clock, monkeypatch)


def take(camera: JetsonCamera) -> VideoFrame:
    frame = camera.read()
    assert frame is not None
    return frame


def lateness_ns(device: Camera, frame: VideoFrame) -> int:
    """How much later than its stamp the picture's time is."""
    return frame.t_ns - device.base_ns - device.sensor_ns(frame.index)


# What a picture is


@pytest.mark.parametrize(
    ("theirs", "ours", "shape"),
    [
        ("nv12", "nv12", (48, 64)),
        ("yuyv", "yuyv", (32, 64, 2)),
        ("rgb8", "rgb8", (32, 64, 3)),
        ("bgr8", "bgr8", (32, 64, 3)),
    ],
)
def test_frame_is_a_view_of_the_ring(
    device: Camera, clock: FakeClock, theirs: str, ours: str, shape: tuple[int, ...]
) -> None:
    """Raw pictures are asked for; the array lies where jetson-utils wrote, and the GPU looks there
    too."""
    device.format = theirs
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        frames = [take(camera) for _ in range(3)]
        for number, frame in enumerate(frames):
            assert frame.image.shape == shape
            assert (frame.image == number).all()
            assert frame.format == ours
            assert image_size(frame.image, frame.format) == (32, 64)
            assert frame.device_ptr == frame.image.ctypes.data
            assert frame.image.flags.c_contiguous
            assert frame.image.flags.writeable
    assert len({frame.device_ptr for frame in frames}) == 3
    assert {format_name for format_name, _, _ in device.captures} == {"raw"}
    assert device.waits == 0


def test_leaking_properties_are_never_read(device: Camera, clock: FakeClock) -> None:
    """Neither `__cuda_array_interface__` nor the `__array_interface__` that is made from it."""
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        total = sum(int(np.asarray(take(camera).image).sum()) for _ in range(50))
    assert total > 0
    assert device.leaks == 0


def test_other_formats_are_converted(
    device: Camera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """I420, as a decoder gives it: one log line, a stream of its own, and the bytes are there when
    the picture is handed out."""
    device.format = "i420"
    with JetsonCamera("/dev/video0", clock, SETTINGS) as camera, caplog.at_level(logging.INFO):
        frames = [take(camera) for _ in range(4)]
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 3, 4]
        assert all((frame.image == frame.image[0, 0, 0]).all() for frame in frames)
        assert {(frame.format, frame.image.shape) for frame in frames} == {("rgb8", (32, 64, 3))}
        assert [frame.device_ptr for frame in frames] == [f.image.ctypes.data for f in frames]
        (stream,) = device.streams
    assert stream != 0
    assert device.captures == [("raw", 200, 0)] + 4 * [("rgb8", 200, stream)]
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "gives i420" in line]) == 1
    assert said[-1].endswith("jetson-utils converts it to rgb8 on the GPU")
    assert device.leaks == 0
    assert not device.streams  # both were given back
    assert not device.events


def test_conversion_that_fails_is_a_failed_camera(
    device: Camera, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA error while waiting names the step, in one line."""

    def fail(event: int) -> None:
        raise Exception("CUDA error (700)\n  an illegal memory access")

    monkeypatch.setattr(sys.modules["jetson_utils_python"], "cudaEventSynchronize", fail)
    device.format = "uyvy"
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    with pytest.raises(SourceError) as raised:
        camera.read()
    camera.close()
    assert str(raised.value) == "camera csi://0: CUDA error (700) an illegal memory access"


# Time


def test_time_is_of_the_capture(device: Camera, clock: FakeClock) -> None:
    """But for the shortest delay of all, however late Capture returns."""
    device.late_ms = {3: 8.0, 7: 60.0, 11: 2.5}
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        frames = [take(camera) for _ in range(20)]
        late = [lateness_ns(device, frame) for frame in frames]
    assert late == pytest.approx([4 * MS] * 20, abs=2)
    assert camera.path.clock_domain == "gstreamer running time"


def test_clock_that_drifts_is_followed(device: Camera, clock: FakeClock) -> None:
    """GStreamer's clock 80 ppm fast for two minutes: ten milliseconds, of which none is seen."""
    device.drift_ppm = 80.0
    device.jitter_ms = lambda number: (number * 7 % 5) * 0.5
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        late = [lateness_ns(device, take(camera)) / MS for _ in range(3600)]
    assert 3.9 < min(late[30:]) <= max(late[30:]) < 5.0


def test_process_time_is_rejected(
    device: Camera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where GStreamer has no stamp jetson-utils gives its own clock: longer than we are open."""
    device.app_time = True
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        frames = []
        for _ in range(5):
            frames.append(take(camera))
            assert frames[-1].t_ns == clock.now_ns()
        assert camera.path == CapturePath(1, "time of arrival", "pinned")
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "is no running time; taking the time of arrival" in warnings[0]


def test_lost_stamps_pass_quietly(
    device: Camera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """0 on the first picture and now and then later: the time of arrival, and no warning."""
    device.no_stamp = {0, 5}
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        frames = [take(camera) for _ in range(8)]
    assert [frame.index for frame in frames] == list(range(8))
    assert np.diff([frame.t_ns for frame in frames]).min() > 30 * MS
    assert caplog.records == []
    assert camera.path.clock_domain == "gstreamer running time"


def test_time_never_goes_back(device: Camera, clock: FakeClock) -> None:
    """Stamps that stand still, go back or lie in the future: those pictures get their arrival."""
    device.stamp_of = {4: device.sensor_ns(3), 6: 1, 8: 3600 * SECOND}
    device.jitter_ms = lambda number: 2.0 if number in device.stamp_of else 0.0
    times_ms = []
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        for number in range(30):
            frame = take(camera)
            assert frame.index == number
            assert frame.t_ns <= clock.now_ns()
            times_ms.append(lateness_ns(device, frame) / MS)
    assert times_ms == pytest.approx([6 if n in {4, 6, 8} else 4 for n in range(30)], abs=0.001)


def test_reopened_camera_has_a_new_clock(device: Camera, clock: FakeClock) -> None:
    """The running time begins anew, and so does the estimate; the supervisor's numbers go on."""
    device.dies_after = 10
    opened: list[JetsonCamera] = []

    def reopen() -> JetsonCamera:
        opened.append(JetsonCamera("csi://0", clock, SETTINGS))
        return opened[-1]

    with ReconnectingVideo("camera csi://0", reopen, clock) as camera:
        frames = [camera.read() for _ in range(11)]
        device.dies_after = 10
        frames += [camera.read() for _ in range(11)]
    times = [frame.t_ns for frame in frames if frame]
    assert [frame.index for frame in frames if frame] == list(range(22))
    assert times[11] == device.base_ns + device.sensor_ns(0) + 4 * MS
    assert np.diff(times).min() > 30 * MS
    assert (len(opened), device.opened, device.closed) == (2, 2, 2)


# Numbers


def test_index_has_a_gap_where_the_sensor_lost_frames(device: Camera, clock: FakeClock) -> None:
    """jetson-utils numbers nothing: the stamps tell."""
    device.loses = {4, 5, 9}
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        numbers = [take(camera).index for _ in range(9)]
    assert numbers == [0, 1, 2, 3, 6, 7, 8, 10, 11]


def test_slow_reader_gets_the_newest_frame(device: Camera, clock: FakeClock) -> None:
    """The stale ones are dropped, and counted."""
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        take(camera)
        clock.advance(110 * MS)
        frame = take(camera)
        assert frame.index == 3
        assert (frame.image == 3).all()
        assert clock.now_ns() - frame.t_ns < 34 * MS


# How long a picture lives


@pytest.mark.parametrize("fps", [15, 30, 60, 120])
def test_frame_outlives_the_budget_and_the_face_tracker(
    device: Camera, clock: FakeClock, fps: int
) -> None:
    """Its bytes stay for a quarter of a second while the camera goes on, and not much longer."""
    device.fps = fps
    with JetsonCamera("csi://0", clock, CameraSettings(fps=fps, for_gpu=True)) as camera:
        held = take(camera)
        begin_ns = clock.now_ns()
        while clock.now_ns() - begin_ns < FRAME_LIFETIME_S * SECOND:
            take(camera)
            assert (held.image == 0).all()
        for _ in range(count_ring_buffers(fps)):
            take(camera)
        assert (held.image != 0).all()


def test_camera_faster_than_its_ring_is_reported(
    device: Camera, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A webcam may go faster than it was asked to; then pictures live shorter."""
    device.fps = 120
    JetsonCamera("/dev/video0", clock, SETTINGS).close()
    (record,) = caplog.records
    assert record.getMessage() == (
        "camera /dev/video0 gives 120 pictures a second, more than asked for: each is overwritten "
        "after 133 ms"
    )


def test_memory_outlives_the_camera(device: Camera, clock: FakeClock) -> None:
    """A picture that somebody still looks at keeps the memory; the last one gives it back."""
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    first, second = take(camera), take(camera)
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


def test_released_frames_free_their_memory(device: Camera, clock: FakeClock) -> None:
    """Without a picture in anybody's hands, closing frees everything."""
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    for _ in range(40):
        take(camera)
    camera.close()
    gc.collect()
    assert device.deleted == 1


# Failures


def test_dead_camera_is_given_up_after_a_second(device: Camera, clock: FakeClock) -> None:
    """Time-outs are counted, and after a second the supervisor gets its turn."""
    device.dies_after = 4
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        for _ in range(5):
            take(camera)
        begin_ns = clock.now_ns()
        with pytest.raises(SourceError, match="camera csi://0 gives no pictures"):
            camera.read()
    assert SECOND <= clock.now_ns() - begin_ns <= 1.2 * SECOND
    assert camera.timeouts == 5


def test_slow_start_is_waited_for(device: Camera, clock: FakeClock) -> None:
    """A sensor that takes three seconds to begin is not dead; after five it is."""
    device.starts_after_ms = 3000
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        assert take(camera).index == 0
        assert camera.timeouts > 10
    device.dies_after = -1
    begin_ns = clock.now_ns()
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    with pytest.raises(SourceError, match="gives no pictures"):
        camera.read()
    camera.close()
    assert 5 * SECOND <= clock.now_ns() - begin_ns <= 5.3 * SECOND


def test_short_silence_is_no_failure(device: Camera, clock: FakeClock) -> None:
    """Half a second without pictures, twice: time-outs begin anew with each picture."""
    device.loses = set(range(10, 25)) | set(range(26, 41))
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        numbers = [take(camera).index for _ in range(14)]
    assert numbers == [*range(10), 25, 41, 42, 43]
    assert camera.timeouts == 4


def test_passing_error_is_tried_again(device: Camera, clock: FakeClock) -> None:
    """One Capture that fails costs nothing; time after time, but never two in a row."""
    device.errors = [0, 3, 7]
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        assert [take(camera).index for _ in range(8)] == list(range(8))
        assert camera.retries == 3


def test_lasting_error_is_a_failed_camera(device: Camera, clock: FakeClock) -> None:
    """Two in a row are given to the supervisor, as one line that names the camera."""
    device.errors = [2, 3]
    with JetsonCamera("csi://0", clock, SETTINGS) as camera:
        take(camera)
        take(camera)
        with pytest.raises(SourceError) as raised:
            camera.read()
    assert str(raised.value) == (
        "camera csi://0 failed twice: jetson.utils -- videoSource failed to capture image"
    )


# Closing


def test_close_does_not_block_and_keeps_frames_in_use(device: Camera, clock: FakeClock) -> None:
    """While Capture waits, close returns; the reader stops the camera when Capture is back."""
    waiting, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        waiting.set()
        go_on.wait()

    camera = JetsonCamera("csi://0", clock, SETTINGS)
    device.hold = hold
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(camera.read()))
    reader.start()
    waiting.wait()
    camera.close()
    camera.close()
    assert (device.closed, device.deleted) == (0, 0)
    go_on.set()
    reader.join()
    assert device.closed == 1
    camera.close()
    assert camera.read() is None
    assert (device.closed, device.opened, len(device.captures)) == (1, 1, 1)


def test_closed_camera_is_not_opened_again(device: Camera, clock: FakeClock) -> None:
    """Capture would do that by itself."""
    camera = JetsonCamera("csi://0", clock, SETTINGS)
    take(camera)
    camera.close()
    assert [camera.read(), camera.read()] == [None, None]
    assert device.opened == 1


def test_unused_camera_closes(device: Camera, clock: FakeClock) -> None:
    """No Capture, no pipeline: closing is still in order."""
    with JetsonCamera("csi://0", clock, SETTINGS):
        pass
    assert (device.opened, device.closed) == (0, 1)


# The path


@pytest.mark.parametrize(
    ("codec", "copies"), [("raw", 1), ("unknown", 1), ("MJPEG", 2), ("H264", 2)]
)
def test_path_counts_decoding(device: Camera, clock: FakeClock, codec: str, copies: int) -> None:
    """One copy into the ring, one more for what had to be decoded."""
    device.codec = codec
    with JetsonCamera("/dev/video0", clock, SETTINGS) as camera:
        assert camera.path == CapturePath(copies, "gstreamer running time", "pinned")
    with JetsonCamera("/dev/video0", clock, CameraSettings(for_gpu=False)) as camera:
        assert camera.path == CapturePath(copies, "gstreamer running time", "none")

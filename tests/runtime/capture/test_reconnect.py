"""Reopening a failed device, on a fake clock."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from emotion_edge.runtime.capture import reconnect
from emotion_edge.runtime.capture.reconnect import (
    OPEN_TIMEOUT_NS,
    ReconnectingAudio,
    ReconnectingVideo,
    WaitPolicy,
)
from emotion_edge.runtime.capture.timestamps import DriverTimestamps
from emotion_edge.runtime.clock import FakeClock, MonotonicClock
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame

from .reading import read_many, read_next

MS = 1_000_000
WAIT = WaitPolicy(wait_for_first=True)


class FlakyCamera:
    """Delivers `count` frames and then fails."""

    def __init__(self, clock: FakeClock, count: int) -> None:
        self.clock, self.left, self.index, self.closed = clock, count, 0, 0
        self.path = CapturePath(count, "test", "none")

    def read(self) -> VideoFrame | None:
        if self.left == 0:
            raise SourceError("no frames")
        self.left -= 1
        self.clock.advance(33 * MS)
        self.index += 1
        return VideoFrame(self.clock.now_ns(), self.index - 1, np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed += 1


class FlakyMicrophone:
    """Delivers `count` chunks of 10 ms and then fails."""

    def __init__(self, clock: FakeClock, count: int, sample_rate_hz: int = 16000) -> None:
        self.clock, self.count, self.index = clock, count, 0
        self.sample_rate_hz = sample_rate_hz

    def read(self) -> AudioChunk | None:
        if self.index == self.count:
            raise SourceError("no audio")
        t_ns = self.clock.now_ns()
        self.clock.advance(10 * MS)
        self.index += 1
        return AudioChunk(t_ns, (self.index - 1) * 160, np.zeros(160, np.float32))

    def close(self) -> None: ...


class Opener:
    """Answers each opening with the next entry of a script: a number of frames, or an error."""

    def __init__(self, clock: FakeClock, *script: int | str) -> None:
        self.clock, self.script = clock, list(script)
        self.cameras: list[FlakyCamera] = []
        self.times_ms: list[int] = []

    def __call__(self) -> FlakyCamera:
        self.times_ms.append(self.clock.now_ns() // MS)
        step = self.script.pop(0)
        if isinstance(step, str):
            raise SourceError(step)
        self.cameras.append(FlakyCamera(self.clock, step))
        return self.cameras[-1]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def read_in_thread(source: ReconnectingVideo) -> threading.Thread:
    reader = threading.Thread(target=source.read)
    reader.start()
    return reader


def test_vanished_camera_is_reopened(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """The index goes on, each change is logged once, the dead device is closed."""
    opener = Opener(clock, 2, "no such device", "no such device", 2)
    camera = ReconnectingVideo("camera /dev/video9", opener, clock)
    with caplog.at_level(logging.INFO):
        assert [frame.index for frame in read_many(camera, 4)] == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "camera /dev/video9 lost: no frames",
        "camera /dev/video9 lost: no such device",
        "camera /dev/video9 is back",
    ]
    assert [fake.closed for fake in opener.cameras] == [1, 0]
    assert camera.path is opener.cameras[1].path
    assert camera.failures == 1
    camera.close()
    camera.close()
    assert [fake.closed for fake in opener.cameras] == [1, 1]
    assert camera.read() is None
    assert camera.path is opener.cameras[1].path


def test_alternating_causes_do_not_flood_the_log(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour in which every second attempt fails in another way."""
    opener = Opener(clock, 1, *["no such device", "no permission"] * 360, 1)
    camera = ReconnectingVideo("camera", opener, clock)
    read_many(camera, 2)
    assert clock.now_ns() > 3500 * 1_000_000_000
    assert camera.failures == 1
    assert 4 <= len(caplog.records) < 12


def test_back_off_doubles_up_to_five_seconds(clock: FakeClock) -> None:
    """Attempts follow after 0.5, 1, 2, 4, 5, 5 s, also if the device opens but fails at once. A
    good frame restarts the series."""
    opener = Opener(clock, 1, "a", "b", 0, "d", "e", 1, 1)
    camera = ReconnectingVideo("camera", opener, clock)
    read_many(camera, 2)
    assert np.diff(opener.times_ms[:7]).tolist() == [533, 1000, 2000, 4000, 5000, 5000]
    read_next(camera)
    assert opener.times_ms[-1] - opener.times_ms[-2] == 533


@pytest.mark.parametrize("kind", [ReconnectingVideo, ReconnectingAudio])
def test_first_opening_must_work(
    clock: FakeClock, kind: type[ReconnectingVideo] | type[ReconnectingAudio]
) -> None:
    """A device that is configured and missing is a usage error, unless the policy waits."""
    with pytest.raises(SourceError, match="no such device"):
        kind("device", Opener(clock, "no such device"), clock)  # type: ignore[arg-type]


def test_first_opening_may_be_awaited(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A camera that does not exist yet is like a lost one: logged once, tried more and more slowly,
    and read from its first frame on."""
    opener = Opener(clock, *["no such device"] * 4, 2)
    with caplog.at_level(logging.INFO):
        camera = ReconnectingVideo("camera", opener, clock, WAIT)
        assert (camera.fault, opener.times_ms) == ("", [])  # `read` opens it
        assert camera.path.clock_domain == "unknown"
        assert [frame.index for frame in read_many(camera, 2)] == [0, 1]
    assert np.diff(opener.times_ms).tolist() == [500, 1000, 2000, 4000]
    assert camera.fault == ""
    assert camera.path is opener.cameras[0].path
    assert len(caplog.records) == 2


def test_awaited_microphone(clock: FakeClock) -> None:
    """Its rate is known once it exists, and its samples are counted from then on."""
    script = [None, FlakyMicrophone(clock, 2)]

    def open_microphone() -> FlakyMicrophone:
        microphone = script.pop(0)
        if microphone is None:
            raise SourceError("no such device")
        return microphone

    microphone = ReconnectingAudio("microphone", open_microphone, clock, WAIT)
    assert [chunk.first_sample for chunk in read_many(microphone, 2)] == [0, 160]
    assert microphone.fault == ""
    assert microphone.sample_rate_hz == 16000


def test_only_source_errors_are_retried(clock: FakeClock) -> None:
    """A bug ends the read."""

    def open_wrongly() -> FlakyCamera:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        ReconnectingVideo("camera", open_wrongly, clock, WAIT).read()


def test_fault_lasts_until_the_first_frame(clock: FakeClock) -> None:
    """A device that opens and then fails is not back."""
    faults: list[str] = []

    class WatchedCamera(FlakyCamera):
        def read(self) -> VideoFrame | None:
            faults.append(camera.fault)
            return super().read()

    script = iter([1, 0, 1])
    camera = ReconnectingVideo("camera", lambda: WatchedCamera(clock, next(script)), clock)
    assert camera.fault == ""
    read_many(camera, 2)
    assert [bool(fault) for fault in faults] == [False, False, True, True]
    assert faults[-1].startswith("camera")
    assert camera.fault == ""


def test_optional_microphone_is_not_reported_missing(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is awaited without a warning until it has existed. After that its loss is a fault."""
    faults: list[bool] = []
    script = [None, None, FlakyMicrophone(clock, 1), None, FlakyMicrophone(clock, 1)]

    def open_microphone() -> FlakyMicrophone:
        faults.append(bool(microphone.fault))
        device = script.pop(0)
        if device is None:
            raise SourceError("no such device")
        return device

    policy = WaitPolicy(wait_for_first=True, optional=True)
    microphone = ReconnectingAudio("microphone", open_microphone, clock, policy)
    with caplog.at_level(logging.WARNING):
        read_next(microphone)
        assert (caplog.messages, microphone.fault) == ([], "")
        read_next(microphone)
    assert faults == [False, False, False, True, True]
    assert len(caplog.messages) == 3  # lost, lost for another cause, back


def test_end_of_source_is_not_a_failure(clock: FakeClock) -> None:
    class EndedCamera(FlakyCamera):
        def read(self) -> VideoFrame | None:
            return None

    assert ReconnectingVideo("camera", lambda: EndedCamera(clock, 0), clock).read() is None


# Closing


def test_close_ends_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting out the back-off."""
    monkeypatch.setattr(reconnect, "FIRST_DELAY_NS", 3_600_000_000_000)
    monkeypatch.setattr(reconnect, "MAX_DELAY_NS", 3_600_000_000_000)
    opener = Opener(FakeClock(), 0, *["gone"] * 9)
    camera = ReconnectingVideo("camera", opener, MonotonicClock())
    reader = read_in_thread(camera)
    camera.close()
    reader.join()


def test_close_ends_a_pause() -> None:
    """Also of a device that was never opened."""
    policy = WaitPolicy(wait_for_first=True, capture_allowed=lambda: False)
    camera = ReconnectingVideo("camera", Opener(FakeClock()), MonotonicClock(), policy)
    reader = read_in_thread(camera)
    camera.close()
    reader.join()
    assert camera.read() is None


# Audio


def test_vanished_microphone_leaves_a_gap_of_its_length(clock: FakeClock) -> None:
    """After 0.5 s the sample index has jumped by 8000 samples, and goes on from there."""
    script = [FlakyMicrophone(clock, 2), FlakyMicrophone(clock, 2)]
    microphone = ReconnectingAudio("microphone", lambda: script.pop(0), clock)
    assert microphone.sample_rate_hz == 16000
    chunks = read_many(microphone, 4)
    assert [chunk.first_sample for chunk in chunks] == [0, 160, 8320, 8480]
    assert [chunk.t_ns // MS for chunk in chunks] == [0, 10, 520, 530]


def test_microphone_with_another_rate_is_refused(clock: FakeClock) -> None:
    """Its samples would have the wrong pitch: it counts as a failure."""
    script = [
        FlakyMicrophone(clock, 1),
        FlakyMicrophone(clock, 9, 48000),
        FlakyMicrophone(clock, 9),
    ]
    microphone = ReconnectingAudio("microphone", lambda: script.pop(0), clock)
    read_many(microphone, 2)
    assert script == []


# Pauses and privacy


class MutedMicrophone(FlakyMicrophone):
    """Delivers a tone from chunk `from_chunk` to `to_chunk`, else zeros."""

    def __init__(self, clock: FakeClock, from_chunk: int, to_chunk: int) -> None:
        super().__init__(clock, 10_000)
        self.from_chunk, self.to_chunk = from_chunk, to_chunk

    def read(self) -> AudioChunk | None:
        chunk = super().read()
        if chunk is not None and self.from_chunk <= self.index - 1 < self.to_chunk:
            chunk.samples[::2] = 1e-4
        return chunk


def test_microphone_that_delivers_only_zeros(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault after five seconds, logged once, until the first sound; a pause in speech is none."""
    microphone = ReconnectingAudio("microphone", lambda: MutedMicrophone(clock, 700, 800), clock)
    with caplog.at_level(logging.INFO):
        read_many(microphone, 499)
        assert microphone.fault == ""
        read_many(microphone, 201)
        assert "zeros" in microphone.fault
        read_many(microphone, 1)
        assert microphone.fault == ""
        read_many(microphone, 598)
        assert microphone.fault == ""
        read_many(microphone, 10)
        assert "zeros" in microphone.fault
    assert len(caplog.records) == 3


class DrivenCamera:
    """A camera whose driver fills buffers while it streams, read or not."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.timestamps = clock, DriverTimestamps("fake")
        self.began_ns, self.num_read, self.closed = clock.now_ns(), 0, False
        self.path = CapturePath(1, "test", "none")
        self.captured_ns: list[int] = []
        """The true capture time of each frame that was read."""

    def read(self) -> VideoFrame | None:
        due_ns = self.began_ns + (self.num_read + 1) * 33 * MS
        self.clock.advance(max(0, due_ns - self.clock.now_ns()))
        self.num_read += 1
        self.captured_ns.append(due_ns)
        t_ns = self.timestamps.capture_ns(due_ns, self.clock.now_ns())
        return VideoFrame(t_ns, self.num_read - 1, np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed = True


def test_frame_captured_while_paused_is_never_read(clock: FakeClock) -> None:
    """While capture is not allowed the camera is closed, so that its driver stores no frames of
    that time. The indices go on."""
    cameras: list[DrivenCamera] = []
    pause = [0, 600_000 * MS]  # begin and end: ten minutes

    def open_camera() -> DrivenCamera:
        assert capture_allowed()
        cameras.append(DrivenCamera(clock))
        return cameras[-1]

    def capture_allowed() -> bool:
        return not pause[0] <= clock.now_ns() < pause[1]

    policy = WaitPolicy(True, capture_allowed=capture_allowed)
    camera = ReconnectingVideo("camera", open_camera, clock, policy)
    frames = read_many(camera, 3)
    assert len(cameras) == 1  # not even opened during the pause
    pause = [clock.now_ns(), clock.now_ns() + 60_000 * MS]
    frames += read_many(camera, 2)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [device.closed for device in cameras] == [True, False]
    captured_ns = [t_ns for device in cameras for t_ns in device.captured_ns]
    assert [frame.t_ns for frame in frames] == captured_ns
    assert not any(pause[0] < t_ns <= pause[1] for t_ns in captured_ns)
    assert (camera.fault, camera.failures) == ("", 0)


def test_audio_continues_after_a_pause(clock: FakeClock) -> None:
    """With a gap as long as the device was closed."""
    allowed = iter([True, True, False, False, True, True])
    policy = WaitPolicy(capture_allowed=lambda: next(allowed))
    microphone = ReconnectingAudio("microphone", lambda: FlakyMicrophone(clock, 9), clock, policy)
    chunks = read_many(microphone, 3)
    assert [chunk.first_sample for chunk in chunks] == [0, 160, 3520]
    assert [chunk.t_ns // MS for chunk in chunks] == [0, 10, 220]


def test_no_frame_or_audio_is_stored_while_the_device_is_away(clock: FakeClock) -> None:
    """To continue the count, numbers are enough."""
    camera = ReconnectingVideo("camera", Opener(clock, 1, "gone"), clock)
    microphone = ReconnectingAudio("microphone", lambda: FlakyMicrophone(clock, 1), clock)
    frame, chunk = read_next(camera), read_next(microphone)
    references: list[Callable[[], object]] = [weakref.ref(frame.image), weakref.ref(chunk.samples)]
    del frame, chunk
    assert [reference() for reference in references] == [None, None]


def test_reopening_while_attempts_continue(clock: FakeClock) -> None:
    """Attempts to open explain missing frames for hours. A driver that hangs in opening or reading
    does not, and a working camera is not reopening."""
    reopening: list[bool] = []

    class HangingCamera(FlakyCamera):
        def read(self) -> VideoFrame | None:
            reopening.append(camera.is_reopening)
            clock.advance(OPEN_TIMEOUT_NS)
            reopening.append(camera.is_reopening)
            return super().read()

    def open_camera() -> FlakyCamera:
        reopening.append(camera.is_reopening)
        step = script.pop(0)
        if step == "hang":
            clock.advance(OPEN_TIMEOUT_NS)
            reopening.append(camera.is_reopening)
        if step == "silent":
            return HangingCamera(clock, 1)
        if step == "good":
            return FlakyCamera(clock, 1)
        raise SourceError("no such device")

    script = ["none"] * 200 + ["good"]
    camera = ReconnectingVideo("camera", open_camera, clock, WAIT)
    camera.read()
    assert len(reopening) == 201
    assert all(reopening)
    assert not camera.is_reopening
    reopening.clear()
    script = ["none", "hang", "none", "silent"]
    camera.read()
    assert reopening == [True, True, False, True, True, True, False]
    assert not camera.is_reopening

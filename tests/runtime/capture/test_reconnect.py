"""Opening a failed device again, on a clock that the test moves."""

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

MS = 1_000_000


class FlakyCamera:
    """Gives `count` pictures and then fails."""

    def __init__(self, clock: FakeClock, count: int) -> None:
        self.clock, self.left, self.index, self.closed = clock, count, 0, 0
        self.path = CapturePath(count, "test", "none")

    def read(self) -> VideoFrame | None:
        if self.left == 0:
            raise SourceError("camera fake gives no pictures")
        self.left -= 1
        self.clock.advance(33 * MS)
        self.index += 1
        return VideoFrame(self.clock.now_ns(), self.index - 1, np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed += 1


class Opener:
    """Answers each opening with the next entry of a script: a number of pictures, or a failure."""

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


def test_vanished_camera_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """The index goes on, each change is logged once, the dead device was closed."""
    clock = FakeClock()
    opener = Opener(clock, 2, "no such device", "no such device", 2)
    camera = ReconnectingVideo("camera /dev/video9", opener, clock)
    with caplog.at_level(logging.INFO):
        frames = [camera.read() for _ in range(4)]
    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "camera /dev/video9 lost: camera fake gives no pictures",
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


def test_causes_that_alternate_do_not_flood(caplog: pytest.LogCaptureFixture) -> None:
    """An hour in which every second attempt fails in another way."""
    clock = FakeClock()
    opener = Opener(clock, 1, *["no such device", "no permission"] * 360, 1)
    camera = ReconnectingVideo("camera", opener, clock)
    for _ in range(2):
        camera.read()
    assert clock.now_ns() > 3500 * 1_000_000_000
    assert camera.failures == 1
    assert {record.getMessage() for record in caplog.records} == {
        "camera lost: camera fake gives no pictures",
        "camera lost: no such device",
        "camera lost: no permission",
        "camera is back",
    }
    assert len(caplog.records) < 12


def test_back_off_doubles_up_to_five_seconds() -> None:
    """Attempts follow after 0.5, 1, 2, 4, 5, 5 s, also when the device opens but gives nothing."""
    clock = FakeClock()
    opener = Opener(clock, 1, "a", "b", 0, "d", "e", 1, 1)
    camera = ReconnectingVideo("camera", opener, clock)
    camera.read()
    camera.read()
    assert np.diff(opener.times_ms[:7]).tolist() == [533, 1000, 2000, 4000, 5000, 5000]
    camera.read()
    assert opener.times_ms[-1] - opener.times_ms[-2] == 533  # one good picture starts it anew


def test_first_opening_must_work() -> None:
    """A camera that was asked for by name and is not there is the user's mistake, not a wait."""
    clock = FakeClock()
    with pytest.raises(SourceError, match="no such device"):
        ReconnectingVideo("camera", Opener(clock, "no such device"), clock)
    microphone = Opener(clock, "no such device")
    with pytest.raises(SourceError, match="no such device"):
        ReconnectingAudio("microphone", microphone, clock)  # type: ignore[arg-type]


def test_first_opening_may_be_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """With `wait` a camera that is not there yet is one that was lost: said once, looked for ever
    more slowly, and read from its first picture on."""
    clock = FakeClock()
    opener = Opener(clock, *["no such device"] * 4, 2)
    with caplog.at_level(logging.INFO):
        camera = ReconnectingVideo("camera", opener, clock, WaitPolicy(wait_for_first=True))
        assert (camera.fault, opener.times_ms) == ("", [])  # who reads it opens it
        assert camera.path.clock_domain == "unknown"
        frames = [camera.read() for _ in range(2)]
    assert [frame.index for frame in frames if frame] == [0, 1]
    assert np.diff(opener.times_ms).tolist() == [500, 1000, 2000, 4000]
    assert camera.fault == ""
    assert camera.path is opener.cameras[0].path
    assert [record.getMessage() for record in caplog.records] == [
        "camera lost: no such device",
        "camera is back",
    ]


def test_waiting_ends_with_a_close() -> None:
    """Also before there ever was a device."""
    camera = ReconnectingVideo(
        "camera", Opener(FakeClock(), "gone"), MonotonicClock(), WaitPolicy(wait_for_first=True)
    )
    camera.close()
    assert camera.read() is None


def test_only_a_missing_device_is_waited_for() -> None:
    """A mistake of ours is none that time mends."""

    def open_wrongly() -> FlakyCamera:
        raise ValueError("a bug of ours")

    camera = ReconnectingVideo("camera", open_wrongly, FakeClock(), WaitPolicy(wait_for_first=True))
    with pytest.raises(ValueError, match="a bug of ours"):
        camera.read()


def test_fault_lasts_until_the_first_frame() -> None:
    """A device that opens and gives nothing is not back."""
    clock = FakeClock()
    seen: list[str] = []

    class Watched(FlakyCamera):
        def read(self) -> VideoFrame | None:
            seen.append(camera.fault)
            return super().read()

    script = iter([1, 0, 1])
    camera = ReconnectingVideo("camera /dev/video9", lambda: Watched(clock, next(script)), clock)
    assert camera.fault == ""
    camera.read()
    camera.read()
    lost = "camera /dev/video9 is missing"
    assert seen == ["", "", lost, lost]
    assert camera.fault == ""


def test_microphone_that_is_waited_for() -> None:
    """Its rate is known when it is there, and its samples are counted from then on."""
    clock = FakeClock()
    script: list[FakeMicrophone | None] = [None, FakeMicrophone(audio(clock, 2))]

    def open_microphone() -> FakeMicrophone:
        microphone = script.pop(0)
        if microphone is None:
            raise SourceError("no such device")
        return microphone

    microphone = ReconnectingAudio(
        "microphone", open_microphone, clock, WaitPolicy(wait_for_first=True)
    )
    chunks = [microphone.read() for _ in range(2)]
    assert [chunk.first_sample for chunk in chunks if chunk] == [0, 160]
    assert microphone.fault == ""
    assert microphone.sample_rate_hz == 16000


def test_end_of_source_is_not_a_failure() -> None:
    """None from the source is passed on."""

    class Ended(FlakyCamera):
        def read(self) -> VideoFrame | None:
            return None

    clock = FakeClock()
    assert ReconnectingVideo("camera", lambda: Ended(clock, 0), clock).read() is None


def test_close_ends_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that waits for its device stops without waiting out the back-off."""
    monkeypatch.setattr(reconnect, "FIRST_DELAY_NS", 3_600_000_000_000)
    monkeypatch.setattr(reconnect, "MAX_DELAY_NS", 3_600_000_000_000)
    fake = FakeClock()
    opener = Opener(fake, 0, *["gone"] * 9)
    camera = ReconnectingVideo("camera", opener, MonotonicClock())
    reader = threading.Thread(target=camera.read)
    reader.start()
    camera.close()
    reader.join()


def audio(clock: FakeClock, count: int, rate_hz: int = 16000) -> Callable[[], AudioChunk | None]:
    """A read function of a microphone that dies after `count` chunks."""
    done = 0

    def read() -> AudioChunk | None:
        nonlocal done
        if done == count:
            raise SourceError("microphone fake has stopped")
        t_ns = clock.now_ns()
        clock.advance(10 * MS)
        done += 1
        return AudioChunk(t_ns, (done - 1) * 160, np.zeros(160, np.float32))

    return read


class FakeMicrophone:
    def __init__(self, read: Callable[[], AudioChunk | None], rate_hz: int = 16000) -> None:
        self.read = read
        self.sample_rate_hz = rate_hz

    def close(self) -> None:
        pass


def test_vanished_microphone_leaves_a_gap_of_its_length() -> None:
    """After 0.5 s away the sample index has jumped by 8000 samples, and goes on from there."""
    clock = FakeClock()
    script = [FakeMicrophone(audio(clock, 2)), FakeMicrophone(audio(clock, 2))]
    microphone = ReconnectingAudio("microphone", lambda: script.pop(0), clock)
    assert microphone.sample_rate_hz == 16000
    chunks = [microphone.read() for _ in range(4)]
    assert [chunk.first_sample for chunk in chunks if chunk] == [0, 160, 8320, 8480]
    assert [chunk.t_ns // MS for chunk in chunks if chunk] == [0, 10, 520, 530]


def test_microphone_with_another_rate_is_refused() -> None:
    """Samples of another rate would be heard at the wrong pitch: it counts as a failure."""
    clock = FakeClock()
    script = [
        FakeMicrophone(audio(clock, 1)),
        FakeMicrophone(audio(clock, 9), 48000),
        FakeMicrophone(audio(clock, 9)),
    ]
    microphone = ReconnectingAudio("microphone", lambda: script.pop(0), clock)
    microphone.read()
    microphone.read()
    assert script == []


def test_optional_microphone_is_not_reported_missing(caplog: pytest.LogCaptureFixture) -> None:
    """ "auto" on a machine without one is waited for without a word; one that was there and went is
    missed like any other."""
    clock = FakeClock()
    faults: list[str] = []
    script = [None, None, FakeMicrophone(audio(clock, 1)), None, FakeMicrophone(audio(clock, 1))]

    def open_microphone() -> FakeMicrophone:
        faults.append(microphone.fault)
        found = script.pop(0)
        if found is None:
            raise SourceError("no such device")
        return found

    wait_policy = WaitPolicy(wait_for_first=True, optional=True)
    microphone = ReconnectingAudio("microphone", open_microphone, clock, wait_policy)
    with caplog.at_level(logging.WARNING):
        microphone.read()
        assert (caplog.messages, microphone.fault) == ([], "")
        microphone.read()
    assert faults == ["", "", "", *["microphone is missing"] * 2]
    lost = "microphone lost: "
    assert caplog.messages == [
        f"{lost}microphone fake has stopped",
        f"{lost}no such device",
        "microphone is back",
    ]


class DrivenCamera:
    """One with a driver: it fills buffers while the stream is on, whether they are read or not, and
    gives them in their order."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.stamps = clock, DriverTimestamps("fake")
        self.began_ns, self.taken, self.closed = clock.now_ns(), 0, False
        self.path = CapturePath(1, "test", "none")
        self.captured_ns: list[int] = []
        """When each picture that was read was really taken."""

    def read(self) -> VideoFrame | None:
        due_ns = self.began_ns + (self.taken + 1) * 33 * MS
        self.clock.advance(max(0, due_ns - self.clock.now_ns()))
        self.taken += 1
        self.captured_ns.append(due_ns)
        t_ns = self.stamps.capture_ns(due_ns, self.clock.now_ns())
        return VideoFrame(t_ns, self.taken - 1, np.zeros((2, 2, 3), np.uint8))

    def close(self) -> None:
        self.closed = True


def test_frame_captured_while_paused_is_never_read() -> None:
    """While it may not be read the camera is closed, so that its driver holds nothing of that time
    to be given out later, dated as now. The indices go on."""
    clock = FakeClock()
    cameras: list[DrivenCamera] = []
    dark = [0, 600_000 * MS]  # from when until when: ten minutes

    def open_camera() -> DrivenCamera:
        assert capture_allowed()
        cameras.append(DrivenCamera(clock))
        return cameras[-1]

    def capture_allowed() -> bool:
        return not dark[0] <= clock.now_ns() < dark[1]

    camera = ReconnectingVideo(
        "camera", open_camera, clock, WaitPolicy(True, capture_allowed=capture_allowed)
    )
    frames = [camera.read() for _ in range(3)]
    assert len(cameras) == 1  # in the dark it is not even opened
    dark = [clock.now_ns(), clock.now_ns() + 60_000 * MS]
    frames += [camera.read() for _ in range(2)]
    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3, 4]
    assert [one.closed for one in cameras] == [True, False]
    captured_ns = [t_ns for one in cameras for t_ns in one.captured_ns]
    assert [frame.t_ns for frame in frames if frame] == captured_ns
    assert not any(dark[0] < t_ns <= dark[1] for t_ns in captured_ns)
    assert (camera.fault, camera.failures) == ("", 0)


def test_audio_continues_after_a_pause() -> None:
    """With a gap as long as the device was closed."""
    clock = FakeClock()
    lit = iter([True, True, False, False, True, True])
    wait_policy = WaitPolicy(capture_allowed=lambda: next(lit))
    microphone = ReconnectingAudio(
        "microphone", lambda: FakeMicrophone(audio(clock, 9)), clock, wait_policy
    )
    chunks = [microphone.read() for _ in range(3)]
    assert [chunk.first_sample for chunk in chunks if chunk] == [0, 160, 3520]
    assert [chunk.t_ns // MS for chunk in chunks if chunk] == [0, 10, 220]


def test_nothing_seen_or_heard_is_kept_while_the_device_is_away() -> None:
    """To go on counting, numbers are enough: the last frame and chunk are nobody's any more."""
    clock = FakeClock()
    camera = ReconnectingVideo("camera", Opener(clock, 1, "gone"), clock)
    microphone = ReconnectingAudio("microphone", lambda: FakeMicrophone(audio(clock, 1)), clock)
    frame, chunk = camera.read(), microphone.read()
    assert frame is not None
    assert chunk is not None
    kept = weakref.ref(frame.image), weakref.ref(chunk.samples)
    del frame, chunk
    assert [one() for one in kept] == [None, None]


def test_rest_ends_with_a_close() -> None:
    """Also of a device that was never opened."""
    wait_policy = WaitPolicy(wait_for_first=True, capture_allowed=lambda: False)
    camera = ReconnectingVideo("camera", Opener(FakeClock()), MonotonicClock(), wait_policy)
    reader = threading.Thread(target=camera.read)
    reader.start()
    camera.close()
    reader.join()


def test_reopening_while_attempts_continue() -> None:
    """A device that is looked for is a good reason for no pictures, for hours; a driver that holds
    an attempt up, in opening or reading, is none, and neither is a camera that works."""
    clock = FakeClock()
    seen: list[bool] = []

    class Hanging(FlakyCamera):
        def read(self) -> VideoFrame | None:
            seen.append(camera.is_reopening)
            clock.advance(OPEN_TIMEOUT_NS)
            seen.append(camera.is_reopening)
            return super().read()

    def open_camera() -> FlakyCamera:
        seen.append(camera.is_reopening)
        step = script.pop(0)
        if step == "hang":
            clock.advance(OPEN_TIMEOUT_NS)
            seen.append(camera.is_reopening)
        if step == "silent":
            return Hanging(clock, 1)
        if step == "good":
            return FlakyCamera(clock, 1)
        raise SourceError("no such device")

    script = ["none"] * 200 + ["good"]
    camera = ReconnectingVideo("camera", open_camera, clock, WaitPolicy(wait_for_first=True))
    camera.read()
    assert len(seen) == 201
    assert all(seen)
    assert not camera.is_reopening
    seen.clear()
    script = ["none", "hang", "none", "silent"]
    camera.read()
    assert seen == [True, True, False, True, True, True, False]
    assert not camera.is_reopening

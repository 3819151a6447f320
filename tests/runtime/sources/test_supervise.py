"""Opening a failed device again, on a clock that the test moves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from emotion_edge.runtime.clock import FakeClock, MonotonicClock
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame
from emotion_edge.runtime.sources.supervise import supervise_audio, supervise_video

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
    """The index goes on, each change of state is logged once, the dead device was closed."""
    clock = FakeClock()
    opener = Opener(clock, 2, "no such device", "no such device", 2)
    camera = supervise_video("camera /dev/video9", opener, clock)
    with caplog.at_level(logging.INFO):
        frames = [camera.read() for _ in range(4)]
    assert [frame.index for frame in frames if frame] == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "camera /dev/video9 lost: camera fake gives no pictures",
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


def test_back_off_doubles_up_to_five_seconds() -> None:
    """Attempts follow after 0.5, 1, 2, 4, 5, 5 s, also when the device opens but gives nothing."""
    clock = FakeClock()
    opener = Opener(clock, 1, "a", "b", 0, "d", "e", 1, 1)
    camera = supervise_video("camera", opener, clock)
    camera.read()
    camera.read()
    assert np.diff(opener.times_ms[:7]).tolist() == [533, 1000, 2000, 4000, 5000, 5000]
    camera.read()
    assert opener.times_ms[-1] - opener.times_ms[-2] == 533  # one good picture starts it anew


def test_first_opening_must_work() -> None:
    """A camera that was asked for by name and is not there is the user's mistake, not a wait."""
    clock = FakeClock()
    with pytest.raises(SourceError, match="no such device"):
        supervise_video("camera", Opener(clock, "no such device"), clock)
    microphone = Opener(clock, "no such device")
    with pytest.raises(SourceError, match="no such device"):
        supervise_audio("microphone", microphone, clock)  # type: ignore[arg-type]


def test_first_opening_may_be_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """With `wait` a camera that is not there yet is one that was lost: said once, looked for ever
    more slowly, and read from its first picture on."""
    clock = FakeClock()
    opener = Opener(clock, *["no such device"] * 4, 2)
    with caplog.at_level(logging.INFO):
        camera = supervise_video("camera", opener, clock, wait=True)
        assert camera.trouble == "camera is missing"
        assert camera.path.clock_domain == "unknown"
        frames = [camera.read() for _ in range(2)]
    assert [frame.index for frame in frames if frame] == [0, 1]
    assert np.diff(opener.times_ms).tolist() == [0, 500, 1000, 2000]
    assert camera.trouble == ""
    assert camera.path is opener.cameras[0].path
    assert [record.getMessage() for record in caplog.records] == [
        "camera lost: no such device",
        "camera is back",
    ]


def test_waiting_ends_with_a_close() -> None:
    """Also before there ever was a device."""
    camera = supervise_video("camera", Opener(FakeClock(), "gone"), MonotonicClock(), wait=True)
    camera.close()
    assert camera.read() is None


def test_only_a_missing_device_is_waited_for() -> None:
    """A mistake of ours is none that time mends."""

    def open_wrongly() -> FlakyCamera:
        raise ValueError("a bug of ours")

    with pytest.raises(ValueError, match="a bug of ours"):
        supervise_video("camera", open_wrongly, FakeClock(), wait=True)


def test_trouble_lasts_until_there_is_a_picture() -> None:
    """A device that opens and gives nothing is not back."""
    clock = FakeClock()
    seen: list[str] = []

    class Watched(FlakyCamera):
        def read(self) -> VideoFrame | None:
            seen.append(camera.trouble)
            return super().read()

    script = iter([1, 0, 1])
    camera = supervise_video("camera /dev/video9", lambda: Watched(clock, next(script)), clock)
    assert camera.trouble == ""
    camera.read()
    camera.read()
    lost = "camera /dev/video9 is missing"
    assert seen == ["", "", lost, lost]
    assert camera.trouble == ""


def test_microphone_that_is_waited_for() -> None:
    """Its rate is known when it is there, and its samples are counted from then on."""
    clock = FakeClock()
    script: list[FakeMicrophone | None] = [None, FakeMicrophone(sound(clock, 2))]

    def open_microphone() -> FakeMicrophone:
        microphone = script.pop(0)
        if microphone is None:
            raise SourceError("no such device")
        return microphone

    microphone = supervise_audio("microphone", open_microphone, clock, wait=True)
    assert microphone.trouble == "microphone is missing"
    chunks = [microphone.read() for _ in range(2)]
    assert [chunk.first_sample for chunk in chunks if chunk] == [0, 160]
    assert microphone.trouble == ""
    assert microphone.sample_rate_hz == 16000


def test_end_of_source_is_not_a_failure() -> None:
    """None from the source is passed on."""

    class Ended(FlakyCamera):
        def read(self) -> VideoFrame | None:
            return None

    clock = FakeClock()
    assert supervise_video("camera", lambda: Ended(clock, 0), clock).read() is None


def test_close_ends_the_wait_at_once() -> None:
    """A supervisor that waits for its device stops without waiting out the back-off."""
    fake = FakeClock()
    opener = Opener(fake, 0, *["gone"] * 9)
    camera = supervise_video("camera", opener, MonotonicClock())
    reader = threading.Thread(target=camera.read)
    reader.start()
    begin_s = time.monotonic()
    camera.close()
    reader.join(5)
    assert not reader.is_alive()
    assert time.monotonic() - begin_s < 0.4


def sound(clock: FakeClock, count: int, rate_hz: int = 16000) -> Callable[[], AudioChunk | None]:
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
    script = [FakeMicrophone(sound(clock, 2)), FakeMicrophone(sound(clock, 2))]
    microphone = supervise_audio("microphone", lambda: script.pop(0), clock)
    assert microphone.sample_rate_hz == 16000
    chunks = [microphone.read() for _ in range(4)]
    assert [chunk.first_sample for chunk in chunks if chunk] == [0, 160, 8320, 8480]
    assert [chunk.t_ns // MS for chunk in chunks if chunk] == [0, 10, 520, 530]


def test_microphone_with_another_rate_is_not_taken() -> None:
    """Samples of another rate would be heard at the wrong pitch: it counts as a failure."""
    clock = FakeClock()
    script = [
        FakeMicrophone(sound(clock, 1)),
        FakeMicrophone(sound(clock, 9), 48000),
        FakeMicrophone(sound(clock, 9)),
    ]
    microphone = supervise_audio("microphone", lambda: script.pop(0), clock)
    microphone.read()
    microphone.read()
    assert script == []

"""Real-pace playing: what is delivered when, on a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from emotion_edge.runtime.capture.playback import Playback, merge_events
from emotion_edge.runtime.clock import FakeClock, MonotonicClock
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame

START_NS = 5_000_000_000


class Sequence:
    """Media of four pictures, 40 ms apart, and 10 chunks; `fail_at` breaks the decoder."""

    sample_rate_hz = 16000
    copies_per_frame = 5

    def __init__(
        self,
        *,
        fail_at: int = -1,
        has_video: bool = True,
        has_audio: bool = True,
        period_ns: int = 40_000_000,
    ) -> None:
        self.fail_at, self.period_ns = fail_at, period_ns
        self.has_video = has_video
        self.has_audio = has_audio
        self.decoded = 0

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        count = 1000 if loop else 4
        for index in range(count):
            if index == self.fail_at:
                raise SourceError("clip.mp4: broken")
            self.decoded += 1
            yield VideoFrame(index * self.period_ns, index, np.zeros((2, 2, 3), np.uint8))

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for index in range(10):
            yield AudioChunk(index * 10_000_000, index * 160, np.zeros(160, np.float32))


def test_frames_come_at_their_time_after_the_start() -> None:
    """A picture of media time m has t_ns start + m and is not delivered before."""
    clock = FakeClock(START_NS)
    with Playback(Sequence(has_audio=False), clock) as playback:
        assert playback.video is not None
        for index in range(4):
            frame = playback.video.read()
            assert frame is not None
            assert frame.t_ns == START_NS + index * 40_000_000 == clock.now_ns()
        assert playback.video.read() is None
        assert playback.video.read() is None
        assert playback.video.path == CapturePath(
            5, "media time since the start, on the monotonic clock", "none"
        )


def test_chunk_is_delivered_when_its_last_sample_is_due() -> None:
    """A chunk carries the time of its first sample and is delivered at the end of its last."""
    clock = FakeClock(START_NS)
    with Playback(Sequence(has_video=False), clock) as playback:
        assert playback.video is None
        assert playback.audio is not None
        assert playback.audio.sample_rate_hz == 16000
        chunk = playback.audio.read()
        assert chunk is not None
        assert chunk.t_ns == START_NS
        assert clock.now_ns() == START_NS + 10_000_000


def test_a_late_reader_does_not_move_the_schedule() -> None:
    """The reader was away for 90 ms: the pictures come at once, with the times they had anyway."""
    clock = FakeClock(START_NS)
    with Playback(Sequence(has_audio=False), clock) as playback:
        assert playback.video is not None
        playback.video.read()
        clock.advance(90_000_000)
        late = [playback.video.read() for _ in range(3)]
        assert [frame.t_ns - START_NS for frame in late if frame] == [
            40_000_000, 80_000_000, 120_000_000,
        ]  # fmt: skip
        assert clock.now_ns() == START_NS + 120_000_000


def test_video_and_audio_share_the_start() -> None:
    """Time starts at the first read of either one, not when the file was opened."""
    clock = FakeClock(START_NS)
    with Playback(Sequence(), clock) as playback:
        assert playback.video is not None
        assert playback.audio is not None
        clock.advance(1_000_000_000)  # engines warm up
        chunk = playback.audio.read()
        clock.advance(500_000_000)
        frame = playback.video.read()
        assert chunk is not None
        assert frame is not None
        assert chunk.t_ns == frame.t_ns == START_NS + 1_000_000_000


def test_decoder_runs_only_a_few_frames_ahead() -> None:
    """Memory stays bounded however long the clip is and however slow the reader."""
    media = Sequence(has_audio=False)
    with Playback(media, FakeClock(), loop=True) as playback:
        assert playback.video is not None
        for _ in range(20):
            playback.video.read()
        assert 20 <= media.decoded <= 26


def test_unread_audio_does_not_block_the_video() -> None:
    """One source may be read alone; the other waits in its own queue."""
    with Playback(Sequence(), FakeClock(), loop=True) as playback:
        assert playback.video is not None
        frames = [playback.video.read() for _ in range(100)]
        assert frames[-1] is not None
        assert frames[-1].index == 99


def test_failure_at_the_start_is_raised_at_once() -> None:
    """A clip whose first picture cannot be decoded is refused where it is opened."""
    with pytest.raises(SourceError, match="broken"):
        Playback(Sequence(fail_at=0), FakeClock())


def test_failure_midway_is_raised_after_what_was_good() -> None:
    """What was decoded before the failure is delivered first."""
    with Playback(Sequence(fail_at=2, has_audio=False), FakeClock()) as playback:
        assert playback.video is not None
        assert playback.video.read() is not None
        assert playback.video.read() is not None
        with pytest.raises(SourceError, match="broken"):
            playback.video.read()


def test_close_wakes_a_waiting_read() -> None:
    """A reader that waits an hour for the next picture is let go, and gets None."""
    media = Sequence(has_audio=False, period_ns=3_600 * 10**9)
    with Playback(media, MonotonicClock()) as playback:
        assert playback.video is not None
        assert playback.video.read() is not None
        got: list[object] = []
        reader = threading.Thread(target=lambda: got.append(playback.video.read()))
        reader.start()
        playback.close()
        reader.join()
        assert got == [None]
        playback.close()
        assert playback.video.read() is None


def test_close_ends_the_decoders() -> None:
    """No thread is left behind, also when nothing was ever read."""
    before = set(threading.enumerate())
    Playback(Sequence(), FakeClock(), loop=True).close()
    assert set(threading.enumerate()) <= before


def test_merge_orders_finished_audio_before_the_frame() -> None:
    """The sound of 30..40 ms comes before the picture of 40 ms, that of 40..50 ms after it."""
    times = [(type(event).__name__, event.t_ns // 1_000_000) for event in merge_events(Sequence())]
    at = times.index(("VideoFrame", 40))
    assert times[at - 1] == ("AudioChunk", 30)
    assert times[at + 1] == ("AudioChunk", 40)
    assert len(times) == 14

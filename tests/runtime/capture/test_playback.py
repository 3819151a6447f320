"""Real-time playback, on a fake clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from emotion_edge.runtime.capture.playback import Playback, PlayedAudio, PlayedVideo, merge_events
from emotion_edge.runtime.clock import Clock, FakeClock, MonotonicClock
from emotion_edge.runtime.messages import AudioChunk, CapturePath, SourceError, VideoFrame

from .reading import read_many, read_next

START_NS = 5_000_000_000
MS = 1_000_000


class FakeMedia:
    """Four frames, 40 ms apart, and 10 chunks. Decoding frame `fail_at` fails."""

    sample_rate_hz = 16000
    copies_per_frame = 5

    def __init__(
        self,
        *,
        fail_at: int = -1,
        has_video: bool = True,
        has_audio: bool = True,
        period_ns: int = 40 * MS,
        num_chunks: int = 10,
    ) -> None:
        self.fail_at, self.period_ns = fail_at, period_ns
        self.has_video, self.has_audio = has_video, has_audio
        self.num_chunks = num_chunks
        self.decoded = 0

    def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
        for index in range(1000 if loop else 4):
            if index == self.fail_at:
                raise SourceError("clip.mp4: corrupt")
            self.decoded += 1
            yield VideoFrame(index * self.period_ns, index, np.zeros((2, 2, 3), np.uint8))

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        for index in range(self.num_chunks):
            yield AudioChunk(index * 10 * MS, index * 160, np.zeros(160, np.float32))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_NS)


def play_video(media: FakeMedia, clock: Clock, *, loop: bool = False) -> PlayedVideo:
    video = Playback(media, clock, loop=loop).video
    assert video is not None
    return video


def play_both(clock: Clock, *, loop: bool = False) -> tuple[PlayedVideo, PlayedAudio]:
    playback = Playback(FakeMedia(), clock, loop=loop)
    assert playback.video is not None
    assert playback.audio is not None
    return playback.video, playback.audio


def test_frames_are_delivered_at_their_time(clock: FakeClock) -> None:
    """A frame of media time m has t_ns start + m and is not delivered before."""
    with play_video(FakeMedia(has_audio=False), clock) as video:
        for index in range(4):
            assert read_next(video).t_ns == START_NS + index * 40 * MS == clock.now_ns()
        assert [video.read(), video.read()] == [None, None]
        assert video.path == CapturePath(
            5, "media time since the start, on the monotonic clock", "none"
        )


def test_chunk_is_delivered_when_its_last_sample_is_due(clock: FakeClock) -> None:
    """Its time is that of its first sample."""
    with Playback(FakeMedia(has_video=False), clock) as playback:
        assert playback.video is None
        assert read_next(playback.audio).t_ns == START_NS
        assert clock.now_ns() == START_NS + 10 * MS


def test_late_reader_does_not_move_the_schedule(clock: FakeClock) -> None:
    """After a pause of 90 ms the due frames come at once, with their scheduled times."""
    with play_video(FakeMedia(has_audio=False), clock) as video:
        read_next(video)
        clock.advance(90 * MS)
        late = read_many(video, 3)
        assert [frame.t_ns - START_NS for frame in late] == [40 * MS, 80 * MS, 120 * MS]
        assert clock.now_ns() == START_NS + 120 * MS


def test_video_and_audio_share_the_start(clock: FakeClock) -> None:
    """Time starts at the first read of either one, not when the file is opened."""
    video, audio = play_both(clock)
    with video, audio:
        clock.advance(1000 * MS)  # engines warm up
        chunk = read_next(audio)
        clock.advance(50 * MS)
        assert chunk.t_ns == read_next(video).t_ns == START_NS + 1000 * MS


def test_late_items_are_left_out_like_a_cameras(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After three seconds without a read, frames go on where they are due, and so does the sound;
    both on the same clock. The fault ends when all comes in time again, and the sum is logged."""
    media = FakeMedia(num_chunks=1000)
    with Playback(media, clock, loop=True, name="talk.mp4") as playback:
        read_next(playback.video)
        read_next(playback.audio)
        assert playback.fault == ""
        clock.advance(2990 * MS)
        frame, chunk = read_next(playback.video), read_next(playback.audio)
        assert (frame.index, frame.t_ns) == (73, START_NS + 2920 * MS)
        assert (chunk.t_ns - START_NS, chunk.first_sample) == (1990 * MS, 199 * 160)
        assert "talk.mp4" in playback.fault
        while clock.now_ns() < START_NS + 9_000 * MS:
            read_next(playback.video)
        assert playback.fault == ""
        caplog.clear()
    assert [record.args for record in caplog.records] == [("talk.mp4", 72, pytest.approx(1.98))]


def test_nothing_is_left_out_where_losses_are_measured(clock: FakeClock) -> None:
    """The bench plays preloaded media as a device."""
    with Playback(FakeMedia(), clock, loop=True, background=False) as playback:
        read_next(playback.video)
        clock.advance(3_000 * MS)
        assert [frame.index for frame in read_many(playback.video, 5)] == [1, 2, 3, 4, 5]


def test_late_frame_that_is_still_shown_comes(clock: FakeClock) -> None:
    with play_video(Slides(9_000 * MS), clock) as video:
        read_next(video)
        video._thread.join()  # all is decoded
        clock.advance(8_000 * MS)
        assert read_next(video).t_ns == START_NS + 5_000 * MS


def test_decoder_runs_only_a_few_frames_ahead(clock: FakeClock) -> None:
    """Memory is bounded for any length of the clip."""
    media = FakeMedia(has_audio=False)
    with play_video(media, clock, loop=True) as video:
        read_many(video, 20)
        assert 20 <= media.decoded <= 26


def test_unread_audio_does_not_block_the_video(clock: FakeClock) -> None:
    video, audio = play_both(clock, loop=True)
    with video, audio:
        assert read_many(video, 100)[-1].index == 99


def test_failure_at_the_start_is_raised_at_once(clock: FakeClock) -> None:
    with pytest.raises(SourceError, match=r"clip\.mp4"):
        Playback(FakeMedia(fail_at=0), clock)


def test_failure_midway_is_raised_after_the_good_frames(clock: FakeClock) -> None:
    with play_video(FakeMedia(fail_at=2, has_audio=False), clock) as video:
        read_many(video, 2)
        with pytest.raises(SourceError, match=r"clip\.mp4"):
            video.read()


def test_close_wakes_a_waiting_read() -> None:
    """A reader that waits an hour for the next frame gets None."""
    media = FakeMedia(has_audio=False, period_ns=3_600_000 * MS)
    with Playback(media, MonotonicClock()) as playback:
        video = playback.video
        assert video is not None
        read_next(video)
        results: list[object] = []
        reader = threading.Thread(target=lambda: results.append(video.read()))
        reader.start()
        playback.close()
        reader.join()
        assert results == [None]
        playback.close()
        assert video.read() is None


@pytest.mark.parametrize("background", [True, False])
def test_close_ends_the_decoders(clock: FakeClock, background: bool) -> None:
    """No thread is left, also if nothing was ever read."""
    before = set(threading.enumerate())
    Playback(FakeMedia(), clock, loop=True, background=background).close()
    assert set(threading.enumerate()) <= before


def test_merge_orders_audio_that_began_before_the_frame() -> None:
    """The audio of 30..40 ms comes before the frame of 40 ms, that of 40..50 ms after it."""
    events = [(type(event).__name__, event.t_ns // MS) for event in merge_events(FakeMedia())]
    at = events.index(("VideoFrame", 40))
    assert events[at - 1] == ("AudioChunk", 30)
    assert events[at + 1] == ("AudioChunk", 40)
    assert len(events) == 14


def test_merge_plays_audio_and_frames_to_their_ends() -> None:
    """Frames that begin late and audio that ends later, or the reverse."""
    media = FakeMedia(period_ns=10 * MS)
    assert [event.t_ns // MS for event in merge_events(media)][-4:] == [60, 70, 80, 90]
    assert [event.t_ns // MS for event in merge_events(FakeMedia(period_ns=60 * MS))][-1] == 180


class Slides(FakeMedia):
    """Frames at 0, 0.5 and 5 s, which the file says to show for `stated_ns`."""

    def __init__(self, stated_ns: int) -> None:
        super().__init__(has_audio=False)
        self.stated_ns = stated_ns

    def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
        for frame, t_ms in zip(super().frames(), (0, 500, 5000), strict=False):
            yield replace(frame, t_ns=t_ms * MS, shown_ns=self.stated_ns)


@pytest.mark.parametrize(
    ("stated_ms", "shown_ms"),
    [(0, [0, 0, 0]), (33, [500, 2000, 33]), (9000, [500, 4500, 9000])],
)
def test_frame_is_shown_until_the_next(
    clock: FakeClock, stated_ms: int, shown_ms: list[int]
) -> None:
    """In a pause no longer than 2 s or what the file states, which alone counts for the last one.
    A camera states nothing. In real time as in a replay."""
    media = Slides(stated_ms * MS)
    events = list(merge_events(media))
    assert [event.shown_ns // MS for event in events if isinstance(event, VideoFrame)] == shown_ms
    with play_video(media, clock) as video:
        video._thread.join()  # all is decoded
        assert [frame.shown_ns // MS for frame in read_many(video, 3)] == shown_ms


def test_time_stands_still_while_data_are_missing(clock: FakeClock) -> None:
    """Only of media that wait for data; a close ends their wait."""
    ended = threading.Event()
    with Playback(FakeMedia(has_audio=False), clock, interrupt=ended.set) as playback:
        assert read_next(playback.video).t_ns == START_NS
        clock.advance(5_000 * MS)
        late_ns = 5_000 * MS - 40 * MS
        for index in (1, 2, 3):
            assert read_next(playback.video).t_ns == START_NS + late_ns + index * 40 * MS
        assert playback.fault == ""
    assert ended.is_set()


@pytest.mark.usefixtures("no_thread_left")
def test_waiting_media_are_not_awaited(clock: FakeClock) -> None:
    """To open them takes no time, and a close ends the wait for their first item."""
    ended = threading.Event()

    class Pipe(FakeMedia):
        def frames(self, *, loop: bool = False, due_ns: object = None) -> Iterator[VideoFrame]:
            ended.wait()
            yield from super().frames(loop=loop)

    with Playback(Pipe(has_audio=False), clock, interrupt=ended.set):
        pass

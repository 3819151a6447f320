"""Plays a file or the demo in real time, like a camera and a microphone.

In: media whose frames and audio carry media time (nanoseconds from 0).
Out: `merge_events`: both in time order, as fast as the reader asks. Or a `Playback`: a video and an
audio source that deliver each item when the clock reaches its time. The schedule is open-loop: the
start fixes it, and a late reader does not move it. What is too late is left out and counted, as a
camera's frames are, so that neither track falls behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from ...engines.estimator import MAX_AUDIO_AGE_NS
from ..clock import Clock
from ..messages import AudioChunk, CapturePath, SourceError, VideoFrame
from ..service import DEVICE_PRIORITY, realtime_priority, run_in_background
from .catching_up import DueTime
from .losses import Losses

_FRAMES_AHEAD = 4  # 11 MB at 1280x720; covers a decoder that is late by 100 ms
_CHUNKS_AHEAD = 20  # 200 ms
_JOIN_TIMEOUT_S = 2.0
_LATE_NS = 100_000_000
"""Data that come later than this were missing. A frame is left out instead."""
_LATE_AUDIO_NS = MAX_AUDIO_AGE_NS
"""Audio that is later is left out. Less late it is still part of the windows to come."""
_NOT_STARTED = -(1 << 62)

MAX_SHOWN_NS = 2_000_000_000
"""A frame is shown until the next one, and at most so long unless the media state more."""

PLAYBACK_CLOCK = "media time since the start, on the monotonic clock"

Item = TypeVar("Item", bound=VideoFrame | AudioChunk)


class Media(Protocol):
    """Something that can be played: a file or the demo."""

    sample_rate_hz: int
    has_video: bool
    has_audio: bool

    @property
    def copies_per_frame(self) -> int:
        """Times the CPU writes a whole frame before it is delivered."""

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        """Yield the frames, `t_ns` in media time. Frames before `due_ns` may be left out; `index`
        counts them. Without it none is."""

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        """Yield the audio in chunks of 10 ms, `t_ns` in media time."""


def merge_events(media: Media, *, loop: bool = False) -> Iterator[VideoFrame | AudioChunk]:
    """Yield frames and audio in the order of their times. Audio that begins before a frame comes
    before it, so that all audio up to the frame is known, as it is in real time."""
    frames = _show_until_next(media.frames(loop=loop) if media.has_video else iter(()))
    chunks = media.chunks(loop=loop) if media.has_audio else iter(())
    frame = next(frames, None)
    for chunk in chunks:
        while frame is not None and frame.t_ns <= chunk.t_ns:
            yield frame
            frame = next(frames, None)
        yield chunk
    if frame is not None:
        yield frame
        yield from frames


def _show_until_next(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield each of `frames` with the time that it is shown."""
    frame = next(frames, None)
    while frame is not None:
        following = next(frames, None)
        yield _show_until(frame, following)
        frame = following


def _show_until(frame: VideoFrame, following: VideoFrame | None) -> VideoFrame:
    """Return `frame` with the time that it is shown: until `following`, but after a pause of the
    camera or with a wrong timestamp no longer than `MAX_SHOWN_NS` or what the media state. Without
    `following` it is what the media state. Media that state nothing play a camera."""
    if following is None or frame.shown_ns == 0:
        return frame
    gap_ns = following.t_ns - frame.t_ns
    return replace(frame, shown_ns=min(gap_ns, max(MAX_SHOWN_NS, frame.shown_ns)))


class Playback:
    """A video and an audio source that play one media on a clock. Either is None if missing.

    Decoding starts at once, time starts at the first read of either source.
    Raises SourceError if the first frame or chunk cannot be decoded.
    """

    def __init__(
        self,
        media: Media,
        clock: Clock,
        *,
        loop: bool = False,
        background: bool = True,
        interrupt: Callable[[], None] | None = None,
        name: str = "playback",
    ) -> None:
        """`background`: decode at low priority, and leave out what is late. Without it, at the
        priority of a device, and leave out nothing: the media cost nothing, and whoever measures
        the run counts what it loses. `name`: of the media, to be shown.

        `interrupt` is for media whose data may be missing for a while, such as a pipe's, and ends
        the wait for them. Nothing is decoded here then, either track may be empty, and time stands
        still while data are missing.
        """
        start = _Start(clock, interrupt is not None, background, name)
        self._start = start
        self.video: PlayedVideo | None = None
        self.audio: PlayedAudio | None = None
        try:
            if media.has_video:
                self.video = PlayedVideo(media, start, loop, background)
            if media.has_audio:
                self.audio = PlayedAudio(media, start, loop, background)
            for track in (self.video, self.audio):
                if track is not None:
                    track.interrupt = interrupt
                    if interrupt is None:
                        track.wait_ready()
        except SourceError:
            self.close()
            raise

    @property
    def fault(self) -> str:
        """Whether this machine decodes the media too slowly now; "" if not."""
        return self._start.losses.fault

    def close(self) -> None:
        for track in (self.video, self.audio):
            if track is not None:
                track.close()
        self._start.losses.log_sum()

    def __enter__(self) -> Playback:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Start:
    """The time from which both tracks count: the first read of either."""

    def __init__(self, clock: Clock, may_stand_still: bool, may_leave_out: bool, name: str) -> None:
        self.clock = clock
        self.losses = Losses(clock, name)
        self.leaves_out = may_leave_out and not may_stand_still
        self._may_stand_still = may_stand_still
        self._lock = threading.Lock()
        self._t_ns: int | None = None

    def t_ns(self, due_ns: int) -> int:
        """Return the time for an item that is due at `due_ns` of the media."""
        with self._lock:
            now_ns = self.clock.now_ns()
            if self._t_ns is None:
                self._t_ns = now_ns
            elif self._may_stand_still and now_ns - self._t_ns - due_ns > _LATE_NS:
                self._t_ns = now_ns - due_ns
            return self._t_ns

    def due_ns(self) -> int:
        """Return the media time that is due now; before the start, a time before all media."""
        with self._lock:
            return _NOT_STARTED if self._t_ns is None else self.clock.now_ns() - self._t_ns


class _Track(Generic[Item]):
    """Decodes ahead in a thread of its own, so that decoding adds nothing to the latency."""

    def __init__(
        self,
        items: Iterator[Item],
        start: _Start,
        ahead: int,
        due_ns: Callable[[Item], int],
        name: str,
        background: bool,
    ) -> None:
        self._items = items
        self._background = background
        self._start = start
        self._ahead = ahead
        self._due_ns = due_ns
        self._queue: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: Exception | None = None
        self._stop = threading.Event()
        self.interrupt: Callable[[], None] | None = None
        """Ends a wait of the decoder for data."""
        self._thread = threading.Thread(target=self._decode, name=name, daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Wait for the first item. Raises what the decoder raised before it."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended)
            if self._error is not None and not self._queue:
                raise self._error

    def read(self) -> Item | None:
        """Wait for the next item that is not too late."""
        while (item := self._take()) is not None:
            due_ns = self._due_ns(item)
            start_ns = self._start.t_ns(due_ns)
            if self._start.leaves_out and self._is_late(item):
                continue
            if self._start.clock.sleep_until_ns(start_ns + due_ns, self._stop):
                return None
            return replace(self._complete(item), t_ns=start_ns + item.t_ns)
        return None

    def _take(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ended or self._stop.is_set())
            if self._stop.is_set():
                return None
            if not self._queue:
                if self._error is not None:
                    raise self._error
                return None
            item = self._queue.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        self._stop.set()
        if self.interrupt is not None:
            self.interrupt()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_JOIN_TIMEOUT_S)
        self._queue.clear()

    def __enter__(self) -> _Track[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _complete(self, item: Item) -> Item:
        """Return `item` with what is known of it once it is due."""
        return item

    def _is_late(self, item: Item) -> bool:
        """Return whether `item` is to be left out, and record what was left out before it."""
        raise NotImplementedError

    def _decode(self) -> None:
        try:
            if self._background:
                run_in_background()  # decoding is some items ahead, the pipeline is not
                self._fill()
            else:
                with realtime_priority(True, DEVICE_PRIORITY):  # no program delays a real camera
                    self._fill()
        except Exception as error:  # noqa: BLE001 - the reader raises it
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()  # frees the decoder in the thread that used it
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _fill(self) -> None:
        for item in self._items:
            with self._changed:
                self._changed.wait_for(
                    lambda: len(self._queue) < self._ahead or self._stop.is_set()
                )
                if self._stop.is_set():
                    return
                self._queue.append(item)
                self._changed.notify_all()


class PlayedVideo(_Track[VideoFrame]):
    """A VideoSource that delivers each frame at its own time."""

    def __init__(self, media: Media, start: _Start, loop: bool, background: bool) -> None:
        self._media = media
        self._next_index = 0
        super().__init__(
            media.frames(loop=loop, due_ns=start.due_ns if start.leaves_out else None),
            start,
            _FRAMES_AHEAD,
            lambda frame: frame.t_ns,
            "decode-video",
            background,
        )

    def _complete(self, item: VideoFrame) -> VideoFrame:
        with self._changed:
            following = self._queue[0] if self._queue else None
        return _show_until(item, following)

    def _is_late(self, item: VideoFrame) -> bool:
        """A frame is late while it is no longer shown, and by more than `_LATE_NS`."""
        late_ns = self._start.due_ns() - item.t_ns
        is_late = late_ns > _LATE_NS and late_ns > self._complete(item).shown_ns
        self._start.losses.note(frames=item.index - self._next_index + is_late)
        self._next_index = item.index + 1
        return is_late

    @property
    def path(self) -> CapturePath:
        """The copies of the decoder, which happen ahead of time and add nothing to the latency."""
        return CapturePath(self._media.copies_per_frame, PLAYBACK_CLOCK, "none")


class PlayedAudio(_Track[AudioChunk]):
    """An AudioSource that delivers each chunk at the time of its last sample."""

    def __init__(self, media: Media, start: _Start, loop: bool, background: bool) -> None:
        self.sample_rate_hz = media.sample_rate_hz
        super().__init__(
            media.chunks(loop=loop),
            start,
            _CHUNKS_AHEAD,
            lambda chunk: _end_ns(chunk, media.sample_rate_hz),
            "decode-audio",
            background,
        )

    def _is_late(self, item: AudioChunk) -> bool:
        is_late = self._start.due_ns() - self._due_ns(item) > _LATE_AUDIO_NS
        self._start.losses.note(audio_s=is_late * item.samples.size / self.sample_rate_hz)
        return is_late


def _end_ns(chunk: AudioChunk, sample_rate_hz: int) -> int:
    return chunk.t_ns + chunk.samples.size * 1_000_000_000 // sample_rate_hz

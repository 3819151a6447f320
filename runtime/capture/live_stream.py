"""A live network stream as a camera and a microphone: opened again with back-off when it fails.

In: a URL that was named. Out: a video and an audio source on CLOCK_MONOTONIC. One thread reads the
connection for both; its newest frames win, and what is not read in time is lost, as with a camera.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from ..clock import Clock
from ..messages import AudioChunk, CapturePath, SourceError, VideoFrame
from ..service import realtime_priority
from .media_tracks import AUTO
from .reconnect import FrameNumbers, ReconnectingSource, SampleNumbers, WaitPolicy
from .source_name import show_source
from .stream_decoder import RATE_HZ, StreamDecoder
from .stream_input import is_finite, open_url
from .timestamps import ARRIVAL_CLOCK, StreamClock

_FRAMES_AHEAD = 16  # what may wait for its sound, 40 MB at 1280x720
_CHUNKS_AHEAD = 100
_JOIN_TIMEOUT_S = 0.5
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS

STREAM_CLOCK = "arrival of the stream, at its own pace"

Item = TypeVar("Item", VideoFrame, AudioChunk)


class StreamConnection:
    """One opening of a live stream. A read ends by itself within `READ_TIMEOUT_S`."""

    def __init__(self, container: Any, name: str, clock: Clock, tracks: tuple[int, int]) -> None:
        """Raises SourceError for a file."""
        self._name = name
        self._clock = clock
        # Such as the pictures of an HTTP camera: FFmpeg invents their times.
        self._has_times = not container.format.flags & _NO_TIMESTAMPS
        self.clock_domain = STREAM_CLOCK if self._has_times else ARRIVAL_CLOCK
        self._times = StreamClock()
        finite = is_finite(container)
        self._decoder = StreamDecoder(container, name, tracks)
        self._closed = threading.Event()
        self._lock = threading.Lock()  # held to read or to close
        self._items: Iterator[VideoFrame | AudioChunk] = self._decoder.items()
        if finite:
            self.close()
            raise SourceError(f"{name} is a file now, start again to play it")

    def read(self) -> VideoFrame | AudioChunk | None:
        """Wait for the next item of either track. None when closed. Raises SourceError."""
        try:
            with self._lock:
                if self._closed.is_set():
                    return None
                item = next(self._items, None)
        finally:
            if self._closed.is_set():
                self._release()
        if self._closed.is_set():
            return None
        if item is None:
            raise SourceError(f"{self._name}: the server has ended it")
        return self._date(item, self._clock.now_ns())

    def close(self) -> None:
        """Return at once. A read that waits closes the connection when it ends."""
        self._closed.set()
        self._release()

    def _release(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                self._decoder.close()
            finally:
                self._lock.release()

    def _date(self, item: VideoFrame | AudioChunk, now_ns: int) -> VideoFrame | AudioChunk:
        if isinstance(item, VideoFrame):
            t_ns = self._times.time_frame(item.t_ns if self._has_times else now_ns, now_ns)
            return VideoFrame(t_ns, item.index, item.image)
        length_ns = item.samples.size * 1_000_000_000 // RATE_HZ
        media_ns = item.t_ns if self._has_times else now_ns - length_ns
        t_ns = self._times.time_chunk(media_ns, length_ns, now_ns)
        return AudioChunk(t_ns, item.first_sample, item.samples)


class LiveStream:
    """Both tracks of a live stream. A track that it lacks delivers nothing."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        wait_policy: WaitPolicy,
        container: Any | None = None,
        tracks: tuple[int, int] = (AUTO, AUTO),
        open_container: Callable[[str], Any] = open_url,
    ) -> None:
        """`container`: the stream that is open already; else it is opened by the thread. `tracks`:
        as of `StreamDecoder`."""
        name = f"stream {show_source(url)}"
        opened = [container] if container is not None else []
        frames, samples = FrameNumbers(), SampleNumbers()
        fresh: set[type] = set()  # tracks not yet seen since the stream was opened
        self.clock_domain = STREAM_CLOCK

        def connect() -> StreamConnection:
            container = opened.pop() if opened else open_container(url)
            connection = StreamConnection(container, name, clock, tracks)
            self.clock_domain = connection.clock_domain
            return connection

        def renumber(item: Any, first: bool) -> Any:
            if first:
                fresh.update((VideoFrame, AudioChunk))
            is_first = type(item) in fresh
            fresh.discard(type(item))
            if isinstance(item, VideoFrame):
                return frames.renumber(item, is_first)
            return samples.renumber(item, is_first, RATE_HZ)

        self._source: ReconnectingSource[Any] = ReconnectingSource(
            name, connect, clock, renumber, wait_policy
        )
        self.video = StreamedVideo(self, clock, _FRAMES_AHEAD)
        self.audio = StreamedAudio(self, clock, _CHUNKS_AHEAD)
        self._thread = threading.Thread(target=self._pump, name="network-stream", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        return self._source.fault

    @property
    def is_reopening(self) -> bool:
        return self._source.is_reopening

    def close(self) -> None:
        """End both tracks. A thread that waits for the server ends later, by itself."""
        if self.video.is_ended:
            return
        self._source.close()
        self.video.end()
        self.audio.end()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _pump(self) -> None:
        error: Exception | None = None
        try:
            with realtime_priority(True):
                while (item := self._source.read()) is not None:
                    if isinstance(item, VideoFrame):
                        self.video.put(item)
                    else:
                        self.audio.put(item)
        except Exception as problem:  # noqa: BLE001 - the readers raise it
            error = problem
        self.video.end(error)
        self.audio.end(error)


class _Track(Generic[Item]):
    """The newest items of one track, each delivered at its time."""

    def __init__(self, stream: LiveStream, clock: Clock, ahead: int) -> None:
        self._stream = stream
        self._clock = clock
        self._items: deque[Item] = deque(maxlen=ahead)
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._ended = threading.Event()

    @property
    def is_ended(self) -> bool:
        return self._ended.is_set()

    def put(self, item: Item) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: Exception | None = None) -> None:
        with self._changed:
            self._error = self._error or error
            self._ended.set()
            self._changed.notify_all()

    def read(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended.is_set())
            if self._ended.is_set():
                if self._error is not None:
                    raise self._error
                return None
            item = self._items.popleft()
        if self._clock.sleep_until_ns(self._due_ns(item), self._ended):
            return None
        return item

    def close(self) -> None:
        """Close the stream, and so the other track too."""
        self._stream.close()

    def _due_ns(self, item: Item) -> int:
        return item.t_ns


class StreamedVideo(_Track[VideoFrame]):
    """The pictures of a live stream, as a VideoSource."""

    @property
    def path(self) -> CapturePath:
        """Decoding and conversion to bgr8."""
        return CapturePath(2, self._stream.clock_domain, "none")


class StreamedAudio(_Track[AudioChunk]):
    """The sound of a live stream, as an AudioSource."""

    sample_rate_hz = RATE_HZ

    def _due_ns(self, item: AudioChunk) -> int:
        return item.t_ns + item.samples.size * 1_000_000_000 // RATE_HZ

"""Opens a failed camera or microphone again, while the other one goes on.

In: a function that opens the device. Out: a source whose `read` waits through the failures.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from ..clock import Clock
from ..messages import (
    AudioChunk,
    AudioSource,
    CapturePath,
    SourceError,
    VideoFrame,
    VideoSource,
)

_LOG = logging.getLogger(__name__)

FIRST_DELAY_NS = 500_000_000
LONGEST_DELAY_NS = 5_000_000_000

Item = TypeVar("Item", bound=VideoFrame | AudioChunk)
Item_co = TypeVar("Item_co", covariant=True)


_NEVER_OPENED = CapturePath(copies_per_frame=0, clock_domain="unknown", zero_copy="none")


class _Source(Protocol[Item_co]):
    def read(self) -> Item_co | None: ...

    def close(self) -> None: ...


class Supervised(Generic[Item]):
    """A source that comes back: after a failure it is opened again, after 0.5 s, then 1, 2, 4, 5.

    The first opening happens in the constructor and must work (SourceError), unless `wait`: then
    a device that is not there yet is one that was lost. `read` returns None only at the end or
    when closed.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], _Source[Item]],
        clock: Clock,
        renumber: Callable[[Item, Item | None, bool], Item],
        wait: bool,
    ) -> None:
        """`renumber(item, previous item, first after a failure)` keeps the counting going."""
        self.name = name
        self.failures = 0
        self._open = open_source
        self._clock = clock
        self._renumber = renumber
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards _source against a close from another thread
        self._previous: Item | None = None
        self._lost = False
        self._delay_ns = FIRST_DELAY_NS
        self._source: _Source[Item] | None = None
        try:
            self._source = open_source()
        except SourceError as error:
            if not wait:
                raise
            self._give_up(error)

    @property
    def trouble(self) -> str:
        """What is wrong with it now; "" when nothing is."""
        return f"{self.name} is missing" if self._lost else ""

    def read(self) -> Item | None:
        while not self._stop.is_set():
            source = self._source
            try:
                if source is None:
                    source = self._reopen()
                    continue
                item = source.read()
            except SourceError as error:
                self._give_up(error)
                if self._wait():
                    return None
                continue
            if item is None:
                return None
            fresh = self._lost
            if fresh:
                # Only sound or a picture proves it: some devices open and then fail at once.
                _LOG.warning("%s is back", self.name)
                self._lost = False
                self._delay_ns = FIRST_DELAY_NS
            self._previous = self._renumber(item, self._previous, fresh)
            return self._previous
        return None

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()

    def __enter__(self) -> Supervised[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reopen(self) -> _Source[Item]:
        source = self._open()
        with self._lock:
            if not self._stop.is_set():
                self._source = source
                return source
        source.close()
        return source

    def _give_up(self, error: SourceError) -> None:
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()
        if self._stop.is_set():
            return
        if not self._lost:
            self._lost = True
            self.failures += 1
            _LOG.warning("%s lost: %s", self.name, error)
        else:
            _LOG.debug("%s still lost: %s", self.name, error)

    def _wait(self) -> bool:
        delay_ns, self._delay_ns = self._delay_ns, min(2 * self._delay_ns, LONGEST_DELAY_NS)
        return self._clock.sleep_until_ns(self._clock.now_ns() + delay_ns, self._stop)


class SupervisedVideo(Supervised[VideoFrame]):
    """A VideoSource that comes back; the indices go on where they stopped."""

    def __init__(
        self, name: str, open_source: Callable[[], VideoSource], clock: Clock, wait: bool
    ) -> None:
        self._offset = 0
        self._camera: VideoSource | None = None

        def open_and_keep() -> VideoSource:
            self._camera = open_source()
            return self._camera

        super().__init__(name, open_and_keep, clock, self._continue, wait)

    @property
    def path(self) -> CapturePath:
        """That of the newest opening; while the camera is away, of the last."""
        return _NEVER_OPENED if self._camera is None else self._camera.path

    def _continue(self, frame: VideoFrame, previous: VideoFrame | None, fresh: bool) -> VideoFrame:
        if fresh:
            self._offset = previous.index + 1 - frame.index if previous is not None else 0
        return replace(frame, index=frame.index + self._offset) if self._offset else frame


def supervise_video(
    name: str, open_source: Callable[[], VideoSource], clock: Clock, *, wait: bool = False
) -> SupervisedVideo:
    """The indices go on where they stopped."""
    return SupervisedVideo(name, open_source, clock, wait)


class SupervisedAudio(Supervised[AudioChunk]):
    """An AudioSource that comes back; the sample index jumps by the time that was lost."""

    def __init__(
        self, name: str, open_source: Callable[[], AudioSource], clock: Clock, wait: bool
    ) -> None:
        self.sample_rate_hz = 0
        self._offset = 0

        def open_at_same_rate() -> AudioSource:
            source = open_source()
            if self.sample_rate_hz not in (0, source.sample_rate_hz):
                source.close()
                raise SourceError(f"{name} came back at {source.sample_rate_hz} Hz")
            self.sample_rate_hz = source.sample_rate_hz
            return source

        super().__init__(name, open_at_same_rate, clock, self._continue, wait)

    def _continue(self, chunk: AudioChunk, previous: AudioChunk | None, fresh: bool) -> AudioChunk:
        if fresh and previous is not None:
            since_ns = chunk.t_ns - previous.t_ns
            samples = round(since_ns * self.sample_rate_hz / 1e9)
            # At least one sample is missing, whatever the clocks say: a gap must show.
            first = previous.first_sample + max(samples, previous.samples.size + 1)
            self._offset = first - chunk.first_sample
        if not self._offset:
            return chunk
        return replace(chunk, first_sample=chunk.first_sample + self._offset)


def supervise_audio(
    name: str, open_source: Callable[[], AudioSource], clock: Clock, *, wait: bool = False
) -> SupervisedAudio:
    """The sample index goes on, with a gap as long as the device was away."""
    return SupervisedAudio(name, open_source, clock, wait)

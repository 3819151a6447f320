"""Opens a failed camera or microphone again, while the other one goes on.

In: a function that opens the device, and one that says whether it may be open. Out: a source whose
`read` waits through the failures, and with the device closed while it may not be read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from ..clock import Clock
from ..faults import FaultLog
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
MAX_DELAY_NS = 5_000_000_000
OPEN_TIMEOUT_NS = 30_000_000_000
"""A device that has given nothing so long after it was opened, or tried to be, hangs in its driver:
the slowest cameras take a few seconds, and there is another attempt within five."""
PAUSE_POLL_NS = 100_000_000
"""How often it is asked whether the device may be open again."""

Item = TypeVar("Item", bound=VideoFrame | AudioChunk)
Item_co = TypeVar("Item_co", covariant=True)


_NEVER_OPENED = CapturePath(copies_per_frame=0, clock_domain="unknown", zero_copy="none")


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """What to do about a device that is not there, or may not be read."""

    wait_for_first: bool = False
    """`read` opens the device, and waits for one that was never there; else it must be there."""
    optional: bool = False
    """That one was never there is no trouble: nobody has said that there is one."""
    capture_allowed: Callable[[], bool] = lambda: True
    """While it says no, the device is closed."""


FAIL_FAST = WaitPolicy()


class _Source(Protocol[Item_co]):
    def read(self) -> Item_co | None: ...

    def close(self) -> None: ...


class ReconnectingSource(Generic[Item]):
    """A source that comes back: after a failure it is opened again, after 0.5 s, then 1, 2, 4, 5.

    The first opening happens in the constructor and must work (SourceError), unless it is waited
    for. `read` returns None only at the end or when closed.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], _Source[Item]],
        clock: Clock,
        renumber: Callable[[Item, bool], Item],
        wait_policy: WaitPolicy,
    ) -> None:
        """`renumber(item, first since it was opened)` keeps the counting going. The numbers alone
        are kept: what was seen and heard last must not lie here while the device is away."""
        self.name = name
        self.failures = 0
        self._open = open_source
        self._clock = clock
        self._renumber = renumber
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards _source against a close from another thread
        self._came = False  # something, ever
        self._wait_policy = wait_policy
        self._lost = False
        self._faults = FaultLog(_LOG, f"{name} is back", clock)
        self._delivered = False  # something has come since it was opened
        self._attempted_ns = clock.now_ns()
        self._delay_ns = FIRST_DELAY_NS
        self._source: _Source[Item] | None = None if wait_policy.wait_for_first else open_source()

    @property
    def fault(self) -> str:
        """What is wrong with it now; "" when nothing is."""
        return f"{self.name} is missing" if self._lost and self._is_expected else ""

    @property
    def is_reopening(self) -> bool:
        """Nothing comes from it because it is being opened or looked for, and this goes on."""
        return not self._delivered and self._clock.now_ns() - self._attempted_ns < OPEN_TIMEOUT_NS

    @property
    def _is_expected(self) -> bool:
        return not self._wait_policy.optional or self._came

    def read(self) -> Item | None:
        while not self._stop.is_set():
            if not self._wait_policy.capture_allowed():
                self._pause()
                continue
            source = self._source
            try:
                if source is None:
                    source = self._reopen()
                    continue
                item = source.read()
            except SourceError as error:
                self._handle_failure(error)
                if self._wait():
                    return None
                continue
            if item is None:
                return None
            if self._lost:
                # Only sound or a picture proves it: some devices open and then fail at once.
                self._faults.log_transition("", self._log_level)
                self._lost = False
                self._delay_ns = FIRST_DELAY_NS
            first, self._delivered = not self._delivered, True
            self._came = True
            return self._renumber(item, first)
        return None

    def close(self) -> None:
        self._stop.set()
        self._close_source()

    def __enter__(self) -> ReconnectingSource[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _log_level(self) -> int:
        return logging.WARNING if self._is_expected else logging.INFO

    def _close_source(self) -> None:
        self._delivered = False
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()

    def _pause(self) -> None:
        # Open, its driver would go on filling buffers, to be read when it is allowed again.
        self._close_source()
        self._clock.sleep_until_ns(self._clock.now_ns() + PAUSE_POLL_NS, self._stop)

    def _reopen(self) -> _Source[Item]:
        self._attempted_ns = self._clock.now_ns()
        source = self._open()
        with self._lock:
            if not self._stop.is_set():
                self._source = source
                return source
        source.close()
        return source

    def _handle_failure(self, error: SourceError) -> None:
        self._close_source()
        if self._stop.is_set():
            return
        if not self._lost:
            self._lost = True
            self.failures += 1
        self._faults.log_transition(f"{self.name} lost: {error}", self._log_level)

    def _wait(self) -> bool:
        delay_ns, self._delay_ns = self._delay_ns, min(2 * self._delay_ns, MAX_DELAY_NS)
        return self._clock.sleep_until_ns(self._clock.now_ns() + delay_ns, self._stop)


class ReconnectingVideo(ReconnectingSource[VideoFrame]):
    """A VideoSource that comes back; the indices go on where they stopped."""

    def __init__(
        self,
        name: str,
        open_source: Callable[[], VideoSource],
        clock: Clock,
        wait_policy: WaitPolicy,
    ) -> None:
        self._offset = 0
        self._next_index: int | None = None
        self._camera: VideoSource | None = None

        def open_and_keep() -> VideoSource:
            self._camera = open_source()
            return self._camera

        super().__init__(name, open_and_keep, clock, self._continue, wait_policy)

    @property
    def path(self) -> CapturePath:
        """That of the newest opening; while the camera is away, of the last."""
        return _NEVER_OPENED if self._camera is None else self._camera.path

    def _continue(self, frame: VideoFrame, first: bool) -> VideoFrame:
        if first:
            self._offset = 0 if self._next_index is None else self._next_index - frame.index
        self._next_index = frame.index + self._offset + 1
        return replace(frame, index=frame.index + self._offset) if self._offset else frame


def reconnecting_video(
    name: str,
    open_source: Callable[[], VideoSource],
    clock: Clock,
    wait_policy: WaitPolicy = FAIL_FAST,
) -> ReconnectingVideo:
    """The indices go on where they stopped."""
    return ReconnectingVideo(name, open_source, clock, wait_policy)


class ReconnectingAudio(ReconnectingSource[AudioChunk]):
    """An AudioSource that comes back; the sample index jumps by the time that was lost."""

    def __init__(
        self,
        name: str,
        open_source: Callable[[], AudioSource],
        clock: Clock,
        wait_policy: WaitPolicy,
    ) -> None:
        self.sample_rate_hz = 0
        self._offset = 0
        self._last: tuple[int, int, int] | None = None
        """Of the last chunk: its time, its number and how many samples it had."""

        def open_at_same_rate() -> AudioSource:
            source = open_source()
            if self.sample_rate_hz not in (0, source.sample_rate_hz):
                source.close()
                raise SourceError(f"{name} came back at {source.sample_rate_hz} Hz")
            self.sample_rate_hz = source.sample_rate_hz
            return source

        super().__init__(name, open_at_same_rate, clock, self._continue, wait_policy)

    def _continue(self, chunk: AudioChunk, first: bool) -> AudioChunk:
        if first and self._last is not None:
            last_ns, last_sample, last_size = self._last
            samples = round((chunk.t_ns - last_ns) * self.sample_rate_hz / 1e9)
            # At least one sample is missing, whatever the clocks say: a gap must show.
            self._offset = last_sample + max(samples, last_size + 1) - chunk.first_sample
        number = chunk.first_sample + self._offset
        self._last = chunk.t_ns, number, chunk.samples.size
        return replace(chunk, first_sample=number) if self._offset else chunk


def reconnecting_audio(
    name: str,
    open_source: Callable[[], AudioSource],
    clock: Clock,
    wait_policy: WaitPolicy = FAIL_FAST,
) -> ReconnectingAudio:
    """The sample index goes on, with a gap as long as the device was away."""
    return ReconnectingAudio(name, open_source, clock, wait_policy)

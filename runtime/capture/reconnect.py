"""Reopens a failed camera or microphone while the other one goes on.

In: a function that opens the device, and a `WaitPolicy`. Out: a source whose `read` waits through
failures and through times without permission to capture.
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
    Float32,
    SourceError,
    VideoFrame,
    VideoSource,
)

_LOG = logging.getLogger(__name__)

FIRST_DELAY_NS = 500_000_000
MAX_DELAY_NS = 5_000_000_000
OPEN_TIMEOUT_NS = 30_000_000_000
"""A device that delivers nothing for this long after an attempt to open it hangs in its driver. The
slowest cameras take a few seconds, and attempts are at most five seconds apart."""
DEAD_S = 5.0
"""A microphone whose samples have been constant for so long is dead or muted. The noise of a quiet
room never is."""
_DEAD_LEVEL = 1e-8
"""Under the smallest step of 24 bits, and over what the DC filter leaves of a constant."""
PAUSE_POLL_NS = 100_000_000
"""Interval between checks of whether capture is allowed again."""

Item = TypeVar("Item", bound=VideoFrame | AudioChunk)
Item_co = TypeVar("Item_co", covariant=True)

_NEVER_OPENED = CapturePath(copies_per_frame=0, clock_domain="unknown", zero_copy="none")


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """What to do about a device that is missing or may not capture."""

    wait_for_first: bool = False
    """Let `read` open the device and wait for it. Else it is opened at once and must exist."""
    optional: bool = False
    """A device that never existed is no fault."""
    capture_allowed: Callable[[], bool] = lambda: True
    """While this returns False, the device is closed."""


FAIL_FAST = WaitPolicy()


class _Source(Protocol[Item_co]):
    def read(self) -> Item_co | None: ...

    def close(self) -> None: ...


class ReconnectingSource(Generic[Item]):
    """A source that is reopened after a failure: after 0.5 s, then 1, 2, 4, 5, 5 … s.

    Raises SourceError if the first opening fails, unless the policy waits for the device. `read`
    returns None only at the end of the source or when closed.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], _Source[Item]],
        clock: Clock,
        renumber: Callable[[Item, bool], Item],
        wait_policy: WaitPolicy,
    ) -> None:
        """`renumber(item, is first since opening)` continues the count across openings. It may
        store numbers only: no frame and no audio stays here while the device is away."""
        self.name = name
        self.failures = 0
        self._open = open_source
        self._clock = clock
        self._renumber = renumber
        self._stop = threading.Event()
        self._lock = threading.Lock()  # guards _source against a close from another thread
        self._ever_delivered = False
        self._wait_policy = wait_policy
        self._lost = False
        self._faults = FaultLog(_LOG, f"{name} is back", clock)
        self._delivered = False  # since it was opened
        self._attempted_ns = clock.now_ns()
        self._delay_ns = FIRST_DELAY_NS
        self._source: _Source[Item] | None = None if wait_policy.wait_for_first else open_source()

    @property
    def fault(self) -> str:
        """The present fault, or "" for none."""
        return f"{self.name} is missing" if self._lost and self._is_expected else ""

    @property
    def is_reopening(self) -> bool:
        """Whether nothing arrives because attempts to open the device are going on."""
        return not self._delivered and self._clock.now_ns() - self._attempted_ns < OPEN_TIMEOUT_NS

    @property
    def _is_expected(self) -> bool:
        return not self._wait_policy.optional or self._ever_delivered

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
                # Only an item proves it: some devices open and then fail at once.
                self._faults.log_transition("", self._log_level)
                self._lost = False
                self._delay_ns = FIRST_DELAY_NS
            first, self._delivered = not self._delivered, True
            self._ever_delivered = True
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
        # The driver of an open device would go on filling buffers, to be read after the pause.
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


class FrameNumbers:
    """Lets the frame index go on where it stopped before the source was opened again."""

    def __init__(self) -> None:
        self._offset = 0
        self._next_index: int | None = None

    def renumber(self, frame: VideoFrame, first: bool) -> VideoFrame:
        if first:
            self._offset = 0 if self._next_index is None else self._next_index - frame.index
        self._next_index = frame.index + self._offset + 1
        return replace(frame, index=frame.index + self._offset) if self._offset else frame


class SampleNumbers:
    """Lets the sample index jump by the time that was lost until the source was opened again."""

    def __init__(self) -> None:
        self._offset = 0
        self._last: tuple[int, int, int] | None = None
        """Time, first sample and number of samples of the last chunk."""

    def renumber(self, chunk: AudioChunk, first: bool, sample_rate_hz: int) -> AudioChunk:
        if first and self._last is not None:
            last_ns, last_sample, last_size = self._last
            samples = round((chunk.t_ns - last_ns) * sample_rate_hz / 1e9)
            # A gap must be visible: at least one sample is missing, whatever the clocks say.
            self._offset = last_sample + max(samples, last_size + 1) - chunk.first_sample
        first_sample = chunk.first_sample + self._offset
        self._last = chunk.t_ns, first_sample, chunk.samples.size
        return replace(chunk, first_sample=first_sample) if self._offset else chunk


class ReconnectingVideo(ReconnectingSource[VideoFrame]):
    """A VideoSource that is reopened; the frame index goes on where it stopped."""

    def __init__(
        self,
        name: str,
        open_source: Callable[[], VideoSource],
        clock: Clock,
        wait_policy: WaitPolicy = FAIL_FAST,
    ) -> None:
        self._camera: VideoSource | None = None

        def open_camera() -> VideoSource:
            self._camera = open_source()
            return self._camera

        super().__init__(name, open_camera, clock, FrameNumbers().renumber, wait_policy)

    @property
    def path(self) -> CapturePath:
        """The path of the newest opening, also while the camera is away."""
        return _NEVER_OPENED if self._camera is None else self._camera.path


class ReconnectingAudio(ReconnectingSource[AudioChunk]):
    """An AudioSource that is reopened; the sample index jumps by the time that was lost."""

    def __init__(
        self,
        name: str,
        open_source: Callable[[], AudioSource],
        clock: Clock,
        wait_policy: WaitPolicy = FAIL_FAST,
    ) -> None:
        self.sample_rate_hz = 0
        numbers = SampleNumbers()
        self._num_constant = 0
        """Samples since the last sound."""
        self._signal = FaultLog(_LOG, f"{name} has a signal again", clock)

        def open_at_same_rate() -> AudioSource:
            source = open_source()
            if self.sample_rate_hz not in (0, source.sample_rate_hz):
                source.close()
                raise SourceError(f"{name} came back at {source.sample_rate_hz} Hz")
            self.sample_rate_hz = source.sample_rate_hz
            return source

        def renumber(chunk: AudioChunk, first: bool) -> AudioChunk:
            self._note_signal(chunk.samples)
            return numbers.renumber(chunk, first, self.sample_rate_hz)

        super().__init__(name, open_at_same_rate, clock, renumber, wait_policy)

    @property
    def fault(self) -> str:
        """The present fault: the microphone is missing, or it is dead; "" for none."""
        return super().fault or self._signal.fault

    def _note_signal(self, samples: Float32) -> None:
        """Set or end the fault of a microphone that delivers zeros or a constant."""
        if max(samples.max(), -samples.min()) > _DEAD_LEVEL:
            self._num_constant = 0
        else:
            self._num_constant += len(samples)
        dead = self._num_constant >= DEAD_S * self.sample_rate_hz
        fault = f"{self.name} delivers only zeros: it is muted or dead" if dead else ""
        self._signal.log_transition(fault)

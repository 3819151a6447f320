"""The estimates between a run in the background and its reader.

In: estimates, as a sink. Out: the next one, on another thread.
"""

from __future__ import annotations

import threading
from collections import deque

from .messages import Estimate, RunInfo, SinkClosed

MAX_WAITING = 64
"""Estimates that wait for the reader, two seconds of a camera."""


class Mailbox:
    """A sink that holds estimates until they are taken. A replay waits while it is full; a live run
    loses the oldest."""

    def __init__(self, *, replay: bool) -> None:
        self.info: RunInfo | None = None
        """None until everything is open."""
        self.newest: Estimate | None = None
        self.lost = 0
        self.ended = False
        """Nothing comes any more."""
        self.closing = False
        """Nothing is taken any more."""
        self._replay = replay
        self._waiting: deque[Estimate] = deque()
        self._changed = threading.Condition()

    def begin(self, info: RunInfo) -> None:
        with self._changed:
            self.info = info
            self._changed.notify_all()

    def publish(self, estimate: Estimate) -> None:
        """Store an estimate. Raises SinkClosed once nothing is taken any more."""
        with self._changed:
            if self._replay:
                self._changed.wait_for(lambda: len(self._waiting) < MAX_WAITING or self.closing)
            elif len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.lost += 1
            if self.closing:
                raise SinkClosed("the reader has closed it")
            self.newest = estimate
            self._waiting.append(estimate)
            self._changed.notify_all()

    def take(self) -> Estimate | None:
        """Wait for the next estimate. None at the end, and after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.ended or self.closing)
            if self.closing or not self._waiting:
                return None
            self._changed.notify_all()
            return self._waiting.popleft()

    def wait_until_open(self) -> bool:
        """Wait until the run has begun or ended. Return whether it has begun."""
        with self._changed:
            self._changed.wait_for(lambda: self.info is not None or self.ended)
            return self.info is not None

    def end(self) -> None:
        """The run has ended; what waits can be taken."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """The reader wants no more."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """As a sink, do nothing: `end` follows."""

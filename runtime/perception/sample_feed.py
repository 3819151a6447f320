"""Takes the new samples of the audio ring to what computes on them.

In: the ring and the audio clock, which another thread may fill. Out: samples without a gap, and a
restart at each gap.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..messages import Float32
from .audio_clock import AudioClock, ClockLine
from .buffers import AudioRing


class SampleReader(Protocol):
    """What computes on samples: the log-mel, the speech tracker."""

    @property
    def next_sample(self) -> int: ...
    def restart(self, first_sample: int) -> object: ...
    def push(self, samples: Float32) -> object: ...


class SampleFeed:
    """Feeds one reader. For one thread, which need not be the one that fills the ring."""

    def __init__(self, reader: SampleReader, ring: AudioRing, audio_clock: AudioClock) -> None:
        self.overrun_samples = 0
        """Samples that were overwritten before this feed took them."""
        self._reader = reader
        self._ring = ring
        self._audio_clock = audio_clock
        self._begin = audio_clock.line.begin
        self._scratch = np.zeros(ring.capacity, np.float32)

    def push_new(self) -> ClockLine:
        """Push the samples since the last gap that are new. Return the line that holds now."""
        reader = self._reader
        while True:
            first, count = self._ring.read(reader.next_sample, self._scratch)
            # Read after the samples: the clock gets a chunk before the ring does.
            line = self._audio_clock.line
            if line.begin == self._begin:
                break
            self._begin = line.begin
            reader.restart(line.begin)
        if first > reader.next_sample:
            self.overrun_samples += first - reader.next_sample
            reader.restart(first)
        count = int(min(count, line.settled - first))
        if count > 0:
            reader.push(self._scratch[:count])
        return line

    def wipe(self) -> None:
        """Overwrite the samples taken last."""
        self._scratch.fill(0)

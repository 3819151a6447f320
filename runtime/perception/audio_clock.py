"""The capture time of every audio sample, from timestamps that are late by a varying amount.

In: audio chunks with the timestamps of their source. Out: a `ClockLine` from sample numbers to
CLOCK_MONOTONIC.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..messages import AudioChunk


class ClockLine(NamedTuple):
    """The line from sample numbers to times, as the audio clock has it at one moment."""

    sample: int
    """Number of one sample."""
    t_ns: float
    """Its capture time."""
    period_ns: float
    """Time from one sample to the next."""
    begin: int
    """First sample after the last gap. The line does not hold for samples before it."""
    settled: float = math.inf
    """Samples from this number on are held back: their timestamps are late, which may mean a gap.
    Infinite when none are."""

    def time_of(self, sample: float) -> float:
        """Return the capture time of sample number `sample`, ns."""
        return self.t_ns + (sample - self.sample) * self.period_ns

    def sample_at(self, t_ns: float) -> float:
        """Return the number of the sample captured at `t_ns`."""
        return self.sample + (t_ns - self.t_ns) / self.period_ns


class AudioClock:
    """Maps sample numbers to CLOCK_MONOTONIC and estimates the sound card's true rate.

    A delay-locked loop of second order (F. Adriaensen, "Using a DLL to filter time", LAC 2005).
    A timestamp can be late but not early. The loop therefore does not follow each timestamp. Once a
    block it takes the earliest timestamp of the block, relative to its prediction. Its gains begin
    as those of the least-squares line through all blocks and fall to their steady values
    (N. Morrison, "Introduction to Sequential Smoothing and Prediction", 1969).

    After a gap, in the sample count or in the timestamps, a new line begins. A gap of at most
    `bridge_samples` is bridged: silence replaces the lost samples, and the line's `begin` stays.

    One thread calls `update`; another may read the results.
    """

    BLOCK_S = 2.0
    """Long enough to hold a timestamp that is nearly on time, short enough for 300 ppm (0.6 ms)."""
    STEADY_BLOCKS = 12
    """Memory of the loop. About 0.02 Hz wide, it smooths jitter."""
    PRIOR_BLOCKS = 3
    """The nominal rate has the weight of this many blocks."""
    GAP_NS = 50_000_000
    """A timestamp later than this may follow lost samples."""
    GAP_CONFIRM_S = 0.1
    """Audio whose timestamps must all be that late before a gap is assumed."""

    def __init__(self, rate_hz: int, bridge_samples: int = 0) -> None:
        self._bridge_samples = bridge_samples
        self._nominal_ns = 1e9 / rate_hz
        self._block_samples = self.BLOCK_S * rate_hz
        self.gaps = 0
        self._next_sample: int | None = None
        self._end = 0
        self.line = ClockLine(0, 0.0, self._nominal_ns, 0)
        """Replaced as a whole, as another thread may read it at any moment."""
        self._rate_blocks = self.PRIOR_BLOCKS

    @property
    def locked(self) -> bool:
        return self._next_sample is not None

    @property
    def drift_ppm(self) -> float:
        """Error of the card's rate against its nominal rate."""
        return (self._nominal_ns / self.line.period_ns - 1.0) * 1e6

    def update(self, chunk: AudioChunk) -> int:
        """Use the timestamp of the next chunk. Return how many samples of silence the ring must
        insert before it."""
        first = self._end
        silence = 0
        if self._next_sample is None:
            self._anchor(first, chunk.t_ns, first)
        else:
            lost = chunk.first_sample - self._next_sample
            error = chunk.t_ns - self.time_of(first + lost)
            bridged = 0 < lost <= self._bridge_samples and abs(error) <= self.GAP_NS
            if bridged:
                self.gaps += 1
                silence = lost
                first += lost
                self._anchor(first, chunk.t_ns, self.line.begin)
            elif lost or error < -self.GAP_NS:
                self.gaps += 1
                self._anchor(first, chunk.t_ns, first)
            else:
                self._follow(first, error, len(chunk.samples))
        self._end = first + len(chunk.samples)
        self._next_sample = chunk.first_sample + len(chunk.samples)
        return silence

    def _anchor(self, sample: int, t_ns: float, begin: int) -> None:
        """Begin a new line at this sample, with the rate learned so far."""
        self.line = ClockLine(sample, float(t_ns), self.line.period_ns, begin)
        self._anchor_ns = float(t_ns)
        self._candidate_gap_ns = math.inf
        self._candidate_samples = 0
        self._blocks = 0
        self._begin_block(sample)
        self._record_error(0.0)

    def _follow(self, first: int, error: float, num_samples: int) -> None:
        if error > self.GAP_NS:
            if not self._candidate_samples:
                self.line = self.line._replace(settled=first)
            self._candidate_gap_ns = min(self._candidate_gap_ns, error)
            self._candidate_samples += num_samples
            if self._candidate_samples * self._nominal_ns >= self.GAP_CONFIRM_S * 1e9:
                self.gaps += 1
                begin = round(self.line.settled)
                self._anchor(first, self.time_of(first) + self._candidate_gap_ns, begin)
            return
        if self._candidate_samples:
            self._candidate_gap_ns, self._candidate_samples = math.inf, 0
            self.line = self.line._replace(settled=math.inf)
        if self._blocks == 0:
            # The first block: do not wait for its end.
            self._record_error(error + self.line.t_ns - self._anchor_ns)
            self.line = self.line._replace(t_ns=self._anchor_ns + self._estimate_on_time_error())
        else:
            self._record_error(error)
        if first >= self._block_end:
            self._close_block(first)

    def _begin_block(self, first: int) -> None:
        self._block_end = first + self._block_samples
        self._earliest, self._sum, self._count = math.inf, 0.0, 0

    def _record_error(self, error: float) -> None:
        self._earliest = min(self._earliest, error)
        self._sum += error
        self._count += 1

    def _estimate_on_time_error(self) -> float:
        """Estimate the error of a timestamp that is not late, from the timestamps of the block.

        The earliest of n timestamps, late by 0 to J, is late by J / (n + 1) on average, and their
        mean lies J (n - 1) / 2 (n + 1) after it.
        """
        if self._count < 2:
            return self._earliest
        mean = self._sum / self._count
        return self._earliest - 2 * (mean - self._earliest) / (self._count - 1)

    def _close_block(self, first: int) -> None:
        """Correct the line's offset and rate by the block's error."""
        error = 0.0 if self._blocks == 0 else self._estimate_on_time_error()
        period_ns = self.line.period_ns
        self._blocks = min(self._blocks + 1, self.STEADY_BLOCKS)
        n = self._blocks
        base_ns = self.time_of(first) + 2 * (2 * n - 1) / (n * (n + 1)) * error
        if n > 1:
            self._rate_blocks = min(self._rate_blocks + 1, self.STEADY_BLOCKS)
            m = self._rate_blocks
            period_ns += 6 / (m * (m + 1)) * error / self._block_samples
        self.line = ClockLine(first, base_ns, period_ns, self.line.begin)
        self._begin_block(first)

    def time_of(self, sample: float) -> float:
        """Return the capture time of sample number `sample`, ns."""
        return self.line.time_of(sample)

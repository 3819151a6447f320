"""Which sound belongs to which picture: one clock for both, exact to the sample.

In: audio chunks as they come, and a picture. Out: a `Window`, whose log-mel columns end at the
picture's time of capture.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...engines.face_tracker import FaceBox
from ...kernels import LogMel
from ..messages import AudioChunk, VideoFrame, Window
from .buffers import AudioRing


class ClockLine(NamedTuple):
    """Sample numbers to times, as the audio clock knows them at one moment."""

    sample: int
    """A sample's number..."""
    t_ns: float
    """... its time of capture..."""
    period_ns: float
    """... and the time from one sample to the next."""
    begin: int
    """The first sample after the last gap: the line says nothing about those before."""
    settled: float = math.inf
    """The samples from this number on may come after a gap, or their stamps are only late."""

    def time_of(self, sample: float) -> float:
        """When sample number `sample` was captured, ns."""
        return self.t_ns + (sample - self.sample) * self.period_ns

    def sample_at(self, t_ns: float) -> float:
        """Number of the sample captured at `t_ns`."""
        return self.sample + (t_ns - self.t_ns) / self.period_ns


class AudioClock:
    """Maps sample numbers to CLOCK_MONOTONIC and learns the sound card's true rate.

    A delay-locked loop of second order (F. Adriaensen, "Using a DLL to filter time", LAC 2005).
    A chunk can be stamped late but not early, so the loop does not follow each stamp: it is fed,
    once a block, with the earliest stamp of that block, relative to what it predicted. Its gains
    begin as those of the least-squares line through all blocks and fall to their steady values
    (N. Morrison, "Introduction to Sequential Smoothing and Prediction", 1969).

    After a gap, in the samples' count or in their stamps, a new line begins. A gap of at most
    `bridge_samples` is bridged: silence stands for what was lost, and the line's `begin` stays.

    `update` is called by one thread; the answers may be read by another.
    """

    BLOCK_S = 2.0
    """Long enough for a stamp that is nearly on time, short enough for 300 ppm (0.6 ms)."""
    STEADY_BLOCKS = 12
    """The loop remembers about this many blocks: about 0.02 Hz wide, it smooths jitter."""
    PRIOR_BLOCKS = 3
    """A card's rate is known beforehand, as well as if so many blocks had been seen."""
    GAP_NS = 50_000_000
    """A stamp this far from its prediction is no jitter..."""
    GAP_CHUNKS_S = 0.1
    """... when all stamps of this much sound agree: then samples were lost."""

    def __init__(self, rate_hz: int, bridge_samples: int = 0) -> None:
        self._bridge_samples = bridge_samples
        self._nominal_ns = 1e9 / rate_hz
        self._block_samples = self.BLOCK_S * rate_hz
        self.gaps = 0
        self._next_sample: int | None = None
        self._end = 0
        self.line = ClockLine(0, 0.0, self._nominal_ns, 0)
        """Replaced as a whole, as the reader may come at any moment."""
        self._rate_blocks = self.PRIOR_BLOCKS

    @property
    def locked(self) -> bool:
        return self._next_sample is not None

    @property
    def drift_ppm(self) -> float:
        """How much faster than stated the card counts samples."""
        return (self._nominal_ns / self.line.period_ns - 1.0) * 1e6

    def update(self, chunk: AudioChunk) -> int:
        """Take in the stamp of the next chunk -> how many samples of silence the ring is to number
        before it. Otherwise the ring numbers samples without a hole."""
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
        """Begin a new line at this sample; what is known of the rate stays."""
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
            if self._candidate_samples * self._nominal_ns >= self.GAP_CHUNKS_S * 1e9:
                self.gaps += 1
                begin = round(self.line.settled)
                self._anchor(first, self.time_of(first) + self._candidate_gap_ns, begin)
            return
        if self._candidate_samples:
            self._candidate_gap_ns, self._candidate_samples = math.inf, 0
            self.line = self.line._replace(settled=math.inf)
        if self._blocks == 0:
            # Nothing is known yet: do not wait for the end of the block.
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
        """What a stamp without any lateness would have shown, from the stamps of the block.

        The earliest of n stamps, late by 0 to J, is itself late by J / (n + 1) on average, and
        their mean lies J (n - 1) / 2 (n + 1) after it.
        """
        if self._count < 2:
            return self._earliest
        mean = self._sum / self._count
        return self._earliest - 2 * (mean - self._earliest) / (self._count - 1)

    def _close_block(self, first: int) -> None:
        """Move the line by what the block has shown, and turn it."""
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
        """When sample number `sample` was captured, ns."""
        return self.line.time_of(sample)

    def sample_at(self, t_ns: float) -> float:
        """Number of the sample captured at `t_ns`."""
        return self.line.sample_at(t_ns)


class Synchroniser:
    """Feeds the streaming log-mel and says which of its columns end with a picture.

    The log-mel starts anew after a gap in the audio, so no window mixes what was heard before it
    with what was heard after it. A gap of at most one hop is bridged with silence: every window of
    a microphone that drops a few samples now and then would be short otherwise.

    `add_audio` is called by the audio thread, the rest by the main thread.
    """

    MAX_SKEW_NS = 1_000_000_000
    """Sound that ends longer ago than this is not shown together with the picture."""

    def __init__(self, mel: LogMel, max_wait_ms: float) -> None:
        self._mel = mel
        self._max_wait_s = max_wait_ms / 1e3
        rate = mel.spec.sample_rate_hz
        self.ring = AudioRing(2 * rate)
        self.audio_clock = AudioClock(rate, mel.spec.hop)
        self.overrun_samples = 0
        self._begin = self.audio_clock.line.begin
        self._scratch = np.zeros(self.ring.capacity, np.float32)

    def add_audio(self, chunk: AudioChunk) -> None:
        silence = self.audio_clock.update(chunk)
        if silence:
            chunk = replace(chunk, samples=np.pad(chunk.samples, (silence, 0)))
        self.ring.put(chunk)

    def newest_audio_ns(self) -> int | None:
        """When the newest sample was captured; None before the first."""
        if not self.audio_clock.locked:
            return None
        return round(self.audio_clock.time_of(self.ring.end_sample))

    def wipe(self) -> None:
        """Overwrite all sound with zeros."""
        self.ring.clear()
        self._scratch.fill(0)

    def window(
        self,
        t_ns: int,
        frame: VideoFrame | None,
        face: FaceBox | None,
        wait: bool,
        dropped_frames: int = 0,
    ) -> Window:
        """The window at `t_ns`. With `wait`, sound that is late is waited for, within limits."""
        if not self.audio_clock.locked:
            return Window(t_ns, frame, face, None, None, 0, dropped_frames)
        if wait and self._max_wait_s > 0:
            end_sample = self._end_of(self._end_column_at(t_ns, self.audio_clock.line))
            if self._is_live(end_sample):
                self.ring.wait_for(end_sample, self._max_wait_s)
        line = self._push_new_samples()
        at = line.sample_at(t_ns)
        end_column = min(self._end_column_at(t_ns, line), self._mel.num_columns)
        skew_ns = round(t_ns - line.time_of(self._end_of(end_column)))
        # A picture that was held up for long may be older than the columns that are kept.
        kept = self._mel.num_columns - end_column <= self._mel.HISTORY_COLUMNS
        usable = end_column > self._mel.first_column and skew_ns < self.MAX_SKEW_NS and kept
        if not usable:
            return Window(t_ns, frame, face, at, None, 0, dropped_frames)
        return Window(t_ns, frame, face, at, end_column, skew_ns, dropped_frames)

    def _is_live(self, end_sample: int) -> bool:
        """Whether the sound is only late, as it is while its source works."""
        late_ns = (end_sample - self.ring.end_sample) / self._mel.spec.sample_rate_hz * 1e9
        return 0 < late_ns < self.MAX_SKEW_NS

    def _end_column_at(self, t_ns: int, line: ClockLine) -> int:
        """The column after the last that ends by `t_ns`."""
        spec = self._mel.spec
        # One sample of grace for the clock's rounding.
        return math.floor((line.sample_at(t_ns) + 1 - spec.window) / spec.hop) + 1

    def _end_of(self, end_column: int) -> int:
        """The sample after the last one of the columns before `end_column`."""
        spec = self._mel.spec
        return (end_column - 1) * spec.hop + spec.window

    def _push_new_samples(self) -> ClockLine:
        """Give the log-mel the samples since the last gap -> the line that holds for them."""
        while True:
            first, count = self.ring.read(self._mel.next_sample, self._scratch)
            # After the samples: the clock is told of a chunk before the ring gets it.
            line = self.audio_clock.line
            if line.begin == self._begin:
                break
            self._begin = line.begin
            self._mel.restart(line.begin)
        if first > self._mel.next_sample:
            self.overrun_samples += first - self._mel.next_sample
            self._mel.restart(first)
        count = int(min(count, line.settled - first))
        if count > 0:
            self._mel.push(self._scratch[:count])
        return line

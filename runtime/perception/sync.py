"""Aligns audio with frames on one clock, exact to the sample.

In: audio chunks as they arrive, and a frame. Out: a `Window` whose log-mel columns end at the
frame's capture time.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...engines.estimator import MAX_AUDIO_AGE_NS
from ...engines.face_tracker import FaceBox
from ...engines.speech_tracker import SpeechTracker
from ...kernels import LogMel
from ..messages import AudioChunk, VideoFrame, Window
from .audio_clock import AudioClock, ClockLine
from .buffers import AudioRing
from .sample_feed import SampleFeed


class Synchroniser:
    """Feeds the streaming log-mel and the speech tracker, and finds the columns that end with a
    frame.

    The log-mel restarts after a gap in the audio, so no window mixes audio from before the gap with
    audio from after it. A gap of at most one hop is bridged with silence. Otherwise every window of
    a microphone that drops a few samples now and then would be short.

    The audio thread calls `add_audio`, the main thread the rest.
    """

    MAX_SKEW_NS = MAX_AUDIO_AGE_NS

    def __init__(
        self, mel: LogMel, max_wait_ms: float, speech: SpeechTracker | None = None
    ) -> None:
        self._mel = mel
        self._max_wait_s = max_wait_ms / 1e3
        rate = mel.spec.sample_rate_hz
        self.ring = AudioRing(2 * rate)
        self.audio_clock = AudioClock(rate, mel.spec.hop)
        self._mel_feed = SampleFeed(mel, self.ring, self.audio_clock)
        self._speech_feed: SampleFeed | None = None
        if speech is not None:
            self._speech_feed = SampleFeed(speech, self.ring, self.audio_clock)

    def add_audio(self, chunk: AudioChunk) -> None:
        """Store the next chunk of the source."""
        silence = self.audio_clock.update(chunk)
        if silence:
            chunk = replace(chunk, samples=np.pad(chunk.samples, (silence, 0)))
        self.ring.put(chunk)
        if self._speech_feed is not None:  # after the ring, which the main thread may wait for
            self._speech_feed.push_new()

    @property
    def overrun_samples(self) -> int:
        """Samples that were overwritten before the log-mel got them."""
        return self._mel_feed.overrun_samples

    def newest_audio_ns(self) -> int | None:
        """Return the capture time of the newest sample, None before the first."""
        if not self.audio_clock.locked:
            return None
        return round(self.audio_clock.time_of(self.ring.end_sample))

    def first_audio_ns(self) -> int | None:
        """Return the capture time of the first sample, None before it."""
        return round(self.audio_clock.time_of(0)) if self.audio_clock.locked else None

    def fresh_audio_ns(self, now_ns: int) -> int | None:
        """Return the capture time of the newest sample, None if it is too old at `now_ns`."""
        t_ns = self.newest_audio_ns()
        return t_ns if t_ns is not None and now_ns - t_ns <= self.MAX_SKEW_NS else None

    def wipe(self) -> None:
        """Overwrite all audio with zeros."""
        self.ring.clear()
        self._mel_feed.wipe()
        if self._speech_feed is not None:
            self._speech_feed.wipe()

    def window(
        self,
        t_ns: int,
        frame: VideoFrame | None,
        faces: tuple[FaceBox, ...],
        voice_due: bool,
        dropped_frames: int = 0,
    ) -> Window:
        """Return the window at `t_ns`. If `voice_due`, wait for late audio up to `max_wait_ms`."""
        if not self.audio_clock.locked:
            return Window(t_ns, frame, faces, None, None, 0, dropped_frames, voice_due)
        if voice_due and self._max_wait_s > 0:
            end_sample = self._end_of(self._end_column_at(t_ns, self.audio_clock.line))
            if self._is_live(end_sample):
                self.ring.wait_for(end_sample, self._max_wait_s)
        line = self._mel_feed.push_new()
        at = line.sample_at(t_ns)
        end_column = min(self._end_column_at(t_ns, line), self._mel.num_columns)
        skew_ns = round(t_ns - line.time_of(self._end_of(end_column)))
        # A frame that was delayed for long may be older than the columns in memory.
        in_memory = self._mel.num_columns - end_column <= self._mel.HISTORY_COLUMNS
        usable = end_column > self._mel.first_column and skew_ns < self.MAX_SKEW_NS and in_memory
        if not usable:
            return Window(t_ns, frame, faces, at, None, 0, dropped_frames, voice_due)
        return Window(t_ns, frame, faces, at, end_column, skew_ns, dropped_frames, voice_due)

    def _is_live(self, end_sample: int) -> bool:
        """Return whether the audio is only late, as it is while its source works."""
        late_ns = (end_sample - self.ring.end_sample) / self._mel.spec.sample_rate_hz * 1e9
        return 0 < late_ns < self.MAX_SKEW_NS

    def _end_column_at(self, t_ns: int, line: ClockLine) -> int:
        """Return the column after the last one that ends by `t_ns`."""
        spec = self._mel.spec
        # One sample of grace for the clock's rounding.
        return math.floor((line.sample_at(t_ns) + 1 - spec.window) / spec.hop) + 1

    def _end_of(self, end_column: int) -> int:
        """Return the sample after the last one of the columns before `end_column`."""
        spec = self._mel.spec
        return (end_column - 1) * spec.hop + spec.window

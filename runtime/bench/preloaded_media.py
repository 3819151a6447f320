"""A clip held in memory: pictures and sound that cost nothing while they are played.

A camera's pictures do not come later because the processor is busy; a file's do, as somebody has
to decode them. So a benchmark decodes before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..capture.playback import Media, merge_events
from ..messages import AudioChunk, Float32, VideoFrame

MAX_PRELOAD_BYTES = 400_000_000
"""About five seconds at 1280x720."""
MAX_PRELOAD_NS = 20_000_000_000
_CHUNK_S = 0.01


class PreloadedMedia:
    """The beginning of `media`, as much as fits."""

    copies_per_frame = 0

    def __init__(self, media: Media, max_bytes: int = MAX_PRELOAD_BYTES) -> None:
        self.sample_rate_hz = media.sample_rate_hz
        self._frames: list[VideoFrame] = []
        pieces: list[Float32] = []
        audio_start_ns = 0
        self.preloaded_bytes = 0
        end_ns = 0
        for event in merge_events(media):
            if event.t_ns >= MAX_PRELOAD_NS or self.preloaded_bytes >= max_bytes:
                break
            if isinstance(event, VideoFrame):
                self._frames.append(event)
                self.preloaded_bytes += event.image.nbytes
            else:
                if not pieces:
                    audio_start_ns = event.t_ns
                pieces.append(event.samples)
                end_ns = event.t_ns + round(event.samples.size / self.sample_rate_hz * 1e9)
        self.has_video, self.has_audio = bool(self._frames), bool(pieces)
        if self.has_video:  # a round ends one picture after the last
            times = [frame.t_ns for frame in self._frames]
            step_ns = (times[-1] - times[0]) // max(1, len(times) - 1) or 1_000_000_000 // 30
            end_ns = times[-1] + step_ns
        self._period_ns = end_ns
        self._audio = np.zeros(round(end_ns * self.sample_rate_hz / 1e9), np.float32)
        if pieces:
            audio = np.concatenate(pieces)
            first = min(len(self._audio), round(audio_start_ns * self.sample_rate_hz / 1e9))
            self._audio[first : first + len(audio)] = audio[: len(self._audio) - first]

    def frames(self, *, loop: bool = False) -> Iterator[VideoFrame]:
        index = shift_ns = 0
        while True:
            for frame in self._frames:
                yield replace(frame, t_ns=shift_ns + frame.t_ns, index=index)
                index += 1
            if not loop:
                return
            shift_ns += self._period_ns

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        size = round(self.sample_rate_hz * _CHUNK_S)
        first, total = 0, len(self._audio)
        while loop or first < total:
            samples = self._audio.take(range(first, first + size), mode="wrap")
            t_ns = first * 1_000_000_000 // self.sample_rate_hz
            yield AudioChunk(t_ns, first, samples if loop else samples[: total - first])
            first += size

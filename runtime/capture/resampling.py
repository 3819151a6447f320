"""Audio of any rate and layout to mono float32 at one rate: mixed by level, then resampled by
FFmpeg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np

from ...kernels.channel_mixer import ChannelMixer, to_float
from ..messages import AudioChunk, Float32


class Resampler:
    """Resamples PyAV audio frames to mono. The frames' rate or layout may change midway.

    The output is aligned: its sample k lies at input position k * in_rate / out_rate. Samples that
    the filter holds back follow with the next frame or with `flush`.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._source: tuple[object, ...] | None = None
        self._mixer: ChannelMixer | None = None
        self._inner: Any = None

    def push(self, frame: Any) -> Float32:
        """Return the samples that are ready after `frame`."""
        num_channels = len(frame.layout.channels)
        source = (frame.sample_rate, num_channels)
        parts: list[Float32] = []
        if source != self._source or self._mixer is None:
            parts.append(self.flush())
            self._mixer = ChannelMixer(num_channels, frame.sample_rate)
            self._source = source
        mixed = self._mixer.mix(to_float(frame.to_ndarray(), num_channels))
        parts.append(self.resample(mixed, frame.sample_rate))
        return np.concatenate(parts)

    def resample(self, mono: Float32, rate_hz: int) -> Float32:
        """Return the samples that are ready after these of one channel."""
        if self._inner is None:
            self._inner = av.AudioResampler(format="flt", layout="mono", rate=self._rate_hz)
        # Without a time: the caller counts samples, and a jump would disturb the filter.
        frame = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
        frame.sample_rate = rate_hz
        return _join(self._inner.resample(frame))

    def flush(self) -> Float32:
        """Return the samples that the filter holds back. The next frame starts anew."""
        if self._inner is None:
            return np.empty(0, np.float32)
        tail = _join(self._inner.resample(None))
        self._inner = None
        return tail


class ChunkResampler:
    """Resamples a device's mono audio to another rate, with capture times."""

    def __init__(self, rate_hz: int, out_rate_hz: int) -> None:
        self._rate_hz, self._out_rate_hz = rate_hz, out_rate_hz
        self._resampler = Resampler(out_rate_hz)
        self._next_in = -1
        self._begin_in = self._begin_out = self._out = 0

    def push(self, first: int, t_ns: int, audio: Float32) -> AudioChunk | None:
        """Return the samples that are ready, or None while the filter fills.

        `audio`: float32 (n,). Its first sample has index `first` and was captured at `t_ns`.
        """
        if first != self._next_in:  # a gap: the filter must not join both sides
            self._resampler = Resampler(self._out_rate_hz)
            self._begin_in = first
            self._begin_out = round(first * self._out_rate_hz / self._rate_hz)
            self._out = 0
        self._next_in = first + len(audio)
        samples = self._resampler.resample(audio, self._rate_hz)
        if not samples.size:
            return None
        # The first sample that is returned lies behind `first` by what the filter held back.
        at_in = self._begin_in + self._out * self._rate_hz / self._out_rate_hz
        chunk_t_ns = t_ns + round((at_in - first) * 1e9 / self._rate_hz)
        chunk = AudioChunk(chunk_t_ns, self._begin_out + self._out, samples)
        self._out += samples.size
        return chunk


def split_chunks(pieces: Iterable[tuple[int, Float32]], size: int) -> Iterator[tuple[int, Float32]]:
    """Cut (first index, samples) into pieces of `size`, without joining across a gap."""
    at = 0
    rest = np.empty(0, np.float32)
    for first, samples in pieces:
        fresh = samples[max(0, at + rest.size - first) :]  # drops an overlap
        if not fresh.size:
            continue
        begin = first + samples.size - fresh.size
        if begin > at + rest.size:
            if rest.size:
                yield at, rest
            at, rest = begin, fresh
        else:
            rest = np.concatenate((rest, fresh))
        while rest.size >= size:
            yield at, rest[:size]
            at, rest = at + size, rest[size:]
    if rest.size:
        yield at, rest


def _join(frames: list[Any]) -> Float32:
    if not frames:
        return np.empty(0, np.float32)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])

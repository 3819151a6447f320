"""Any sound in, mono float32 at the rate asked for out, through FFmpeg's resampler."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np

from ..messages import AudioChunk, Float32


class Resampler:
    """Turns PyAV audio frames into mono samples; follows a change of rate or layout midway.

    The output is aligned: its sample k lies at input position k * in_rate / out_rate, and what
    the filter still holds back comes with the next frame or with `flush`.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._source: tuple[object, ...] | None = None
        self._inner: Any = None

    def push(self, frame: Any) -> Float32:
        """The samples that are ready after `frame`."""
        source = (frame.sample_rate, frame.layout.name, frame.format.name)
        parts: list[Float32] = []
        if source != self._source:
            parts.append(self.flush())
            # 32-bit integers: only for them does FFmpeg scale a downmix so that it cannot
            # exceed full scale. With floats, two equal channels come out 1.41 times too loud.
            self._inner = av.AudioResampler(format="s32", layout="mono", rate=self._rate_hz)
            self._source = source
        # We count samples ourselves; a jump in the file's own times would only upset the filter.
        frame.pts = None
        parts.append(_join(self._inner.resample(frame)))
        return np.concatenate(parts)

    def flush(self) -> Float32:
        """What the filter held back. The next frame starts a new stretch."""
        if self._inner is None:
            return np.empty(0, np.float32)
        tail = _join(self._inner.resample(None))
        self._inner = self._source = None
        return tail


class ChunkResampler:
    """Brings a device's own rate and channels to mono at the rate asked for, times kept."""

    def __init__(self, rate_hz: int, channels: int, out_rate_hz: int) -> None:
        self._rate_hz, self._out_rate_hz = rate_hz, out_rate_hz
        self._layout = "mono" if channels == 1 else "stereo"
        self._resampler = Resampler(out_rate_hz)
        self._next_in = -1
        self._begin_in = self._begin_out = self._out = 0

    def push(self, first: int, t_ns: int, audio: Float32) -> AudioChunk | None:
        """The mono samples that are ready; None while the filter fills.

        `audio`: float32 (n, channels); its first sample has index `first`, taken at `t_ns`.
        """
        if first != self._next_in:  # a gap: the filter must not smear across it
            self._resampler = Resampler(self._out_rate_hz)
            self._begin_in = first
            self._begin_out = round(first * self._out_rate_hz / self._rate_hz)
            self._out = 0
        self._next_in = first + audio.shape[0]
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audio.reshape(1, -1)), format="flt", layout=self._layout
        )
        frame.sample_rate = self._rate_hz
        samples = self._resampler.push(frame)
        if not samples.size:
            return None
        # Sample k of a stretch lies at input position k * in / out; the filter holds some back.
        at_in = self._begin_in + self._out * self._rate_hz / self._out_rate_hz
        chunk_t_ns = t_ns + round((at_in - first) * 1e9 / self._rate_hz)
        chunk = AudioChunk(chunk_t_ns, self._begin_out + self._out, samples)
        self._out += samples.size
        return chunk


def split_chunks(pieces: Iterable[tuple[int, Float32]], size: int) -> Iterator[tuple[int, Float32]]:
    """Cut (first index, samples) into pieces of `size`; nothing is joined across a gap."""
    at = 0
    rest = np.empty(0, np.float32)
    for first, samples in pieces:
        fresh = samples[max(0, at + rest.size - first) :]  # what overlaps was heard before
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
    whole = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    return (whole * 2.0**-31).astype(np.float32)

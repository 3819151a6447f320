"""Buffers between the capture threads and the main thread: the newest frame, the newest audio.

A slow reader loses the oldest frames or samples, and they are counted. A writer never waits.
"""

from __future__ import annotations

import threading

import numpy as np

from ..messages import AudioChunk, Float32, VideoFrame


class FrameRing:
    """Holds the newest frame. It is a ring of one: an older frame would be late already."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: VideoFrame | None = None
        self._fresh = False
        self._ended = False
        self._dropped = 0

    def put(self, frame: VideoFrame) -> None:
        """Store a frame; it replaces one that was not taken."""
        with self._changed:
            if self._ended:
                return
            self._dropped += self._fresh
            self._frame, self._fresh = frame, True
            self._changed.notify_all()

    def take(self, timeout_s: float) -> tuple[VideoFrame | None, int]:
        """Wait for a frame not yet taken. Return it (or None) and the frames lost since the last
        call."""
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self._ended, timeout_s)
            if not self._fresh:
                return None, 0
            self._fresh = False
            dropped, self._dropped = self._dropped, 0
            return self._frame, dropped

    def newest(self) -> VideoFrame | None:
        """Return the newest frame, taken or not."""
        with self._changed:
            return self._frame

    def end(self) -> None:
        """Wake the reader: no frame will come any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self._ended

    def wipe(self) -> None:
        """Overwrite the frame with zeros and drop it."""
        with self._changed:
            if self._frame is not None and self._frame.image.flags.writeable:
                self._frame.image.fill(0)
            self._frame, self._fresh = None, False


class AudioRing:
    """The last seconds of audio, each sample numbered from the first one ever stored.

    The numbers go on without a hole where the source lost samples. The audio clock has the capture
    time of each sample and the first sample after the last gap.
    """

    def __init__(self, capacity: int) -> None:
        self._samples = np.zeros(capacity, np.float32)
        self._changed = threading.Condition()
        self._end = 0

    @property
    def capacity(self) -> int:
        return len(self._samples)

    @property
    def end_sample(self) -> int:
        """Number of the next sample."""
        return self._end

    def put(self, chunk: AudioChunk) -> None:
        """Store the samples of the next chunk."""
        samples = chunk.samples[-self.capacity :]
        skipped = len(chunk.samples) - len(samples)
        with self._changed:
            at = (self._end + skipped) % self.capacity
            head = min(len(samples), self.capacity - at)
            self._samples[at : at + head] = samples[:head]
            self._samples[: len(samples) - head] = samples[head:]
            self._end += len(chunk.samples)
            self._changed.notify_all()

    def wait_for(self, sample: int, timeout_s: float) -> bool:
        """Wait for all samples before number `sample`. Return False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._end >= sample, timeout_s)

    def read(self, first: int, into: Float32) -> tuple[int, int]:
        """Copy the samples from number `first` on into `into`.

        Return the number of the first sample copied, a later one where `first` was overwritten,
        and how many were copied.
        """
        with self._changed:
            first = max(first, self._end - self.capacity)
            count = max(0, min(self._end - first, len(into)))
            at = first % self.capacity
            head = min(count, self.capacity - at)
            into[:head] = self._samples[at : at + head]
            into[head:count] = self._samples[: count - head]
            return first, count

    def clear(self) -> None:
        """Overwrite all audio with zeros."""
        with self._changed:
            self._samples[:] = 0.0

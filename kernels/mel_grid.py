"""Which columns of a stream of sound there are: the part of a streaming log-mel that every
backend shares. Sample numbers in, column numbers and levels out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .spec import MelSpec


class MelGrid:
    """The hop grid of one stream, and a ring of its columns' levels. One thread only."""

    HISTORY_COLUMNS = 128
    """Columns kept beyond a window, for pictures older than the newest sound (1.28 s)."""

    def __init__(self, spec: MelSpec, audio: NDArray[Any]) -> None:
        """`audio` is the backend's: the sample before the next column, then `_filled` of it."""
        self.spec = spec
        self._audio = audio
        self._capacity = spec.num_frames + self.HISTORY_COLUMNS
        # Written twice, so that any stretch of `_capacity` columns lies in one piece.
        self._levels = np.zeros(2 * self._capacity, np.float32)
        self.restart(0)

    def restart(self, first_sample: int) -> None:
        """Forget the past: the next sample pushed is number `first_sample`, rounded up to the
        grid by dropping what comes before."""
        hop = self.spec.hop
        self.first_column = -(-first_sample // hop)
        self._num_columns = self.first_column
        self._num_to_drop = self.first_column * hop - first_sample
        self.next_sample = first_sample
        self._audio[:] = 0.0
        self._filled = 0

    @property
    def num_columns(self) -> int:
        """Columns complete so far, counted from sample 0 of the stream."""
        return self._num_columns

    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]:
        """Sound level per column of the window that ends before `end_column`, dB of full scale,
        only where there was sound: a view."""
        start, count = self._span(end_column)
        return self._levels[start : start + count]

    def _align_to_grid(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Count the next samples (n,) -> contiguous float32, without those before the grid."""
        samples = np.ascontiguousarray(samples, np.float32)  # what the kernels are compiled for
        self.next_sample += len(samples)
        if self._num_to_drop:
            dropped = min(self._num_to_drop, len(samples))
            self._num_to_drop -= dropped
            samples = samples[dropped:]
        return samples

    def _span(self, end_column: int | None) -> tuple[int, int]:
        """Where in the ring a window starts and how many columns of it there are. Columns no
        longer kept, or not yet there, are an IndexError."""
        end = self._num_columns if end_column is None else end_column
        oldest = max(self.first_column, self._num_columns - self._capacity)
        first = max(end - self.spec.num_frames, self.first_column)
        if end > self._num_columns or (first < oldest and end > self.first_column):
            raise IndexError(f"column {end} is not between {oldest} and {self._num_columns}")
        count = max(0, end - first)
        return (end - count) % self._capacity, count

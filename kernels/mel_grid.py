"""Column numbers and audio levels of an audio stream: what the log-mel of every backend shares.

Sample numbers come in; column numbers, positions in a ring of columns, and levels go out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .spec import MelSpec


class MelGrid:
    """The hop grid of one audio stream and a ring of its columns' levels. For one thread."""

    HISTORY_COLUMNS = 128
    """Columns stored beyond a window, for frames older than the newest audio (1.28 s)."""

    def __init__(self, spec: MelSpec, audio: NDArray[Any]) -> None:
        """`audio` belongs to the backend. It holds the sample before the next column, then the
        first `_filled` samples of that column."""
        self.spec = spec
        self._audio = audio
        self._capacity = spec.num_frames + self.HISTORY_COLUMNS
        # Each level is stored twice, so that any `_capacity` columns in a row are contiguous.
        self._levels = np.zeros(2 * self._capacity, np.float32)
        self.restart(0)

    def restart(self, first_sample: int) -> None:
        """Discard all audio; the next sample pushed has the number `first_sample`.

        Samples before the next multiple of the hop are dropped.
        """
        hop = self.spec.hop
        self.first_column = -(-first_sample // hop)
        self._num_columns = self.first_column
        self._num_to_drop = self.first_column * hop - first_sample
        self.next_sample = first_sample
        self._audio[:] = 0.0
        self._filled = 0

    @property
    def num_columns(self) -> int:
        """Number of complete columns, counted from sample 0 of the stream."""
        return self._num_columns

    def levels_db(self, end_column: int | None = None) -> NDArray[np.float32]:
        """Return the level in dBFS of each column that the window before `end_column` holds.

        A view. Columns from before the start of the audio are left out.
        """
        start, count = self._span(end_column)
        return self._levels[start : start + count]

    def _align_to_grid(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Count the next samples (n,) -> contiguous float32 without those before the grid."""
        samples = np.ascontiguousarray(samples, np.float32)  # the type the kernels are compiled for
        self.next_sample += len(samples)
        if self._num_to_drop:
            dropped = min(self._num_to_drop, len(samples))
            self._num_to_drop -= dropped
            samples = samples[dropped:]
        return samples

    def _span(self, end_column: int | None) -> tuple[int, int]:
        """Return a window's start in the ring and its number of columns.

        Raises IndexError for columns that are no longer stored or not yet complete.
        """
        end = self._num_columns if end_column is None else end_column
        oldest = max(self.first_column, self._num_columns - self._capacity)
        first = max(end - self.spec.num_frames, self.first_column)
        if end > self._num_columns or (first < oldest and end > self.first_column):
            raise IndexError(f"column {end} is not between {oldest} and {self._num_columns}")
        count = max(0, end - first)
        return (end - count) % self._capacity, count

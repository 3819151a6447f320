"""What a validation of a network says: a score, and curves of its errors.

In: class probabilities for examples with known labels. Out: the score, and numbers by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics import calibration_error


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class probabilities of examples, and what they are."""

    probabilities: NDArray[np.float64]
    """(N, L), N > 0."""
    targets: NDArray[np.int64]
    """(N,), label indices."""

    @property
    def accuracy(self) -> float:
        """Share of the examples whose most probable label is right."""
        return float((self.probabilities.argmax(axis=1) == self.targets).mean())

    def list_curves(self, labels: Sequence[str]) -> dict[str, float]:
        """Return the recall of each label that occurs, "recall/LABEL", and the "calibration_error".

        Labels are named by `labels` (L,), or by number where that has another length.
        """
        num_labels = self.probabilities.shape[1]
        if len(labels) != num_labels:
            labels = [str(label) for label in range(num_labels)]
        predicted = self.probabilities.argmax(axis=1)
        curves = {
            f"recall/{name}": float((predicted[self.targets == label] == label).mean())
            for label, name in enumerate(labels)
            if (self.targets == label).any()
        }
        return {
            **curves,
            "calibration_error": calibration_error(self.probabilities, self.targets),
        }

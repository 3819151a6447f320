"""Marks where speech is in a recording, by Silero's voice-activity detector as the teacher.

In: recordings of 16 kHz and the file `silero_vad.onnx` (github.com/snakers4/silero-vad, MIT).
Out: for each recording, whether there is speech in each hop of 10 ms. Its weights are not shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import DatasetError

Audio = NDArray[np.float32]
Marks = NDArray[np.bool_]

RATE_HZ = 16_000
HOP = 160
"""Samples of a mark."""
CHUNK, CONTEXT = 512, 64
"""Samples of a call of the teacher, and of the audio before them."""
PEAK = 0.5
"""Recordings are scaled to this peak first: the teacher misses quiet speech."""
STARTS_ABOVE, ENDS_BELOW = 0.5, 0.3
MIN_SPEECH_HOPS = 5
MAX_BATCH = 64


class SpeechTeacher:
    """The teacher's network. Raises DatasetError for another file."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = ort.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise DatasetError(f"{path}: not Silero's ONNX file: {error}") from error
        inputs = {value.name for value in self._session.get_inputs()}
        if inputs != {"input", "state", "sr"}:
            raise DatasetError(f"{path}: not Silero's ONNX file: inputs {sorted(inputs)}")

    def mark(self, recordings: Sequence[Audio]) -> list[Marks]:
        """Mark the speech of each recording (n,) -> (ceil(n / 160),)."""
        order = np.argsort([len(audio) for audio in recordings], kind="stable")
        marks: list[Marks] = [np.zeros(0, bool)] * len(recordings)
        for first in range(0, len(order), MAX_BATCH):
            index = order[first : first + MAX_BATCH]
            rows = self._probabilities([recordings[i] for i in index])
            for i, row in zip(index, rows, strict=True):
                marks[i] = to_marks(row, len(recordings[i]))
        return marks

    def _probabilities(self, recordings: Sequence[Audio]) -> NDArray[np.float32]:
        """Return the probability of speech in each chunk, (N, num_chunks)."""
        num_chunks = -(-max(len(audio) for audio in recordings) // CHUNK)
        padded = np.zeros((len(recordings), CONTEXT + num_chunks * CHUNK), np.float32)
        for row, audio in zip(padded, recordings, strict=True):
            peak = float(np.abs(audio).max(initial=0.0))
            row[CONTEXT : CONTEXT + len(audio)] = audio * np.float32(PEAK / max(peak, 1e-6))
        state = np.zeros((2, len(recordings), 128), np.float32)
        rate = np.array(RATE_HZ, np.int64)
        columns = []
        for start in range(0, num_chunks * CHUNK, CHUNK):
            chunk = padded[:, start : start + CONTEXT + CHUNK]
            output, state = self._session.run(None, {"input": chunk, "state": state, "sr": rate})
            columns.append(output[:, 0])
        return np.stack(columns, axis=1)


def to_marks(probabilities: NDArray[np.float32], num_samples: int) -> Marks:
    """Turn the probability of each chunk into marks, with hysteresis and without short runs."""
    hops = np.arange(-(-num_samples // HOP))
    per_hop = probabilities[np.minimum((hops * HOP + HOP // 2) // CHUNK, len(probabilities) - 1)]
    marks = np.zeros(len(hops), bool)
    speaking, start = False, 0
    for hop, value in enumerate(per_hop):
        if not speaking and value >= STARTS_ABOVE:
            speaking, start = True, hop
        elif speaking and value < ENDS_BELOW:
            speaking = False
            marks[start:hop] = hop - start >= MIN_SPEECH_HOPS
    if speaking:
        marks[start:] = len(hops) - start >= MIN_SPEECH_HOPS
    return marks

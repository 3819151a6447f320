"""Voice activity: does the newest audio hold speech, and may the voice be used?

In: log-mel columns as the device computes them. Out: the probability of speech
(`VoiceActivityDetector`), and from probabilities over time whether there is speech enough to read
an emotion from (`SpeechGate`). The runtime and the evaluation use both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import EngineError
from .onnx_runtime import OnnxEngine

MEL, SPEECH = "mel", "speech"
"""Names of the network's input (1, num_mels, num_columns) and output (1,)."""


@dataclass(frozen=True, slots=True)
class GateRule:
    """When a gate opens and closes.

    Chosen on recordings with and without speech: see the table of `emotion-train evaluate
    --dataset voice_activity`.
    """

    memory_s: float = 0.2
    """Time constant of the mean speech probability."""
    open_above: float = 0.65
    """Mean from which on the voice may be used. From silence, certain speech reaches 0.65 in 1.05
    time constants: a bark or a click does not last so long."""
    close_below: float = 0.325
    """Mean below which it may no longer. After certain speech, silence reaches 0.325 in 1.12 time
    constants."""
    longest_step_s: float = 0.1
    """Largest weight in time of one probability; the time before it counts as silence."""


class SpeechGate:
    """Decides from speech probabilities over time whether the voice may be used.

    It follows an exponential mean with two thresholds. It owns no clock: times come with the
    probabilities. For one thread.
    """

    def __init__(self, rule: GateRule | None = None) -> None:
        self.rule = rule or GateRule()
        self.reset()

    def reset(self) -> None:
        """Forget the past: closed, as at the start of the audio."""
        self._mean = 0.0
        self._is_open = False
        self._t_ns: int | None = None

    @property
    def activity(self) -> float:
        """The mean speech probability of the last moments, 0..1."""
        return self._mean

    @property
    def is_open(self) -> bool:
        """Whether the voice may be used."""
        return self._is_open

    def update(self, speech: float, t_ns: int) -> bool:
        """Take the speech probability of the audio that ends at `t_ns` -> `is_open`.

        The first value only starts the clock. A time that is not later than the one before changes
        nothing.
        """
        rule = self.rule
        elapsed_s = 0.0 if self._t_ns is None else (t_ns - self._t_ns) / 1e9
        if self._t_ns is not None and elapsed_s <= 0:
            return self._is_open
        self._t_ns = t_ns
        step_s = min(elapsed_s, rule.longest_step_s)
        self._mean *= math.exp((step_s - elapsed_s) / rule.memory_s)
        self._mean += (speech - self._mean) * (1.0 - math.exp(-step_s / rule.memory_s))
        self._is_open = self._mean >= (rule.close_below if self._is_open else rule.open_above)
        return self._is_open


class VoiceActivityDetector:
    """The voice-activity network: the newest log-mel columns in, the probability of speech out.

    `probability` allocates nothing. A context manager, for one thread.
    """

    def __init__(self, path: Path, model: bytes | None = None) -> None:
        """Open the ONNX file, or the bytes `model`, which `path` then names. Raises EngineError
        when it is none, or another network."""
        self._engine = OnnxEngine(path, num_threads=1, model=model)
        shapes = {spec.name: spec.shape for spec in self._engine.inputs}
        outputs = [(spec.name, len(spec.shape)) for spec in self._engine.outputs]
        shape = shapes.get(MEL, ())
        if len(shapes) != 1 or len(shape) != 3 or None in shape[1:] or outputs != [(SPEECH, 1)]:
            raise EngineError(
                f"{path}: no voice-activity network: inputs {shapes}, outputs {outputs}, wanted:"
                f" {MEL} (1, num_mels, num_columns) and {SPEECH}"
            )
        self._mel = np.zeros((1, shape[1] or 0, shape[2] or 0), np.float32)
        self._feed = {MEL: self._mel}

    @property
    def num_mels(self) -> int:
        return int(self._mel.shape[1])

    @property
    def num_columns(self) -> int:
        """Number of newest columns that it reads."""
        return int(self._mel.shape[2])

    def warm_up(self, mel: NDArray[np.float32]) -> None:
        """Run once as `probability` does. Raises EngineError for a network that does not finish."""
        self._engine.warm_up({MEL: mel}, 1)

    def probability(self, mel: NDArray[np.float32]) -> float:
        """Return the probability that speech is in the last 100 ms of `mel` (1, num_mels, T).

        T must be at least `num_columns`; columns from before the start of the audio are 0.
        """
        self._mel[...] = mel[:, :, mel.shape[2] - self.num_columns :]
        return float(self._engine.infer(self._feed)[SPEECH][0])

    def wipe(self) -> None:
        """Overwrite the columns of the last call, and drop its result."""
        self._mel.fill(0)
        self._engine.close()  # the next call makes the buffers of the result anew

    def close(self) -> None:
        """Free the network."""
        self._engine.close()

    def __enter__(self) -> VoiceActivityDetector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

"""Fusion of face and voice into one prediction, the same on the device and in evaluation.

In: outputs of the face and voice networks with their capture times. Out: a `Prediction`. The
estimator holds all state between two estimates: stored embeddings, the last voice, the time of the
next voice window and the smoothed probabilities. It reads no clock and no camera.

Class probabilities are lists of seven floats. NumPy would cost more than the arithmetic on so few
numbers, because a network's run leaves none of NumPy's code in the caches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .base import Arrays, Engine
from .bundles import FUSION, MODALITIES, Level, Manifest
from .embeddings import EmbeddingMemory

log = logging.getLogger(__name__)

ClassProbabilities = list[float]

MAX_AUDIO_AGE_NS = 1_000_000_000
"""Audio that ended longer ago than this is not fused with a frame."""
MAX_VOICE_AGE_NS = 1_000_000_000
"""Class probabilities of a voice older than this are not fused with a new face."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The apparent emotion at one moment."""

    label: str | None
    """None when abstained."""
    confidence: float
    """Probability of the most likely label; 0 without face and voice."""
    abstained: bool
    probabilities: ClassProbabilities
    """Fused and smoothed, in the order of the manifest's labels; empty without face and voice."""
    weights: dict[str, float]
    """Weight of "face" and of "voice"; 0 for a missing modality."""
    face: ClassProbabilities | None
    """Of the face alone; None when it is missing."""
    voice: ClassProbabilities | None


class Estimator:
    """Turns network outputs into predictions. For one thread.

    For each moment call, in this order: `update_face` if there is a frame, `update_voice` if
    `is_voice_due`, else `drop_voice` if there is no speech any more, then `estimate`.
    """

    def __init__(
        self,
        manifest: Manifest,
        engines: Mapping[str, Engine],
        level: Level,
        smoothing_s: float = 0.0,
    ) -> None:
        """`engines` by network. With the "fusion" network it fuses embeddings, without it class
        probabilities are averaged."""
        self.non_finite_outputs = dict.fromkeys(engines, 0)
        """Outputs with a NaN or an infinity, by network. They are ignored."""
        self._labels = manifest.labels
        self._abstain_below = manifest.abstain_below
        self._weights = {
            name: manifest.models[name].fusion_weight for name in MODALITIES if name in engines
        }
        self._temperatures = {name: manifest.networks[name].temperature for name in engines}
        self._smoother = Smoother(smoothing_s)
        self._memory: EmbeddingMemory | None = None
        if manifest.fusion is not None and FUSION in engines:
            self._memory = EmbeddingMemory(manifest.fusion.num_faces)
        self._face: ClassProbabilities | None = None
        self._voice: ClassProbabilities | None = None
        self._voice_ns = 0
        self.use_level(level, engines)

    def use_level(self, level: Level, engines: Mapping[str, Engine]) -> None:
        """Switch the level. `engines` are the same networks, at the level's precision."""
        self._engines = engines
        self._hears = level.voice and "voice" in engines
        self._hop_ns = level.voice_hop_ms * 1_000_000
        self._voice_due_ns: int | None = None

    def is_voice_due(self, t_ns: int) -> bool:
        """Return whether the voice network is to run on the window that ends at `t_ns`."""
        return self._hears and (self._voice_due_ns is None or t_ns >= self._voice_due_ns)

    def update_face(self, t_ns: int, outputs: Arrays | None) -> None:
        """Take the face network's outputs for the frame captured at `t_ns`; None without a face.

        A frame without a face clears the stored faces: the next face may be another person's.
        """
        self._face = None if outputs is None else self._calibrate("face", outputs)
        if self._memory is not None:
            if outputs is not None and self._face is not None:
                self._memory.add_face(t_ns, outputs["embedding"])
            else:
                self._memory.clear_faces()

    def update_voice(self, t_ns: int, outputs: Arrays | None) -> None:
        """Take the voice network's outputs for the window due at `t_ns`; None without speech."""
        due_ns = t_ns if self._voice_due_ns is None else self._voice_due_ns
        self._voice_due_ns = max(due_ns + self._hop_ns, t_ns + self._hop_ns // 2)
        self._voice = None if outputs is None else self._calibrate("voice", outputs)
        self._voice_ns = t_ns
        if self._memory is not None:
            if outputs is not None and self._voice is not None:
                self._memory.set_voice(outputs["embedding"])
            else:
                self._memory.clear_voice()

    def estimate(self, t_ns: int) -> Prediction:
        """Fuse the face of `t_ns`, if there is one, with the last voice while it is fresh."""
        face, self._face = self._face, None
        if t_ns - self._voice_ns > MAX_VOICE_AGE_NS:
            self.drop_voice()
        if face is None and self._memory is not None:
            self._memory.expire_faces(t_ns)
        if face is None and self._voice is None:
            return Prediction(None, 0.0, True, [], dict.fromkeys(MODALITIES, 0.0), None, None)
        fused, weights = self._fuse(t_ns, face, self._voice)
        smooth = self._smoother.update(t_ns, fused)
        confidence = max(smooth)
        abstained = confidence < self._abstain_below
        label = None if abstained else self._labels[smooth.index(confidence)]
        return Prediction(label, confidence, abstained, smooth, weights, face, self._voice)

    def wipe(self) -> None:
        """Overwrite what is stored of faces and voices."""
        self._face = self._voice = None
        if self._memory is not None:
            self._memory.wipe()

    def drop_voice(self) -> None:
        """Forget the last voice: it is old, or its speaker is silent."""
        if self._voice is not None:
            self._voice = None
            if self._memory is not None:
                self._memory.clear_voice()

    def _fuse(
        self, t_ns: int, face: ClassProbabilities | None, voice: ClassProbabilities | None
    ) -> tuple[ClassProbabilities, dict[str, float]]:
        """The fusion network's result; late fusion without that network or on its NaN."""
        if self._memory is not None:
            feed = self._memory.feed(t_ns, face=face is not None, voice=voice is not None)
            outputs = self._engines[FUSION].infer(feed)
            fused = self._calibrate(FUSION, outputs)
            if fused is not None:
                face_weight, voice_weight = outputs["weights"][0].tolist()
                return fused, {
                    "face": 0.0 if face is None else face_weight,
                    "voice": 0.0 if voice is None else voice_weight,
                }
            self._memory.clear_faces()  # one of them may be the cause
        return fuse_late(face, voice, self._weights)

    def _calibrate(self, network: str, outputs: Arrays) -> ClassProbabilities | None:
        """Calibrated class probabilities; None, and counted, when an output is not finite.

        Finite logits mean a finite embedding: the logits are computed from it.
        """
        probabilities = calibrate_one(outputs["logits"][0].tolist(), self._temperatures[network])
        check = probabilities[0]
        if network == FUSION:
            check += sum(outputs["weights"][0].tolist())
        if math.isfinite(check):
            return probabilities
        self.non_finite_outputs[network] += 1
        if self.non_finite_outputs[network] == 1:
            log.warning("the %s network gave a NaN; such outputs are ignored", network)
        return None


class Smoother:
    """Exponential mean over time. A `time_constant_s` of 0 switches it off."""

    RESET_S = 2.0
    """After so long without face and voice the mean starts again: it may be another person."""

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_ns = time_constant_s * 1e9
        self._mean: ClassProbabilities | None = None
        self._last_ns = 0

    def update(self, t_ns: int, probabilities: ClassProbabilities) -> ClassProbabilities:
        """Return the mean up to `t_ns`, which must not decrease from call to call."""
        elapsed_ns = t_ns - self._last_ns
        self._last_ns = t_ns
        if self._mean is None or elapsed_ns > self.RESET_S * 1e9 or self._time_constant_ns <= 0:
            self._mean = list(probabilities)
        else:
            keep = math.exp(-max(0, elapsed_ns) / self._time_constant_ns)
            self._mean = [
                keep * old + (1 - keep) * new
                for old, new in zip(self._mean, probabilities, strict=True)
            ]
        return self._mean


def calibrate(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return the softmax of logits (..., 7) / temperature, for many rows at once."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def calibrate_one(logits: Sequence[float], temperature: float) -> ClassProbabilities:
    """Return the softmax of one row of logits / temperature; all NaN if a logit is not finite."""
    highest = max(logits)
    if not math.isfinite(sum(logits)):
        return [math.nan] * len(logits)
    raised = [math.exp((logit - highest) / temperature) for logit in logits]
    total = sum(raised)
    return [value / total for value in raised]


def fuse_late(
    face: ClassProbabilities | None,
    voice: ClassProbabilities | None,
    weights: Mapping[str, float],
) -> tuple[ClassProbabilities, dict[str, float]]:
    """Return the weighted mean of the class probabilities, and each modality's share of it.

    At least one must be given. The shares of those given sum to 1, a missing modality's is 0.
    """
    given = {"face": face, "voice": voice}
    total = sum(weights[name] for name, row in given.items() if row is not None)
    shares = {
        name: weights[name] / total if row is not None else 0.0 for name, row in given.items()
    }
    rows = [[shares[name] * p for p in row] for name, row in given.items() if row is not None]
    return [sum(column) for column in zip(*rows, strict=True)], shares

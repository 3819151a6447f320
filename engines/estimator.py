"""Fusion of face and voice into one prediction, the same on the device and in evaluation.

In: outputs of the face and voice networks with their capture times. Out: a `Prediction`. The
estimator holds all state between two estimates: stored embeddings, the last voice, the time of the
next voice window and the smoothed probabilities. It reads no clock and no camera.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .base import Arrays, Engine
from .bundles import FUSION, MODALITIES, Level, Manifest
from .embeddings import FaceMemory, FusionInput
from .probabilities import ClassProbabilities, Smoother, calibrate_one, fuse_late

log = logging.getLogger(__name__)

MAX_AUDIO_AGE_NS = 1_000_000_000
"""Audio that ended longer ago than this is not fused with a frame."""
MAX_VOICE_AGE_NS = 1_000_000_000
"""Class probabilities of a voice older than this are not fused with a new face."""


@dataclass(frozen=True, slots=True)
class FacePrediction:
    """The apparent emotion of one face at one moment."""

    id: str
    label: str | None
    """None when abstained."""
    confidence: float
    """Probability of the most likely label; 0 without any."""
    probabilities: ClassProbabilities
    """Smoothed; of the main face fused with the voice. Empty where the network gave none."""


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
    """Of the main face alone; None when it is missing."""
    voice: ClassProbabilities | None
    faces: tuple[FacePrediction, ...] = ()
    """Of each face, the main one first."""


class _Person:
    """What is stored of one face while it is followed."""

    def __init__(self, memory: FaceMemory | None) -> None:
        self.memory = memory
        self.smoother = Smoother(0.0)
        self.face: ClassProbabilities | None = None
        """Of the newest frame."""

    def wipe(self) -> None:
        self.face = None
        if self.memory is not None:
            self.memory.clear()


class _Row(NamedTuple):
    """One result to compute: a face, or the voice alone."""

    id: str | None
    """None for the voice alone."""
    face: ClassProbabilities | None
    voice: ClassProbabilities | None
    memory: FaceMemory | None
    smoother: Smoother


class Estimator:
    """Turns network outputs into predictions. For one thread.

    For each moment call, in this order: `update_faces` if there is a frame, `update_voice` if
    `is_voice_due`, else `drop_voice` if there is no speech any more, then `estimate`. Each face has
    its own smoothing and its own stored embeddings. The main one is fused with the voice.
    """

    def __init__(
        self,
        manifest: Manifest,
        engines: Mapping[str, Engine],
        level: Level,
        smoothing_s: float = 0.0,
        max_faces: int = 1,
    ) -> None:
        """`engines` by network. With the "fusion" network it fuses embeddings, without it class
        probabilities are averaged. `max_faces` is the most faces in one frame."""
        self.non_finite_outputs = dict.fromkeys(engines, 0)
        """Outputs with a NaN or an infinity, by network. They are ignored."""
        self._labels = manifest.labels
        self._abstain_below = manifest.abstain_below
        self._weights = {
            name: manifest.models[name].fusion_weight for name in MODALITIES if name in engines
        }
        self._temperatures = {name: manifest.networks[name].temperature for name in engines}
        self._smoothing_s = smoothing_s
        self._smoother = Smoother(smoothing_s)
        """That of the main face, which goes on while only the voice is there."""
        self._fusion_input: FusionInput | None = None
        num_faces = 0
        if manifest.fusion is not None and FUSION in engines:
            num_faces = manifest.fusion.num_faces
            self._fusion_input = FusionInput(num_faces, max_faces)
        self._free = [
            _Person(FaceMemory(num_faces) if num_faces else None) for _ in range(max_faces)
        ]
        self._people: dict[str, _Person] = {}
        """By id, the main one first."""
        self._main_id: str | None = None
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

    def update_faces(self, t_ns: int, ids: Sequence[str], outputs: Arrays | None) -> None:
        """Take the face network's outputs for the frame captured at `t_ns`: a row for each id, the
        main face first; None without a face.

        What is stored of a face that is not among them is overwritten at once.
        """
        gone = [face_id for face_id in self._people if face_id not in ids]
        for face_id in gone:
            person = self._people.pop(face_id)
            person.wipe()
            self._free.append(person)
        if gone and self._fusion_input is not None:
            self._fusion_input.clear_faces()
        known = self._people
        self._people = {
            face_id: known.get(face_id) or self._add_person(face_id, face_id == ids[0])
            for face_id in ids
        }
        if outputs is None:
            return
        for row, (face_id, person) in enumerate(self._people.items()):
            if row == 0 and face_id != self._main_id:
                self._main_id, self._smoother = face_id, person.smoother
            person.face = self._calibrate("face", outputs, row)
            if person.memory is None:
                continue
            if person.face is None:
                person.memory.clear()
            else:
                person.memory.add(t_ns, outputs["embedding"][row])

    def _add_person(self, face_id: str, is_main: bool) -> _Person:
        person = self._free.pop()
        # A main face that was away for a moment goes on where it was.
        goes_on = is_main and self._main_id in (None, face_id)
        person.smoother = self._smoother if goes_on else Smoother(self._smoothing_s)
        return person

    def update_voice(self, t_ns: int, outputs: Arrays | None) -> None:
        """Take the voice network's outputs for the window due at `t_ns`; None without speech."""
        due_ns = t_ns if self._voice_due_ns is None else self._voice_due_ns
        self._voice_due_ns = max(due_ns + self._hop_ns, t_ns + self._hop_ns // 2)
        self._voice = None if outputs is None else self._calibrate("voice", outputs)
        self._voice_ns = t_ns
        if self._fusion_input is not None:
            if outputs is not None and self._voice is not None:
                self._fusion_input.set_voice(outputs["embedding"][0])
            else:
                self._fusion_input.clear_voice()

    def estimate(self, t_ns: int) -> Prediction:
        """Fuse the main face of `t_ns`, if there is one, with the last voice while it is fresh."""
        if t_ns - self._voice_ns > MAX_VOICE_AGE_NS:
            self.drop_voice()
        voice = self._voice
        rows: list[_Row] = []
        for number, (face_id, person) in enumerate(self._people.items()):
            if person.face is not None:
                heard = voice if number == 0 else None
                rows.append(_Row(face_id, person.face, heard, person.memory, person.smoother))
                person.face = None
        main = next(iter(self._people), None)
        if voice is not None and (not rows or rows[0].id != main):
            rows.insert(0, _Row(None, None, voice, None, self._smoother))
        if all(row.memory is None for row in rows):
            self._expire_faces(t_ns)
        results = self._fuse(t_ns, rows) if rows else []
        estimates = {}
        for row, (fused, _) in zip(rows, results, strict=True):
            estimates[row.id] = self._name_best(row.id or "", row.smoother.update(t_ns, fused))
        nothing = FacePrediction("", None, 0.0, [])
        faces = tuple(
            estimates.get(face_id) or replace(nothing, id=face_id) for face_id in self._people
        )
        has_main = bool(rows) and rows[0].id in (None, main)
        result = estimates[rows[0].id] if has_main else nothing
        return Prediction(
            result.label,
            result.confidence,
            result.label is None,
            result.probabilities,
            results[0][1] if has_main else dict.fromkeys(MODALITIES, 0.0),
            rows[0].face if has_main else None,
            voice,
            faces,
        )

    def wipe(self) -> None:
        """Overwrite what is stored of faces and voices."""
        self._voice = None
        for person in self._people.values():
            person.wipe()
        if self._fusion_input is not None:
            self._fusion_input.wipe()

    def drop_voice(self) -> None:
        """Forget the last voice: it is old, or its speaker is silent."""
        if self._voice is not None:
            self._voice = None
            if self._fusion_input is not None:
                self._fusion_input.clear_voice()

    def _expire_faces(self, t_ns: int) -> None:
        """Overwrite what is too old of faces that no fusion reads now."""
        memories = [person.memory for person in self._people.values()]
        expired = [memory.expire(t_ns) for memory in memories if memory is not None]
        if self._fusion_input is not None and any(expired):
            self._fusion_input.clear_faces()

    def _name_best(self, face_id: str, probabilities: ClassProbabilities) -> FacePrediction:
        confidence = max(probabilities)
        label = self._labels[probabilities.index(confidence)]
        if confidence < self._abstain_below:
            return FacePrediction(face_id, None, confidence, probabilities)
        return FacePrediction(face_id, label, confidence, probabilities)

    def _fuse(
        self, t_ns: int, rows: Sequence[_Row]
    ) -> list[tuple[ClassProbabilities, dict[str, float]]]:
        """The fusion network's result and weights for each row; late fusion without that network
        or on its NaN."""
        if self._fusion_input is None:
            return [fuse_late(row.face, row.voice, self._weights) for row in rows]
        has_voice = rows[0].voice is not None
        feed = self._fusion_input.fill(t_ns, [row.memory for row in rows], has_voice)
        outputs = self._engines[FUSION].infer(feed)
        results = []
        for number, row in enumerate(rows):
            fused = self._calibrate(FUSION, outputs, number)
            if fused is None:
                if row.memory is not None:
                    row.memory.clear()  # one of its embeddings may be the cause
                self._fusion_input.clear_faces()
                results.append(fuse_late(row.face, row.voice, self._weights))
                continue
            face_weight, voice_weight = outputs["weights"][number].tolist()
            weights = {
                "face": 0.0 if row.face is None else face_weight,
                "voice": 0.0 if row.voice is None else voice_weight,
            }
            results.append((fused, weights))
        return results

    def _calibrate(self, network: str, outputs: Arrays, row: int = 0) -> ClassProbabilities | None:
        """Calibrated class probabilities; None, and counted, when an output is not finite.

        Finite logits mean a finite embedding: the logits are computed from it.
        """
        logits = outputs["logits"][row].tolist()
        probabilities = calibrate_one(logits, self._temperatures[network])
        check = probabilities[0]
        if network == FUSION:
            check += sum(outputs["weights"][row].tolist())
        if math.isfinite(check):
            return probabilities
        self.non_finite_outputs[network] += 1
        if self.non_finite_outputs[network] == 1:
            log.warning("the %s network gave a NaN; such outputs are ignored", network)
        return None

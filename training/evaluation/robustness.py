"""What a bundle is put through to see how it holds up: every condition spoils faces and sound as
they were captured, before any preprocessing, and says how strongly.

In: a modality, noises and rooms. Out: conditions, each a function from material to material.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ...engines.bundles import FUSION
from ..augment import (
    Audio,
    add_noise,
    blur_image,
    compress_image,
    darken_image,
    occlude_image,
    reverberate,
)
from .material import ExampleMedia, Face
from .networks import Networks, read_voice
from .surroundings import AcousticConditions

SNRS_DB = (20, 15, 10, 5, 0, -5)
EXPOSURE_DROPS_STOPS = (2, 4, 6)
BLUR_FRACTIONS = (0.01, 0.02, 0.04)
JPEG_QUALITIES = (50, 20, 10)
OCCLUDED_FRACTIONS = (0.1, 0.25, 0.5)

Corruption = Callable[[ExampleMedia, np.random.Generator], ExampleMedia]


@dataclass(frozen=True, slots=True)
class Condition:
    """One way to spoil an example, at one strength."""

    name: str
    strength: float
    unit: str
    corrupt: Corruption


CLEAN = Condition("clean", 0.0, "", lambda material, _: material)


def list_conditions(
    modality: str, surroundings: AcousticConditions, sample_rate_hz: int
) -> list[Condition]:
    """All that can befall a modality, without `CLEAN`."""
    found: list[Condition] = []
    if modality in ("voice", FUSION):
        found += _list_audio_corruptions(surroundings, sample_rate_hz)
    if modality in ("face", FUSION):
        found += _list_image_corruptions()
    if modality == FUSION:
        found += [
            Condition("face missing", 1.0, "", lambda material, _: replace(material, faces=())),
            Condition("voice missing", 1.0, "", lambda material, _: replace(material, audio=None)),
        ]
    return found


def _list_audio_corruptions(
    surroundings: AcousticConditions, sample_rate_hz: int
) -> list[Condition]:
    def noisy(noises: Sequence[Audio], snr_db: float, audio: Audio, rng: Any) -> Audio:
        noise = noises[int(rng.integers(len(noises)))]
        return add_noise(audio, noise, snr_db, sample_rate_hz, rng)

    def in_room(rooms: Sequence[Audio], audio: Audio, rng: Any) -> Audio:
        return reverberate(audio, rooms[int(rng.integers(len(rooms)))], sample_rate_hz)

    return [
        Condition(name, snr_db, "dB SNR", _on_audio(partial(noisy, noises, snr_db)))
        for name, noises in surroundings.noises.items()
        for snr_db in SNRS_DB
    ] + [
        Condition("reverberation", rt60_s, "s RT60", _on_audio(partial(in_room, rooms)))
        for rt60_s, rooms in surroundings.rooms.items()
    ]


def _list_image_corruptions() -> list[Condition]:
    def darken(stops: float, face: Face, rng: np.random.Generator) -> Face:
        return replace(face, image=darken_image(face.image, stops, rng))

    def blur(share: float, face: Face, _: np.random.Generator) -> Face:
        return replace(face, image=blur_image(face.image, share * face.box[2]))

    def compress(quality: int, face: Face, _: np.random.Generator) -> Face:
        return replace(face, image=compress_image(face.image, quality))

    def occlude(share: float, face: Face, rng: np.random.Generator) -> Face:
        return replace(face, image=occlude_image(face.image, face.box, share, rng))

    return [
        *(
            Condition("low light", n, "stops", _on_faces(partial(darken, n)))
            for n in EXPOSURE_DROPS_STOPS
        ),
        *(
            Condition("blur", 100 * share, "% of the face", _on_faces(partial(blur, share)))
            for share in BLUR_FRACTIONS
        ),
        *(
            Condition("JPEG", quality, "quality", _on_faces(partial(compress, quality)))
            for quality in JPEG_QUALITIES
        ),
        *(
            Condition("occlusion", 100 * share, "% covered", _on_faces(partial(occlude, share)))
            for share in OCCLUDED_FRACTIONS
        ),
    ]


def _on_audio(change: Callable[[Audio, np.random.Generator], Audio]) -> Corruption:
    def corrupt(material: ExampleMedia, rng: np.random.Generator) -> ExampleMedia:
        if material.audio is None:
            return material
        return replace(material, audio=change(material.audio, rng))

    return corrupt


def _on_faces(change: Callable[[Face, np.random.Generator], Face]) -> Corruption:
    def corrupt(material: ExampleMedia, rng: np.random.Generator) -> ExampleMedia:
        # One clip has one hand before one place of the face: the same chance for each picture.
        seed = int(rng.integers(2**32))
        changed = (change(face, np.random.default_rng(seed)) for face in material.faces)
        return replace(material, faces=tuple(changed))

    return corrupt


def evaluate_noise(networks: Networks, surroundings: AcousticConditions) -> list[dict[str, Any]]:
    """What the voice network says when nobody speaks, by kind of noise: mean of the highest
    probability, mean entropy in nats (at most ln 7 = 1.95), and the share of windows whose highest
    probability is under the bundle's `abstain_below`. The device asks its speech gate before."""
    rows = []
    for name, noises in surroundings.noises.items():
        answers = [read_voice(networks, noise) for noise in noises]
        probabilities = np.concatenate(answers)
        if not len(probabilities):
            continue
        surest = probabilities.max(axis=1)
        entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1)
        rows.append(
            {
                "noise": name,
                "max_probability": float(surest.mean()),
                "entropy_nats": float(entropy.mean()),
                "abstained": float((surest < networks.manifest.abstain_below).mean()),
                "n": len(probabilities),
            }
        )
    return rows

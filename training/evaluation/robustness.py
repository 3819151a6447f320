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

from ...engines.bundle import FUSION
from ..distort import (
    Sound,
    add_noise,
    blur_picture,
    compress_picture,
    cover_picture,
    dim_picture,
    reverberate,
)
from .judges import Networks, read_voice
from .material import Face, Material
from .surroundings import Surroundings

SNRS_DB = (20, 15, 10, 5, 0, -5)
STOPS_DARKER = (2, 4, 6)
BLUR_SHARES = (0.01, 0.02, 0.04)
JPEG_QUALITIES = (50, 20, 10)
COVERED_SHARES = (0.1, 0.25, 0.5)

Spoil = Callable[[Material, np.random.Generator], Material]


@dataclass(frozen=True, slots=True)
class Condition:
    """One way to spoil an example, at one strength."""

    name: str
    strength: float
    unit: str
    spoil: Spoil


CLEAN = Condition("clean", 0.0, "", lambda material, _: material)


def list_conditions(
    modality: str, surroundings: Surroundings, sample_rate_hz: int
) -> list[Condition]:
    """All that can befall a modality, without `CLEAN`."""
    found: list[Condition] = []
    if modality in ("voice", FUSION):
        found += _list_sound(surroundings, sample_rate_hz)
    if modality in ("face", FUSION):
        found += _list_sight()
    if modality == FUSION:
        found += [
            Condition("face missing", 1.0, "", lambda material, _: replace(material, faces=())),
            Condition("voice missing", 1.0, "", lambda material, _: replace(material, sound=None)),
        ]
    return found


def _list_sound(surroundings: Surroundings, sample_rate_hz: int) -> list[Condition]:
    def noisy(noises: Sequence[Sound], snr_db: float, sound: Sound, rng: Any) -> Sound:
        noise = noises[int(rng.integers(len(noises)))]
        return add_noise(sound, noise, snr_db, sample_rate_hz, rng)

    def in_room(rooms: Sequence[Sound], sound: Sound, rng: Any) -> Sound:
        return reverberate(sound, rooms[int(rng.integers(len(rooms)))], sample_rate_hz)

    return [
        Condition(name, snr_db, "dB SNR", _on_sound(partial(noisy, noises, snr_db)))
        for name, noises in surroundings.noises.items()
        for snr_db in SNRS_DB
    ] + [
        Condition("reverberation", rt60_s, "s RT60", _on_sound(partial(in_room, rooms)))
        for rt60_s, rooms in surroundings.rooms.items()
    ]


def _list_sight() -> list[Condition]:
    def dim(stops: float, face: Face, rng: np.random.Generator) -> Face:
        return replace(face, picture=dim_picture(face.picture, stops, rng))

    def blur(share: float, face: Face, _: np.random.Generator) -> Face:
        return replace(face, picture=blur_picture(face.picture, share * face.box[2]))

    def compress(quality: int, face: Face, _: np.random.Generator) -> Face:
        return replace(face, picture=compress_picture(face.picture, quality))

    def cover(share: float, face: Face, rng: np.random.Generator) -> Face:
        return replace(face, picture=cover_picture(face.picture, face.box, share, rng))

    return [
        *(Condition("low light", n, "stops", _on_faces(partial(dim, n))) for n in STOPS_DARKER),
        *(
            Condition("blur", 100 * share, "% of the face", _on_faces(partial(blur, share)))
            for share in BLUR_SHARES
        ),
        *(
            Condition("JPEG", quality, "quality", _on_faces(partial(compress, quality)))
            for quality in JPEG_QUALITIES
        ),
        *(
            Condition("occlusion", 100 * share, "% covered", _on_faces(partial(cover, share)))
            for share in COVERED_SHARES
        ),
    ]


def _on_sound(change: Callable[[Sound, np.random.Generator], Sound]) -> Spoil:
    def spoil(material: Material, rng: np.random.Generator) -> Material:
        if material.sound is None:
            return material
        return replace(material, sound=change(material.sound, rng))

    return spoil


def _on_faces(change: Callable[[Face, np.random.Generator], Face]) -> Spoil:
    def spoil(material: Material, rng: np.random.Generator) -> Material:
        # One clip has one hand before one place of the face: the same chance for each picture.
        seed = int(rng.integers(2**32))
        changed = (change(face, np.random.default_rng(seed)) for face in material.faces)
        return replace(material, faces=tuple(changed))

    return spoil


def judge_noise(networks: Networks, surroundings: Surroundings) -> list[dict[str, Any]]:
    """What the voice network says when nobody speaks, by kind of noise: mean of the highest
    probability, mean entropy in nats (at most ln 7 = 1.95), and the share of windows whose highest
    probability is under the bundle's `abstain_below`. The device asks its speech gate before."""
    rows = []
    for name, noises in surroundings.noises.items():
        answers = [read_voice(networks, noise).probabilities for noise in noises]
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

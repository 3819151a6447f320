"""Corruptions of faces and audio as captured, before any preprocessing, at several strengths.

In: a modality, noises and rooms. Out: conditions, each a function from example to example.
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
from .acoustics import AcousticConditions
from .material import ExampleMedia, Face
from .networks import Networks, read_voice

SNRS_DB = (20, 15, 10, 5, 0, -5)
EXPOSURE_DROPS_STOPS = (2, 4, 6)
BLUR_FRACTIONS = (0.01, 0.02, 0.04)
JPEG_QUALITIES = (50, 20, 10)
OCCLUDED_FRACTIONS = (0.1, 0.25, 0.5)

Corruption = Callable[[ExampleMedia, np.random.Generator], ExampleMedia]


@dataclass(frozen=True, slots=True)
class Condition:
    """One corruption at one strength."""

    name: str
    strength: float
    unit: str
    corrupt: Corruption


CLEAN = Condition("clean", 0.0, "", lambda media, _: media)


def list_conditions(
    modality: str, acoustics: AcousticConditions, sample_rate_hz: int
) -> list[Condition]:
    """Return all conditions for a modality, without `CLEAN`."""
    conditions: list[Condition] = []
    if modality in ("voice", FUSION):
        conditions += _list_audio_corruptions(acoustics, sample_rate_hz)
    if modality in ("face", FUSION):
        conditions += _list_image_corruptions()
    if modality == FUSION:
        conditions += [
            Condition("face missing", 1.0, "", lambda media, _: replace(media, faces=())),
            Condition("voice missing", 1.0, "", lambda media, _: replace(media, audio=None)),
        ]
    return conditions


def _list_audio_corruptions(acoustics: AcousticConditions, sample_rate_hz: int) -> list[Condition]:
    def noisy(noises: Sequence[Audio], snr_db: float, audio: Audio, rng: Any) -> Audio:
        noise = noises[int(rng.integers(len(noises)))]
        return add_noise(audio, noise, snr_db, sample_rate_hz, rng)

    def in_room(rooms: Sequence[Audio], audio: Audio, rng: Any) -> Audio:
        return reverberate(audio, rooms[int(rng.integers(len(rooms)))], sample_rate_hz)

    return [
        Condition(name, snr_db, "dB SNR", _on_audio(partial(noisy, noises, snr_db)))
        for name, noises in acoustics.noises.items()
        for snr_db in SNRS_DB
    ] + [
        Condition("reverberation", rt60_s, "s RT60", _on_audio(partial(in_room, rooms)))
        for rt60_s, rooms in acoustics.rooms.items()
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
    def corrupt(media: ExampleMedia, rng: np.random.Generator) -> ExampleMedia:
        if media.audio is None:
            return media
        return replace(media, audio=change(media.audio, rng))

    return corrupt


def _on_faces(change: Callable[[Face, np.random.Generator], Face]) -> Corruption:
    def corrupt(media: ExampleMedia, rng: np.random.Generator) -> ExampleMedia:
        # An occlusion stays at one place through a clip: the same random numbers for each frame.
        seed = int(rng.integers(2**32))
        changed = (change(face, np.random.default_rng(seed)) for face in media.faces)
        return replace(media, faces=tuple(changed))

    return corrupt


def evaluate_noise(networks: Networks, acoustics: AcousticConditions) -> list[dict[str, Any]]:
    """Score the voice network on noise without speech. Return a row for each kind of noise.

    A row has the mean of the highest probability, the mean entropy in nats (at most the logarithm
    of the number of labels, 1.95 of seven), and the share of windows whose highest probability is
    under the bundle's `abstain_below`. On the device the speech detector comes before the network.
    """
    rows = []
    for name, noises in acoustics.noises.items():
        windows = [read_voice(networks, noise) for noise in noises]
        probabilities = np.concatenate(windows)
        if not len(probabilities):
            continue
        highest = probabilities.max(axis=1)
        entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1)
        rows.append(
            {
                "noise": name,
                "max_probability": float(highest.mean()),
                "entropy_nats": float(entropy.mean()),
                "abstained": float((highest < networks.manifest.abstain_below).mean()),
                "n": len(probabilities),
            }
        )
    return rows

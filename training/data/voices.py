"""Voice recordings in memory: audio at the network's rate, with emotion and actor.

In: clips of RAVDESS. Out: a `VoiceSet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...kernels.channel_mixer import DC_HZ
from ...kernels.spec import MelSpec
from ..errors import DatasetError
from .cache import FeatureCache
from .decode import Recipe, clip_sources, decode_all
from .media import decode_audio
from .ravdess import Clip

_FULL_SCALE = 32768.0
MIN_SECONDS = 0.1
"""A shorter recording holds no syllable."""
MIN_PEAK = 1e-3
"""Of full scale (-60 dB): a recording that stays below is silence."""


@dataclass(frozen=True, slots=True)
class VoiceSet:
    """N recordings."""

    audio_clips: list[NDArray[np.float32]]
    """Mono (n_i,) each, in -1..1."""
    labels: NDArray[np.int64]
    """(N,), index in the product's seven `LABELS`."""
    emotions: NDArray[np.int64]
    """(N,), index in `ravdess.EMOTIONS8`; -1 where it is unknown."""
    actors: NDArray[np.int64]
    """(N,), number of the speaker."""
    names: list[str]
    """File names without suffix."""
    skipped: int = 0
    """Recordings that cannot be decoded."""
    duplicates: int = 0
    """Recordings skipped because another one has the same samples and label."""

    def select(self, actors: Sequence[int]) -> VoiceSet:
        """Return the recordings of these actors; the counts of skipped files are not split."""
        index = np.flatnonzero(np.isin(self.actors, actors))
        return VoiceSet(
            [self.audio_clips[i] for i in index],
            self.labels[index],
            self.emotions[index],
            self.actors[index],
            [self.names[i] for i in index],
        )


def audio_recipe(spec: MelSpec) -> Recipe:
    """Decoder of a file -> int16 (n,) at the rate of `spec`. It refuses silence and files that are
    too short."""

    def decode(path: Path) -> NDArray[np.int16]:
        audio, _ = decode_audio(path, spec.sample_rate_hz)
        seconds = len(audio) / spec.sample_rate_hz
        if seconds < MIN_SECONDS:
            raise DatasetError(f"{path}: {seconds:.3f} s of sound, at least {MIN_SECONDS} s wanted")
        peak = float(np.ptp(audio)) / 2  # an offset of the sound card is no sound
        if peak < MIN_PEAK:
            raise DatasetError(f"{path}: silence: its peak is {peak:.1e} of full scale")
        scaled = np.round(audio * np.float32(_FULL_SCALE))
        return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)

    settings = {"sample_rate_hz": spec.sample_rate_hz, "dc_hz": DC_HZ}
    return Recipe("sounds", "recordings", settings, decode)


def to_float_audio(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Convert the result of `audio_recipe` -> (n,) in -1..1."""
    return pcm.astype(np.float32) / np.float32(_FULL_SCALE)


def load_voices(
    clips: Sequence[Clip], spec: MelSpec, cache: FeatureCache | None = None
) -> VoiceSet:
    """Decode the audio of each clip, in their order.

    A recording that cannot be decoded is logged and counted as skipped, one with the samples and
    emotion of another as a duplicate. Raises DatasetError when none can be decoded.
    """
    pairs, tally = decode_all(clip_sources(clips), audio_recipe(spec), cache)
    return VoiceSet(
        [to_float_audio(pcm) for _, pcm in pairs],
        np.array([source.label for source, _ in pairs], np.int64),
        np.array([source.emotion for source, _ in pairs], np.int64),
        np.array([source.actor for source, _ in pairs], np.int64),
        [source.name for source, _ in pairs],
        len(tally.problems),
        len(tally.duplicates),
    )

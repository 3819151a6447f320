"""Recordings in memory: sound at the network's rate, with what was expressed and by whom.

In: clips of RAVDESS, or sounds of a folder with a manifest. Out: a `VoiceSet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...kernels.spec import MelSpec
from .cache import FeatureCache
from .decode import Recipe, Source, clip_sources, decode_all, folder_sources
from .folder import FolderItem
from .media import decode_audio
from .ravdess import Clip

_FULL_SCALE = 32768.0


@dataclass(frozen=True, slots=True)
class VoiceSet:
    """N recordings."""

    audio_clips: list[NDArray[np.float32]]
    """Mono (n_i,) each, in -1..1."""
    labels: NDArray[np.int64]
    """(N,), index in the product's seven `LABELS`."""
    emotions: NDArray[np.int64]
    """(N,), index in `ravdess.EMOTIONS8`; -1 for other data sets."""
    actors: NDArray[np.int64]
    """(N,), who speaks."""
    names: list[str]
    """RAVDESS: file names without suffix. Folder: the manifest's names."""
    skipped: int = 0
    """Recordings that could not be read."""
    duplicates: int = 0
    """Recordings left out because another one has the same samples and label."""

    def select(self, actors: Sequence[int]) -> VoiceSet:
        """Only these people; what was skipped or left out is not told by person."""
        index = np.flatnonzero(np.isin(self.actors, actors))
        return VoiceSet(
            [self.audio_clips[i] for i in index],
            self.labels[index],
            self.emotions[index],
            self.actors[index],
            [self.names[i] for i in index],
        )


def audio_recipe(spec: MelSpec) -> Recipe:
    """A file -> int16 (n,) at the rate of `spec`."""

    def decode(path: Path) -> NDArray[np.int16]:
        audio, _ = decode_audio(path, spec.sample_rate_hz)
        scaled = np.round(audio * np.float32(_FULL_SCALE))
        return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)

    return Recipe("sounds", {"sample_rate_hz": spec.sample_rate_hz}, decode)


def load_voices(
    clips: Sequence[Clip], spec: MelSpec, cache: FeatureCache | None = None
) -> VoiceSet:
    """The sound of each clip, in their order. One that cannot be decoded is logged and counted,
    one with the samples and emotion of another is left out and counted.

    Raises DatasetError when none can be read.
    """
    return _load(clip_sources(clips), spec, cache)


def load_folder_voices(
    items: Sequence[FolderItem], root: Path, spec: MelSpec, cache: FeatureCache | None = None
) -> VoiceSet:
    """The same for the sounds among the items of `folder.load_folder(root)`."""
    audio_clips = [item for item in items if item.kind == "sound"]
    return _load(folder_sources(audio_clips, root), spec, cache)


def _load(sources: Sequence[Source], spec: MelSpec, cache: FeatureCache | None) -> VoiceSet:
    pairs, tally = decode_all(sources, audio_recipe(spec), cache, "recordings")
    return VoiceSet(
        [pcm.astype(np.float32) / np.float32(_FULL_SCALE) for _, pcm in pairs],
        np.array([source.label for source, _ in pairs], np.int64),
        np.array([source.emotion for source, _ in pairs], np.int64),
        np.array([source.actor for source, _ in pairs], np.int64),
        [source.name for source, _ in pairs],
        len(tally.problems),
        len(tally.duplicates),
    )

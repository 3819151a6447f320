"""The material of the voice-activity network: where its speech and its sounds come from.

In: folders. Out: `Scenes` for training and validation, stored in the work folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...kernels.spec import MelSpec
from ..augment import Audio, SceneMaterial, make_scenes
from ..data import (
    LANGUAGES,
    TEST_FOLDS,
    TRAINING_SOUND_FOLDS,
    SpeechClip,
    SpeechTeacher,
    esc_fold,
    find_voice_clips,
    list_audio_files,
    load_audio,
    mark_speech,
    remove_speech,
    synthesise_speech,
)
from ..errors import DatasetError
from .voice_activity import Scenes, VoiceActivityRecipe

log = logging.getLogger(__name__)

T = TypeVar("T")

TRAINING_ACTORS = tuple(actor for fold in TEST_FOLDS[1:] for actor in fold)
"""Actors of RAVDESS; those of the first fold are for evaluation."""
NOISE_GROUPS = 2
"""How much more often the sounds of ESC are drawn than those of a further folder."""
VALIDATION_EVERY = 10
"""Of each source every tenth recording is for validation."""
MAX_CLIP_S, MAX_SOUND_S = 10.0, 60.0


@dataclass(frozen=True, slots=True)
class VoiceActivitySources:
    """Folders of recordings."""

    teacher: Path
    """Silero's `silero_vad.onnx`."""
    ravdess: Path
    noise: Path
    """Sounds without speech in the layout of ESC."""
    speech: Sequence[Path] = ()
    """Further recordings of speech, a group each."""
    sounds: Sequence[Path] = ()
    """Further sounds: music, effects. What the teacher takes for speech is cut out."""


def prepare_scenes(
    sources: VoiceActivitySources, recipe: VoiceActivityRecipe, spec: MelSpec, work: Path
) -> tuple[Scenes, Scenes]:
    """Make the scenes for training and validation, or load those of an earlier start.

    Raises DatasetError for a folder without recordings.
    """
    stored = work / "scenes.npz"
    if not stored.exists():
        work.mkdir(parents=True, exist_ok=True)
        training, validation = load_material(sources, recipe, spec.sample_rate_hz)
        columns, marks = make_scenes(training, recipe.num_scenes, spec, recipe.seed)
        held_out = make_scenes(validation, recipe.num_validation, spec, recipe.seed + 1)
        parts = {"columns": columns, "marks": marks}
        parts |= {"held_out_columns": held_out[0], "held_out_marks": held_out[1]}
        with stored.with_suffix(".part").open("wb") as file:
            np.savez(file, **parts)  # type: ignore[arg-type]
        stored.with_suffix(".part").replace(stored)
    with np.load(stored) as arrays:
        scenes = Scenes(arrays["columns"], arrays["marks"])
        return scenes, Scenes(arrays["held_out_columns"], arrays["held_out_marks"])


def load_material(
    sources: VoiceActivitySources, recipe: VoiceActivityRecipe, rate_hz: int
) -> tuple[SceneMaterial, SceneMaterial]:
    """Load, mark and split all recordings -> for training, for validation."""
    teacher = SpeechTeacher(sources.teacher)
    actors = [clip.path for clip in find_voice_clips(sources.ravdess, TRAINING_ACTORS)]
    folders = {"ravdess": actors, **{str(path): list_audio_files(path) for path in sources.speech}}
    speech: list[list[SpeechClip]] = []
    for name, files in folders.items():
        speech.append(mark_speech(load_audio(files, MAX_CLIP_S), teacher))
        log.info("%s: %d recordings with speech", name, len(speech[-1]))
    if recipe.num_synthetic_clips:
        synthetic = list(
            synthesise_speech(LANGUAGES, recipe.num_synthetic_clips, recipe.seed, rate_hz)
        )
        speech.append(mark_speech(synthetic, teacher))
        log.info("espeak-ng: %d recordings with speech", len(speech[-1]))
    noises = [p for p in list_audio_files(sources.noise) if esc_fold(p) in TRAINING_SOUND_FOLDS]
    if not noises:
        raise DatasetError(f"{sources.noise}: no file of ESC's folds {TRAINING_SOUND_FOLDS}")
    sounds: list[list[Audio]] = [load_audio(noises, MAX_SOUND_S)]
    sounds *= NOISE_GROUPS
    for folder in sources.sounds:
        recordings = load_audio(list_audio_files(folder), MAX_SOUND_S)
        sounds.append(remove_speech(recordings, teacher))
        log.info("%s: %d of %d sounds without speech", folder, len(sounds[-1]), len(recordings))
    training = SceneMaterial(
        [_take(group, False) for group in speech], [_take(group, False) for group in sounds]
    )
    validation = SceneMaterial(
        [_take(group, True) for group in speech], [_take(group, True) for group in sounds]
    )
    return training, validation


def _take(group: list[T], validation: bool) -> list[T]:
    """Return a group's part for validation, or the rest; all of a small group."""
    part = [each for i, each in enumerate(group) if (i % VALIDATION_EVERY == 0) is validation]
    return part or list(group)

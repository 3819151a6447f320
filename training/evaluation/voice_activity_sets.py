"""The recordings on which voice activity is scored, none of which training has met.

In: the folders of a user. Out: the results of `evaluate_voice_activity`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...engines.bundles import Bundle
from ...engines.speech_tracker import SpeechTracker, open_speech_tracker
from ...engines.voice_activity import VoiceActivityDetector
from ..augment import Audio
from ..data import (
    HELD_OUT_LANGUAGES,
    TEST_FOLDS,
    TRAINING_SOUND_FOLDS,
    esc_fold,
    find_voice_clips,
    list_audio_files,
    load_audio,
    parse_clip,
    synthesise_speech,
)
from ..errors import DatasetError
from .voice_activity import MAX_S, evaluate_voice_activity, load_sounds

log = logging.getLogger(__name__)

HELD_OUT_ACTORS = TEST_FOLDS[0]
NUM_SYNTHETIC = 60
SYNTHETIC_SEED = 1_000_000
MIN_SYNTHETIC_S = 0.5
"""A shorter word, such as "7", is too little to read an emotion from."""


def score_voice_activity(
    bundle: Bundle,
    speech_dir: Path,
    noise_dir: Path,
    actors: Sequence[int] | None = None,
    network: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score the bundle's voice activity, or the file `network` with the default rule.

    `speech_dir` has recordings of RAVDESS, of which `actors` are used (default: those that
    training leaves out), or any others. `noise_dir` has sounds in a folder per class; of ESC's, the
    folds that training leaves out. Raises DatasetError.
    """
    tracker = _open_tracker(bundle, network)
    rate_hz = tracker.spec.sample_rate_hz
    sounds = load_sounds(list_unused_sounds(noise_dir))
    speech = {str(speech_dir): load_audio(list_speech(speech_dir, actors), MAX_S)}
    speech |= _synthesise(rate_hz)
    if not all(speech.values()):
        raise DatasetError(f"{speech_dir}: no readable recording")
    results = evaluate_voice_activity(tracker, speech, sounds, seed)
    return {
        **results,
        "bundle": bundle.sha256,
        "network": None if network is None else str(network),
    }


def _open_tracker(bundle: Bundle, network: Path | None) -> SpeechTracker:
    if network is not None:
        return SpeechTracker(VoiceActivityDetector(network), bundle.manifest.mel)
    tracker = open_speech_tracker(bundle)
    if tracker is None:
        raise DatasetError(f"{bundle.path}: no voice-activity network in it; --network names one")
    return tracker


def list_speech(folder: Path, actors: Sequence[int] | None) -> list[Path]:
    """List the recordings of RAVDESS by `actors` (default: those that training leaves out), or all
    audio files of another folder. Raises DatasetError."""
    files = list_audio_files(folder)
    if actors is None and not any(parse_clip(path) for path in files):
        return files
    return [clip.path for clip in find_voice_clips(folder, actors or HELD_OUT_ACTORS)]


def list_unused_sounds(folder: Path) -> list[Path]:
    """List the sounds that training leaves out: of ESC's some folds, of others all."""
    files = list_audio_files(folder)
    unused = [path for path in files if esc_fold(path) not in TRAINING_SOUND_FOLDS]
    if not unused:
        raise DatasetError(f"{folder}: training uses all of these sounds")
    return unused


def _synthesise(rate_hz: int) -> dict[str, list[Audio]]:
    """Speech in languages that training leaves out, if espeak-ng is installed."""
    if shutil.which("espeak-ng") is None:
        log.info("espeak-ng is not installed: no synthetic speech is scored")
        return {}
    clips = synthesise_speech(HELD_OUT_LANGUAGES, NUM_SYNTHETIC, SYNTHETIC_SEED, rate_hz)
    spoken = [clip for clip in clips if len(clip) >= MIN_SYNTHETIC_S * rate_hz]
    return {f"espeak-ng {', '.join(HELD_OUT_LANGUAGES)}": spoken}

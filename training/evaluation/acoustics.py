"""Noises and rooms in which a bundle's voice network is scored.

In: folders of audio files, or none. Out: `AcousticConditions`, audio at the log-mel's rate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..augment import Audio, cut_silence, make_noise, make_response, measure_rt60
from ..data import SUFFIXES, decode_audio, is_for_training
from ..errors import DatasetError

log = logging.getLogger(__name__)

RT60S_S = (0.3, 0.6, 1.0)
MAX_NOISES = 200
"""Files used of a folder of noises. Of a larger folder a random sample is drawn, for memory."""
MAX_NOISE_S = 30
MADE_NOISE_S = 10
NOISE_LEVEL = 0.03
"""Root mean square of the synthetic noises when played alone: -30 dB of full scale."""


@dataclass(frozen=True, slots=True)
class AcousticConditions:
    """Noises and impulse responses."""

    noises: Mapping[str, Sequence[Audio]]
    """By the name of their condition."""
    rooms: Mapping[float, Sequence[Audio]]
    """Impulse responses by their reverberation time in seconds."""


def load_acoustic_conditions(
    noise_dir: Path | None, response_dir: Path | None, sample_rate_hz: int, seed: int
) -> AcousticConditions:
    """Load the folders' audio files, see `list_noises`. Without a folder: white and pink noise, and
    three synthetic rooms. Raises DatasetError when a folder holds no audio."""
    rng = np.random.default_rng(seed)
    if noise_dir is None:
        count = MADE_NOISE_S * sample_rate_hz
        noises = {
            f"{color} noise": [make_noise(color, count, rng) * np.float32(NOISE_LEVEL)]
            for color in ("white", "pink")
        }
    else:
        files = list_noises(noise_dir, response_dir)
        if len(files) > MAX_NOISES:
            log.info("%s: %d of %d files are used", noise_dir, MAX_NOISES, len(files))
            files = [files[i] for i in rng.permutation(len(files))[:MAX_NOISES]]
        audio_clips = (
            audio[: MAX_NOISE_S * sample_rate_hz] for audio in _load(files, sample_rate_hz)
        )
        audible = [cut_silence(audio, sample_rate_hz) for audio in audio_clips]
        audible = [audio for audio in audible if len(audio)]
        noises = {"noise": _require_audio(audible, noise_dir, "--noise")}
    if response_dir is None:
        rooms = {rt60_s: [make_response(rt60_s, sample_rate_hz, rng)] for rt60_s in RT60S_S}
    else:
        files = list_audio_files(response_dir, "--impulse-responses")
        responses = [audio for audio in _load(files, sample_rate_hz) if audio.any()]
        _require_audio(responses, response_dir, "--impulse-responses")
        times = [measure_rt60(response, sample_rate_hz) for response in responses]
        rooms = {round(float(np.median(times)), 2): responses}
    return AcousticConditions(noises, rooms)


def list_noises(folder: Path, excluded: Path | None) -> list[Path]:
    """List the noises of a folder that training does not use, without those under `excluded`.

    All are listed when none is left so. Raises DatasetError.
    """
    root = None if excluded is None else excluded.resolve()

    def is_noise(path: Path) -> bool:
        return root is None or not path.resolve().is_relative_to(root)

    files = list_audio_files(folder, "--noise")
    unused = [path for place, path in enumerate(files) if not is_for_training(path, place)]
    if not any(map(is_noise, unused)):
        log.warning("%s: training uses all files, so all are used here too", folder)
        unused = files
    return [path for path in unused if is_noise(path)]


def list_audio_files(folder: Path, option: str) -> list[Path]:
    """List the audio files under `folder`, by name. Raises DatasetError."""
    if not folder.is_dir():
        raise DatasetError(f"{option} {folder}: no such folder")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise DatasetError(f"{option} {folder}: no audio file ({', '.join(SUFFIXES)})")
    return files


def _load(files: Iterable[Path], sample_rate_hz: int) -> Iterable[Audio]:
    for path in files:
        try:
            yield decode_audio(path, sample_rate_hz)[0]
        except DatasetError as error:
            log.warning("left out: %s", error)


def _require_audio(audio_clips: list[Audio], folder: Path, option: str) -> list[Audio]:
    if not audio_clips:
        raise DatasetError(f"{option} {folder}: all its files are silent or unreadable")
    return audio_clips

"""Noises and rooms to hear a bundle's voice network in.

In: folders of sounds, or none. Out: `AcousticConditions`, sounds at the rate of the mel.
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
"""Files taken from a folder of noises; a larger one is drawn from, so that it fits in memory."""
MAX_NOISE_S = 30
MADE_NOISE_S = 10
NOISE_LEVEL = 0.03
"""Root mean square of the noises made here, played alone: -30 dB of full scale."""


@dataclass(frozen=True, slots=True)
class AcousticConditions:
    """`noises`: sounds by the name of their condition; `rooms`: impulse responses by their
    reverberation time in seconds."""

    noises: Mapping[str, Sequence[Audio]]
    rooms: Mapping[float, Sequence[Audio]]


def load_acoustic_conditions(
    noise_dir: Path | None, response_dir: Path | None, sample_rate_hz: int, seed: int
) -> AcousticConditions:
    """Sounds of the folders, searched to the bottom, see `list_noises`; where no folder is
    given, white and pink noise and three synthetic rooms. Raises DatasetError when a folder holds
    no sound."""
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
        heard = [cut_silence(audio, sample_rate_hz) for audio in audio_clips]
        noises = {
            "noise": _require_audio([audio for audio in heard if len(audio)], noise_dir, "--noise")
        }
    if response_dir is None:
        rooms = {rt60_s: [make_response(rt60_s, sample_rate_hz, rng)] for rt60_s in RT60S_S}
    else:
        files = list_audio_files(response_dir, "--impulse-responses")
        responses = [audio for audio in _load(files, sample_rate_hz) if audio.any()]
        _require_audio(responses, response_dir, "--impulse-responses")
        times = [measure_rt60(response, sample_rate_hz) for response in responses]
        rooms = {round(float(np.median(times)), 2): responses}
    return AcousticConditions(noises, rooms)


def list_noises(folder: Path, but: Path | None) -> list[Path]:
    """Noises to judge with: the half of `folder` that training leaves alone, less what lies under
    `but`; all of it when nothing is left so. Raises DatasetError."""
    left_out = None if but is None else but.resolve()

    def is_noise(path: Path) -> bool:
        return left_out is None or not path.resolve().is_relative_to(left_out)

    files = list_audio_files(folder, "--noise")
    halved = [path for place, path in enumerate(files) if not is_for_training(path, place)]
    if not any(map(is_noise, halved)):
        log.warning("%s: no file that training leaves alone, all are used", folder)
        halved = files
    return [path for path in halved if is_noise(path)]


def list_audio_files(folder: Path, option: str) -> list[Path]:
    """Sound files under `folder`, by name. Raises DatasetError."""
    if not folder.is_dir():
        raise DatasetError(f"{option} {folder}: no such folder")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise DatasetError(f"{option} {folder}: no sound file ({', '.join(SUFFIXES)})")
    return files


def _load(files: Iterable[Path], sample_rate_hz: int) -> Iterable[Audio]:
    for path in files:
        try:
            yield decode_audio(path, sample_rate_hz)[0]
        except DatasetError as error:
            log.warning("left out: %s", error)


def _require_audio(audio_clips: list[Audio], folder: Path, option: str) -> list[Audio]:
    if not audio_clips:
        raise DatasetError(f"{option} {folder}: no file of it can be heard")
    return audio_clips

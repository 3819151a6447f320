"""Recordings with marked speech, and sounds without: what scenes for voice activity are made of.

In: audio files. Out: `SpeechClip`s, cut to their speech, and `Sound`s.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import DatasetError
from .media import decode_audio
from .speech_teacher import HOP, RATE_HZ, Audio, Marks, SpeechTeacher

log = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".g722", ".m4a")
MIN_SPEECH_HOPS = 10
MARGIN_HOPS = 30
"""Audio kept before and after the speech of a recording."""
MAX_SPEECH_RUN_HOPS = 60
"""Sounds whose teacher hears longer speech than this lose that part."""
QUIETEST_RMS = 1e-5


@dataclass(frozen=True, slots=True)
class SpeechClip:
    """A recording and its speech."""

    audio: Audio
    """(n,), with a root mean square of 0.1 during speech."""
    marks: Marks
    """Whether there is speech in each hop of 10 ms, (ceil(n / 160),)."""


def list_audio_files(folder: Path) -> list[Path]:
    """List the audio files under a folder. Raises DatasetError when there is none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise DatasetError(f"{folder}: no audio file ({', '.join(SUFFIXES)})")
    return files


def load_audio(files: Iterable[Path], max_s: float) -> list[Audio]:
    """Decode files, at most `max_s` of each. Unreadable and silent ones are logged and skipped."""
    recordings = []
    for path in tqdm(list(files), "audio files", leave=False, disable=None):
        try:
            audio = decode_audio(path, RATE_HZ)[0][: round(max_s * RATE_HZ)]
        except DatasetError as error:
            log.warning("skipped: %s", error)
            continue
        audio = audio - audio.mean(dtype=np.float64).astype(np.float32)
        if len(audio) > RATE_HZ // 10 and np.sqrt(np.square(audio).mean()) > QUIETEST_RMS:
            recordings.append(audio)
    return recordings


def mark_speech(recordings: Sequence[Audio], teacher: SpeechTeacher) -> list[SpeechClip]:
    """Cut recordings to their speech. Those without are left out."""
    clips = []
    for audio, marks in zip(recordings, teacher.mark(recordings), strict=True):
        if marks.sum() < MIN_SPEECH_HOPS:
            continue
        spoken = np.flatnonzero(marks)
        first = max(0, int(spoken[0]) - MARGIN_HOPS)
        end = min(len(marks), int(spoken[-1]) + 1 + MARGIN_HOPS)
        cut, cut_marks = audio[first * HOP : end * HOP], marks[first:end]
        level = np.sqrt(np.square(cut[np.repeat(cut_marks, HOP)[: len(cut)]]).mean())
        clips.append(SpeechClip(cut * np.float32(0.1 / max(level, 1e-6)), cut_marks))
    return clips


def remove_speech(recordings: Sequence[Audio], teacher: SpeechTeacher) -> list[NDArray[np.float32]]:
    """Cut what the teacher hears as long speech out of sounds, for example songs out of music.

    Short runs stay: they are its mistakes. Less than a second of sound is left out.
    """
    kept = []
    for audio, marks in zip(recordings, teacher.mark(recordings), strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
        sound = np.ones(len(audio), bool)
        for first, end in edges.reshape(-1, 2):
            if end - first > MAX_SPEECH_RUN_HOPS:
                sound[max(0, first - MARGIN_HOPS) * HOP : (end + MARGIN_HOPS) * HOP] = False
        if sound.sum() >= min(RATE_HZ, len(audio)):
            kept.append(audio[sound])
    return kept

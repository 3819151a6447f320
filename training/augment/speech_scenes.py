"""Scenes for voice activity: speech and sounds mixed as a microphone hears them.

In: clips with marked speech, and sounds without. Out: the log-mel of each scene, and in each
column whether there is speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, resample_poly, sosfilt
from tqdm import tqdm

from ...kernels.spec import MelSpec
from ..data import SpeechClip, mel_columns, open_mel
from .corruptions import Audio, make_response, reverberate
from .speechless_sounds import make_speechless

Marks = NDArray[np.bool_]

MARK_DELAY_COLUMNS = 1
"""A column of 25 ms is centred one hop after its number."""


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What scenes are like."""

    seconds: float = 8.0
    without_speech: float = 0.4
    """Share of scenes without speech."""
    clean: float = 0.12
    """Share of the scenes with speech that have no other sound."""
    snr_db: tuple[float, float] = (-6.0, 25.0)
    """Level of speech over that of the sound."""
    peak_db: tuple[float, float] = (-52.0, 0.0)
    """Peak of the scene."""
    reverberant: float = 0.35
    band_limited: float = 0.25
    synthetic_sound: float = 0.35
    """Share of the sounds that are of `speechless_sounds`."""


@dataclass(frozen=True, slots=True)
class SceneMaterial:
    """What scenes are made of. Each group is drawn as often as the others."""

    speech: Sequence[Sequence[SpeechClip]]
    sounds: Sequence[Sequence[Audio]]


def make_scene(
    material: SceneMaterial, settings: SceneSettings, rate_hz: int, rng: np.random.Generator
) -> tuple[Audio, Marks]:
    """Make the audio (n,) of one scene, and its marks by hop of 10 ms."""
    hop = rate_hz // 100
    num_samples = round(settings.seconds * 100) * hop
    sound = _mix_sounds(material, settings, num_samples, rate_hz, rng)
    if rng.random() < settings.without_speech:
        scene, marks = sound, np.zeros(num_samples // hop, bool)
    else:
        scene, marks = _lay_speech(material, num_samples, hop, rng)
        scene = _color(scene, settings, rate_hz, rng)
        level = _level(scene[np.repeat(marks, hop)]) if marks.any() else 0.0
        if rng.random() >= settings.clean:
            snr_db = rng.uniform(*settings.snr_db)
            gain = level * 10 ** (-snr_db / 20) / max(_loud_level(sound, hop), 1e-9)
            scene = scene + sound * np.float32(gain)
    scene = _as_recorded(scene, settings, rate_hz, rng)
    return scene, marks


def make_scenes(
    material: SceneMaterial,
    num_scenes: int,
    spec: MelSpec,
    seed: int,
    settings: SceneSettings | None = None,
) -> tuple[NDArray[np.float16], Marks]:
    """Compute the log-mel (N, num_mels, T) of scenes and their marks by column (N, T)."""
    settings = settings or SceneSettings()
    mel = open_mel(spec)
    num_columns = round(settings.seconds * 100) - 2
    columns = np.zeros((num_scenes, spec.num_mels, num_columns), np.float16)
    marks = np.zeros((num_scenes, num_columns), bool)
    for number in tqdm(range(num_scenes), "scenes", leave=False, disable=None):
        rng = np.random.default_rng((seed, number))
        scene, scene_marks = make_scene(material, settings, spec.sample_rate_hz, rng)
        columns[number] = mel_columns(scene, mel)[:, :num_columns]
        marks[number] = scene_marks[MARK_DELAY_COLUMNS:][:num_columns]
    return columns, marks


def _lay_speech(
    material: SceneMaterial, num_samples: int, hop: int, rng: np.random.Generator
) -> tuple[Audio, Marks]:
    """Lay clips one after another, with pauses; a scene begins and ends anywhere in them."""
    audio, marks = np.zeros(num_samples, np.float32), np.zeros(num_samples // hop, bool)
    group = material.speech[int(rng.integers(len(material.speech)))]
    first = int(rng.integers(-100, len(marks) * 2 // 3))
    while first < len(marks):
        if rng.random() < 0.3:
            group = material.speech[int(rng.integers(len(material.speech)))]
        clip = _change_pace(group[int(rng.integers(len(group)))], hop, rng)
        gain = np.float32(10 ** (rng.normal(0, 3) / 20))
        begin, end = max(0, first), min(len(marks), first + len(clip.marks))
        if end > begin:
            part = clip.audio[(begin - first) * hop : (end - first) * hop]
            audio[begin * hop : begin * hop + len(part)] += part * gain
            marks[begin:end] |= clip.marks[begin - first : end - first]
        first += len(clip.marks) + int(rng.exponential(80)) - 30
    return audio, marks


def _change_pace(clip: SpeechClip, hop: int, rng: np.random.Generator) -> SpeechClip:
    """Play some clips faster and higher or slower and lower."""
    percent = int(rng.integers(85, 119)) if rng.random() < 0.4 else 100
    if percent == 100:
        return clip
    audio = resample_poly(clip.audio, 100, percent).astype(np.float32)
    hops = np.arange(-(-len(audio) // hop)) * percent // 100
    return SpeechClip(audio, clip.marks[np.minimum(hops, len(clip.marks) - 1)])


def _mix_sounds(
    material: SceneMaterial,
    settings: SceneSettings,
    num_samples: int,
    rate_hz: int,
    rng: np.random.Generator,
) -> Audio:
    """Mix one or two sounds of equal or different level."""
    total = np.zeros(num_samples, np.float32)
    for number in range(1 if rng.random() < 0.65 else 2):
        if not material.sounds or rng.random() < settings.synthetic_sound:
            sound = make_speechless(num_samples, rng)
        else:
            group = material.sounds[int(rng.integers(len(material.sounds)))]
            sound = group[int(rng.integers(len(group)))]
            start = int(rng.integers(len(sound)))
            if rng.random() < 0.6:  # once more from the start, or once only
                sound = np.resize(np.roll(sound, -start), num_samples)
            else:
                padded = np.zeros(num_samples, np.float32)
                offset = int(rng.integers(-num_samples // 4, num_samples // 2))
                part = sound[max(0, -offset) : num_samples - offset]
                padded[max(0, offset) : max(0, offset) + len(part)] = part
                sound = padded
        sound = _color(sound, settings, rate_hz, rng)
        level = 0.1 * 10 ** (-number * rng.uniform(0, 15) / 20)
        total += sound * np.float32(level / max(_loud_level(sound, rate_hz // 100), 1e-6))
    return total


def _color(audio: Audio, settings: SceneSettings, rate_hz: int, rng: np.random.Generator) -> Audio:
    """Put a sound into some room, and pass it through some filter."""
    if rng.random() < settings.reverberant:
        response = make_response(rng.uniform(0.1, 0.8), rate_hz, rng)
        audio = reverberate(audio, response, rate_hz)
    for _ in range(int(rng.integers(0, 3))):  # a broad resonance or dip
        centre = float(np.exp(rng.uniform(np.log(150), np.log(6000))))
        band = butter(
            1, [centre / 1.4, min(centre * 1.4, 7900)], "bandpass", fs=rate_hz, output="sos"
        )
        audio = audio + sosfilt(band, audio) * rng.uniform(-0.8, 2.5)
    return audio.astype(np.float32)


def _as_recorded(
    audio: Audio, settings: SceneSettings, rate_hz: int, rng: np.random.Generator
) -> Audio:
    """Limit the band, set the level, add the noise of the microphone, cut the lowest tones."""
    wave: NDArray[Any] = audio
    if rng.random() < settings.band_limited:
        low, high = ((300, 3400), (60, 3900), (60, rng.uniform(3000, 7500)))[int(rng.integers(3))]
        wave = sosfilt(butter(4, [low, high], "bandpass", fs=rate_hz, output="sos"), wave)
    peak = float(np.abs(wave).max(initial=0.0))
    wave = wave * (10 ** (rng.uniform(*settings.peak_db) / 20) / max(peak, 1e-6))
    if rng.random() < 0.05:
        wave = wave * rng.uniform(2, 10)
    if rng.random() < 0.6:
        wave = wave + rng.standard_normal(len(wave)) * 10 ** (rng.uniform(-95, -60) / 20)
    if rng.random() < 0.4:
        pole = 1 - 2 * np.pi * rng.uniform(20, 120) / rate_hz
        wave = lfilter([1, -1], [1, -pole], wave)
    return np.clip(wave, -1, 1).astype(np.float32)


def _level(audio: Audio) -> float:
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean())) if len(audio) else 0.0


def _loud_level(audio: Audio, hop: int) -> float:
    """Level of the loud tenth of hops, so that a sound with pauses counts as its events."""
    power = np.square(audio[: len(audio) // hop * hop].reshape(-1, hop), dtype=np.float64)
    return float(np.sqrt(np.percentile(power.mean(axis=1), 90)))

"""Rendering of the calibration samples: list entries and data sets in, network input out.

Each entry's face or recording is found by its id, corrupted by its condition, and passed through
the device's preprocessing. Randomness is seeded by the entry alone, so the same lists give the same
bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Container, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..engines.bundles import Manifest
from ..kernels import Box, Preprocessor, open_preprocessor
from ..training.augment import (
    add_noise,
    blur_image,
    compress_image,
    darken_image,
    draw_noise,
    make_response,
    occlude_image,
    reverberate,
)
from ..training.data import FaceSet, VoiceSet, mel_windows, window_ends
from .errors import CalibrationError
from .sample_lists import SampleEntry, name_face, name_voice
from .samples import Samples, check_samples

MARGIN = 8
"""Pixels around a face of 48, repeated from its edge, for blur and the border of the box."""
QUIET_GAIN = 0.05
"""Amplitude factor of the condition "quiet"."""
SHORT_S = 1.2
"""Length of the condition "short": a voice that has just begun."""

Image = NDArray[np.uint8]
Audio = NDArray[np.float32]


def render_faces(entries: Sequence[SampleEntry], faces: FaceSet, manifest: Manifest) -> Samples:
    """Render faces at the best level's size. Raises CalibrationError for ids not in `faces`."""
    images = {name_face(image): image for image in faces.images}
    _require([e.id for e in entries if e.id.startswith("ferplus/")], images, "FER+ train")
    preprocessor = open_preprocessor("cpu", manifest.image, manifest.mel)
    size_px = manifest.levels[0].face_px
    rows = []
    for entry in entries:
        rng = _entry_rng(entry)
        gray = images[entry.id] if entry.id in images else _make_blank(entry.id, rng)
        color = np.repeat(np.pad(gray, MARGIN, mode="edge")[..., None], 3, axis=2)
        box = (float(MARGIN), float(MARGIN), float(len(gray)), 0.0)
        image = _corrupt_face(color, box, entry, rng)
        rows.append(np.array(preprocessor.faces(image, [box], size_px, "rgb8")))
    samples = Samples(tuple(e.id for e in entries), {"image": np.concatenate(rows)})
    check_samples(samples, "face", "face list")
    return samples


def render_voices(
    entries: Sequence[SampleEntry], voices: VoiceSet, noises: Sequence[Audio], manifest: Manifest
) -> Samples:
    """Render one window of each voice. Raises CalibrationError for ids not in `voices`.

    `noises` are the noise recordings of the training split.
    """
    clips = {
        name_voice(int(actor), name): audio
        for actor, name, audio in zip(voices.actors, voices.names, voices.audio_clips, strict=True)
    }
    _require([e.id for e in entries if e.id.startswith("ravdess/")], clips, "RAVDESS")
    preprocessor = open_preprocessor("cpu", manifest.image, manifest.mel)
    mels, masks = [], []
    for entry in entries:
        rng = _entry_rng(entry)
        mel, mask = _render_voice(entry, clips, noises, preprocessor, rng)
        mels.append(mel)
        masks.append(mask)
    inputs = {"mel": np.concatenate(mels), "mask": np.concatenate(masks)}
    samples = Samples(tuple(e.id for e in entries), inputs)
    check_samples(samples, "voice", "voice list")
    return samples


def _entry_rng(entry: SampleEntry) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{entry.id} {entry.condition}".encode()))


def _require(ids: Sequence[str], available: Container[str], origin: str) -> None:
    missing = [name for name in ids if name not in available]
    if missing:
        raise CalibrationError(
            f"{origin}: {len(missing)} of the {len(ids)} samples on the list are missing, such as"
            f" {missing[0]}: use the data set's original release, or --choose new lists"
        )


def _make_blank(name: str, rng: np.random.Generator) -> Image:
    """Draw what a false detection shows: a uniform area, a gradient or noise."""
    size = (48, 48)
    if name == "blank/noise":
        return rng.integers(0, 256, size, dtype=np.uint8)
    if name == "blank/dark-noise":
        return rng.integers(0, 24, size, dtype=np.uint8)
    if name == "blank/slope":
        return np.tile(np.linspace(0, 255, 48).astype(np.uint8), (48, 1))
    levels = {"blank/black": 0, "blank/grey": 128, "blank/white": 255}
    if name not in levels:
        raise CalibrationError(f"face list: {name} is neither a FER+ face nor a known blank")
    return np.full(size, levels[name], np.uint8)


def _corrupt_face(image: Image, box: Box, entry: SampleEntry, rng: np.random.Generator) -> Image:
    """Apply the entry's condition to a face."""
    condition, strength = _split_condition(entry.condition)
    if condition == "plain":
        return image
    if condition == "dark#":
        return darken_image(image, strength, rng)
    if condition == "blur#":
        return blur_image(image, strength / 100 * box[2])
    if condition == "jpeg#":
        return compress_image(image, strength)
    if condition == "covered#":
        return occlude_image(image, box, strength / 100, rng)
    if condition == "half":  # lit from one side
        light = np.linspace(1.0, 0.2, image.shape[1])[None, :, None]
        return (image * light).astype(np.uint8)
    raise CalibrationError(f"face list: {entry.id}: unknown condition {entry.condition}")


def _split_condition(condition: str) -> tuple[str, int]:
    """Split "dark2" into "dark#" and 2, and "half" into "half" and 0."""
    match = re.fullmatch(r"([a-z]+)([0-9]{1,2})", condition)
    return (f"{match[1]}#", int(match[2])) if match else (condition, 0)


def _render_voice(
    entry: SampleEntry,
    clips: Mapping[str, Audio],
    noises: Sequence[Audio],
    preprocessor: Preprocessor,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Render one window: mel (1, num_mels, num_frames) and mask (1, num_frames)."""
    spec = preprocessor.mel.spec
    rate_hz = spec.sample_rate_hz
    if entry.id.startswith("silence/"):
        audio = rng.normal(0, 1e-4 * rng.random(), spec.window_samples).astype(np.float32)
    elif entry.id.startswith("noise/"):
        noise = draw_noise(noises, rate_hz, rng)
        audio = np.resize(noise, spec.window_samples) * np.float32(rng.uniform(0.05, 1.0))
    elif entry.id in clips:
        audio = _corrupt_voice(clips[entry.id], entry, noises, rate_hz, rng)
    else:
        raise CalibrationError(f"voice list: {entry.id} is neither RAVDESS nor noise nor silence")
    ends = window_ends(len(audio), spec)
    mel, mask = mel_windows(audio, [int(rng.choice(ends))], preprocessor.mel)
    return mel, mask


def _corrupt_voice(
    audio: Audio,
    entry: SampleEntry,
    noises: Sequence[Audio],
    rate_hz: int,
    rng: np.random.Generator,
) -> Audio:
    """Apply the entry's condition to a recording."""
    condition, strength = _split_condition(entry.condition)
    if condition == "plain":
        return audio
    if condition == "snr#":
        return add_noise(audio, draw_noise(noises, rate_hz, rng), strength, rate_hz, rng)
    if condition == "room":
        return reverberate(audio, make_response(rng.uniform(0.2, 0.8), rate_hz, rng), rate_hz)
    if condition == "quiet":
        return audio * np.float32(QUIET_GAIN)
    if condition == "short":
        first = int(np.argmax(np.abs(audio) > 0.1 * np.abs(audio).max()))
        return audio[first : first + round(SHORT_S * rate_hz)]
    raise CalibrationError(f"voice list: {entry.id}: unknown condition {entry.condition}")

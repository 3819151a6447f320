"""Rendering of the calibration samples: list entries and examples in, network input out.

Each entry's face or recording is found by its id, corrupted by its condition, and passed through
the device's preprocessing. Randomness is seeded by the entry alone, so the same entries give the
same bytes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engines.bundles import Manifest
from ..kernels import Box, Preprocessor, open_preprocessor
from ..kernels.spec import ImageSpec, MelSpec
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
from ..training.data import mel_windows, window_ends
from .errors import CalibrationError
from .sample_lists import BLANKS, SampleEntry
from .samples import Samples, check_samples

MARGIN_SHARE = 6
"""Sides of a face per pixel of margin around it, which repeats the face's edge, for blur and the
border of the box: 8 px for a face of 48."""
QUIET_GAIN = 0.05
"""Amplitude factor of the condition "quiet"."""
SHORT_S = 1.2
"""Length of the condition "short": a voice that has just begun."""

Image = NDArray[np.uint8]
Audio = NDArray[np.float32]


class InputSpecs(NamedTuple):
    """What the networks read."""

    image: ImageSpec
    mel: MelSpec
    face_px: int
    """Side of a face at the best level."""


def read_specs(manifest: Manifest) -> InputSpecs:
    """Return the inputs of a bundle's networks."""
    return InputSpecs(manifest.image, manifest.mel, manifest.levels[0].face_px)


def render_faces(
    entries: Sequence[SampleEntry],
    images: Mapping[str, Image],
    specs: InputSpecs,
    origin: str = "FER+ train",
) -> Samples:
    """Render the grey faces `images` (H, H), by id. Raises CalibrationError for ids not in it,
    naming their `origin`."""
    _require([e.id for e in entries if not e.id.startswith("blank/")], images, origin)
    preprocessor = open_preprocessor("cpu", specs.image, specs.mel)
    rows = []
    for entry in entries:
        rng = _entry_rng(entry)
        gray = images[entry.id] if entry.id in images else _make_blank(entry.id, rng)
        margin = len(gray) // MARGIN_SHARE
        color = np.repeat(np.pad(gray, margin, mode="edge")[..., None], 3, axis=2)
        box = (float(margin), float(margin), float(len(gray)), 0.0)
        image = _corrupt_face(color, box, entry, rng)
        rows.append(np.array(preprocessor.faces(image, [box], specs.face_px, "rgb8")))
    inputs = {"image": np.concatenate(rows)}
    samples = Samples(tuple(e.id for e in entries), inputs, tuple(e.person for e in entries))
    check_samples(samples, "face", "face list")
    return samples


def render_voices(
    entries: Sequence[SampleEntry],
    clips: Mapping[str, Audio],
    noises: Sequence[Audio],
    specs: InputSpecs,
    origin: str = "RAVDESS",
) -> Samples:
    """Render one window of each of the recordings `clips`, by id. Raises CalibrationError for ids
    not in it, naming their `origin`.

    `noises` are the noise recordings of the training split.
    """
    spoken = [e.id for e in entries if not e.id.startswith(("noise/", "silence/"))]
    _require(spoken, clips, origin)
    preprocessor = open_preprocessor("cpu", specs.image, specs.mel)
    mels, masks = [], []
    for entry in entries:
        mel, mask = _render_voice(entry, clips, noises, preprocessor, _entry_rng(entry))
        mels.append(mel)
        masks.append(mask)
    inputs = {"mel": np.concatenate(mels), "mask": np.concatenate(masks)}
    samples = Samples(tuple(e.id for e in entries), inputs, tuple(e.person for e in entries))
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
        raise CalibrationError(f"face list: {name}: unknown blank, allowed: {', '.join(BLANKS)}")
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
    else:
        audio = _corrupt_voice(clips[entry.id], entry, noises, rate_hz, rng)
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

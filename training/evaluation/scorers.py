"""What a bundle says of one example: its own preprocessing and engines, the code the device runs.

In: faces and sound as captured. Out: probabilities over the labels, the mean over the example, or
None where the bundle finds nothing to judge.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...engines import open_engine
from ...engines.base import Engine
from ...engines.bundles import EMBEDDING_SIZE, FUSION, Bundle, Level, Manifest
from ...engines.estimator import calibrate, fuse
from ...engines.golden import check_golden_output
from ...engines.tensorrt import BuildOptions
from ...kernels import Preprocessor, open_preprocessor
from ..augment import Audio
from ..data import WINDOW_EVERY_S, mel_windows, window_ends
from .material import ExampleMedia, Face

BATCH_SIZE = 64
FACE_EVERY_S = 0.1
"""How often a video's picture is read."""
MAX_FACE_AGE_S = 0.15
"""A face seen so recently is in the newest picture."""
FACE_MEMORY_S = 1.0
"""For so long the device keeps what a face looked like, for the fusion network."""

Float32 = NDArray[np.float32]
log = logging.getLogger(__name__)

Float64 = NDArray[np.float64]
MediaT = TypeVar("MediaT")


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one network said: `t_s` (K,) when, `embeddings` (K, 256), `probabilities` (K, 7)."""

    t_s: Float64
    embeddings: Float32
    probabilities: Float64


@dataclass(frozen=True, slots=True)
class Networks:
    """A bundle's networks, open, with the preprocessing that belongs to them."""

    manifest: Manifest
    level: Level
    preprocessor: Preprocessor
    engines: Mapping[str, Engine]
    last: dict[str, tuple[object, Predictions]] = field(default_factory=dict)
    """What was read last of faces and sound: a condition spoils but one of them."""


@contextmanager
def open_networks(
    bundle: Bundle, modality: str, engine: str, level: Level, precision: str = "auto"
) -> Iterator[Networks]:
    """What it takes to judge "face", "voice" or "fusion". Raises EngineError."""
    manifest = bundle.manifest
    names = [modality] if modality != FUSION else list(manifest.networks)
    preprocessor = open_preprocessor("cpu", manifest.image, manifest.mel)
    with ExitStack() as stack:
        engines = {}
        for name in names:
            one = open_engine(
                engine,
                bundle,
                name,
                precision=precision,
                options=BuildOptions((level.name,)),
                report=log.info,
            )
            engines[name] = stack.enter_context(one)
            if one.name != "null":
                check_golden_output(one, bundle, name)
        yield Networks(manifest, level, preprocessor, engines)


def score_faces(networks: Networks, materials: Sequence[ExampleMedia]) -> list[Float64 | None]:
    """The mean over each example's faces."""
    faces = [face for material in materials for face in material.faces]
    if not faces:
        return [None] * len(materials)
    probabilities = read_faces(networks, faces).probabilities
    ends = np.cumsum([len(material.faces) for material in materials])
    return [average(rows) for rows in np.split(probabilities, ends[:-1])]


def score_voices(networks: Networks, materials: Sequence[ExampleMedia]) -> list[Float64 | None]:
    """The mean over each recording's windows."""
    return [
        None
        if material.audio is None
        else average(read_voice(networks, material.audio).probabilities)
        for material in materials
    ]


def score_clips(networks: Networks, materials: Sequence[ExampleMedia]) -> list[Float64 | None]:
    """The mean over the times of each clip, see `fuse_clip`. The device's speech gate is not
    asked: these recordings are speech."""
    return [average(fuse_clip(networks, material)) for material in materials]


SCORERS = {"face": score_faces, "voice": score_voices, FUSION: score_clips}
"""Several examples at once -> probabilities (7,) of each, or None."""


def average(rows: Float64) -> Float64 | None:
    """(K, 7) -> (7,): the mean of the rows that are numbers, None when there are none. The device
    leaves out a NaN as well."""
    good = rows[np.isfinite(rows).all(axis=1)]
    return good.mean(axis=0) if len(good) else None


def read_faces(networks: Networks, faces: Sequence[Face]) -> Predictions:
    """What the face network says to each of at least one face."""
    size_px = networks.level.face_px
    embeddings, logits = [], []
    for start in range(0, len(faces), BATCH_SIZE):
        batch = [
            # A copy: the preprocessor fills the same array again.
            np.array(networks.preprocessor.face(face.image, face.box, size_px, "rgb8"))
            for face in faces[start : start + BATCH_SIZE]
        ]
        answer = networks.engines["face"].infer({"image": np.concatenate(batch)})
        embeddings.append(answer["embedding"].copy())
        logits.append(answer["logits"].copy())
    return Predictions(
        np.array([face.t_s for face in faces]),
        np.concatenate(embeddings),
        _calibrate(networks, "face", np.concatenate(logits)),
    )


def read_voice(networks: Networks, audio: Audio, filled: float = 1.0) -> Predictions:
    """What the voice network says to each window from one that is `filled` by so much; no rows
    when the sound is too short for one column."""
    spec = networks.manifest.mel
    if len(audio) < spec.window:
        empty = np.empty((0, EMBEDDING_SIZE), np.float32)
        return Predictions(np.empty(0), empty, np.empty((0, len(networks.manifest.labels))))
    ends = window_ends(len(audio), spec, filled)
    windows, masks = mel_windows(audio, ends, networks.preprocessor.mel)
    answer = networks.engines["voice"].infer({"mel": windows, "mask": masks})
    return Predictions(
        np.array(ends) / spec.sample_rate_hz,
        answer["embedding"].copy(),
        _calibrate(networks, "voice", answer["logits"]),
    )


def read_partial_voice(networks: Networks, audio: Audio) -> Predictions:
    """Also of windows that are half empty, as the device does when it begins to listen: so the
    faces of the whole clip get their turn, not those of its last second alone."""
    return read_voice(networks, audio, 0.5)


def fuse_clip(networks: Networks, material: ExampleMedia) -> Float64:
    """Probabilities (K, 7) at the ends of the voice's windows, or every 0.25 s where there is no
    sound: of the fusion network where the bundle has one, else of `engines.fusion.fuse`. Times
    with neither face nor voice are left out."""
    faces = _read_cached(networks, read_faces, material.faces) if material.faces else None
    audio = material.audio
    voice = None if audio is None else _read_cached(networks, read_partial_voice, audio)
    if voice is not None and len(voice.t_s):
        times = voice.t_s + material.audio_t_s
    elif faces is not None:
        voice = None
        times = np.arange(faces.t_s[-1], faces.t_s[0] - 1e-6, -WINDOW_EVERY_S)[::-1]
    else:
        return np.empty((0, len(networks.manifest.labels)))
    if networks.manifest.fusion is not None:
        return _fuse_learned(networks, faces, voice, times)
    return _fuse_late(networks, faces, voice, times)


def _read_cached(
    networks: Networks, read: Callable[[Networks, MediaT], Predictions], given: MediaT
) -> Predictions:
    """`read` unless the very same was read the last time."""
    last = networks.last.get(read.__name__)
    if last is None or last[0] is not given:
        last = networks.last[read.__name__] = (given, read(networks, given))
    return last[1]


def _fuse_learned(
    networks: Networks, faces: Predictions | None, voice: Predictions | None, times: Float64
) -> Float64:
    """Faces stand at the end of their row, newest last, as in the device's memory."""
    entry = networks.manifest.fusion
    assert entry is not None
    feed = {
        "faces": np.zeros((len(times), entry.num_faces, EMBEDDING_SIZE), np.float32),
        "face_mask": np.zeros((len(times), entry.num_faces), np.float32),
        "voice": np.zeros((len(times), EMBEDDING_SIZE), np.float32),
        "voice_mask": np.zeros((len(times), 1), np.float32),
    }
    if faces is not None:
        good = np.isfinite(faces.embeddings).all(axis=1)
        for row, t_s in enumerate(times):
            recent = (faces.t_s <= t_s + 1e-6) & (faces.t_s >= t_s - FACE_MEMORY_S)
            held = np.flatnonzero(recent & good)[-entry.num_faces :]
            if len(held):
                feed["faces"][row, -len(held) :] = faces.embeddings[held]
                feed["face_mask"][row, -len(held) :] = 1.0
    if voice is not None:
        good = np.isfinite(voice.embeddings).all(axis=1)
        feed["voice"][good] = voice.embeddings[good]
        feed["voice_mask"][good] = 1.0
    seen = feed["face_mask"].any(axis=1) | feed["voice_mask"].any(axis=1)
    if not seen.any():
        return np.empty((0, len(networks.manifest.labels)))
    answer = networks.engines[FUSION].infer({name: array[seen] for name, array in feed.items()})
    return calibrate(answer["logits"], entry.temperature)


def _fuse_late(
    networks: Networks, faces: Predictions | None, voice: Predictions | None, times: Float64
) -> Float64:
    """The newest opinion of each, averaged with the bundle's weights."""
    weights = {name: model.fusion_weight for name, model in networks.manifest.models.items()}
    rows = []
    for row, t_s in enumerate(times):
        opinions = {}
        if faces is not None:
            recent = np.flatnonzero((faces.t_s <= t_s + 1e-6) & (faces.t_s > t_s - MAX_FACE_AGE_S))
            if len(recent):
                opinions["face"] = faces.probabilities[recent[-1]].tolist()
        if voice is not None:
            opinions["voice"] = voice.probabilities[row].tolist()
        good = {
            name: distribution
            for name, distribution in opinions.items()
            if math.isfinite(distribution[0])
        }
        if good:
            rows.append(fuse(good, weights)[0])
    return np.array(rows).reshape(-1, len(networks.manifest.labels))


def _calibrate(networks: Networks, name: str, logits: Float32) -> Float64:
    return calibrate(logits, networks.manifest.models[name].temperature)

"""A bundle's networks, opened to be scored, and their outputs on faces and audio.

In: a bundle, faces and audio as captured. Out: embeddings, logits and calibrated class
probabilities, through the bundle's own preprocessing and engines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...engines import open_engine
from ...engines.base import Engine
from ...engines.bundles import FUSION, Bundle, Level, Manifest
from ...engines.golden import check_golden_output
from ...engines.probabilities import calibrate
from ...engines.speech_tracker import SpeechTracker, open_speech_tracker
from ...engines.tensorrt import BuildOptions
from ...kernels import Preprocessor, open_preprocessor
from ..augment import Audio
from ..data import mel_windows, window_ends
from .material import Face

BATCH_SIZE = 64

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FaceOutputs:
    """The face network's outputs on K faces."""

    embeddings: Float32
    """(K, 256)."""
    logits: Float32
    """(K, L)."""
    probabilities: Float64
    """(K, L), calibrated."""


@dataclass(frozen=True, slots=True)
class Networks:
    """A bundle's networks, open, with the preprocessing that belongs to them."""

    manifest: Manifest
    level: Level
    preprocessor: Preprocessor
    engines: Mapping[str, Engine]
    speech: SpeechTracker | None = None
    """Says when the voice may be read, as on the device. Without it, always."""
    newest_faces: list[tuple[Sequence[Face], FaceOutputs]] = field(default_factory=list)
    """At most one: the faces read last and their outputs. Most corruptions change only the audio
    or only the faces."""


@contextmanager
def open_networks(
    bundle: Bundle, modality: str, engine: str, level: Level, precision: str = "auto"
) -> Iterator[Networks]:
    """Open and verify what scores "face", "voice" or "fusion". Raises EngineError."""
    manifest = bundle.manifest
    names = [modality] if modality != FUSION else list(manifest.networks)
    preprocessor = open_preprocessor("cpu", manifest.image, manifest.mel)
    # Recordings of one voice are scored whole. In clips it is heard when the device would hear it.
    follows_speech = modality == FUSION and engine != "null"
    speech = open_speech_tracker(bundle) if follows_speech else None
    with ExitStack() as stack:
        engines = {}
        for name in names:
            opened = open_engine(
                engine,
                bundle,
                name,
                precision=precision,
                options=BuildOptions((level.name,)),
                report=log.info,
            )
            engines[name] = stack.enter_context(opened)
            if opened.name != "null":
                check_golden_output(opened, bundle, name)
        yield Networks(manifest, level, preprocessor, engines, speech)


def read_faces(networks: Networks, faces: Sequence[Face]) -> FaceOutputs:
    """Run the face network on each of at least one face."""
    size_px = networks.level.face_px
    embeddings, logits = [], []
    for start in range(0, len(faces), BATCH_SIZE):
        batch = [
            # A copy: the preprocessor fills the same array again.
            np.array(networks.preprocessor.faces(face.image, [face.box], size_px, "rgb8"))
            for face in faces[start : start + BATCH_SIZE]
        ]
        outputs = networks.engines["face"].infer({"image": np.concatenate(batch)})
        embeddings.append(outputs["embedding"].copy())
        logits.append(outputs["logits"].copy())
    all_logits = np.concatenate(logits)
    temperature = networks.manifest.models["face"].temperature
    return FaceOutputs(np.concatenate(embeddings), all_logits, calibrate(all_logits, temperature))


def read_faces_cached(networks: Networks, faces: Sequence[Face]) -> FaceOutputs:
    """Return `read_faces`, computed again only when `faces` is not the object of the last call."""
    newest = networks.newest_faces
    if not newest or newest[0][0] is not faces:
        newest[:] = [(faces, read_faces(networks, faces))]
    return newest[0][1]


def read_voice(networks: Networks, audio: Audio) -> Float64:
    """Return the voice network's class probabilities (K, L) on each window of a recording; no rows
    when the audio is too short for one column."""
    spec = networks.manifest.mel
    if len(audio) < spec.window:
        return np.empty((0, len(networks.manifest.labels)))
    windows, masks = mel_windows(audio, window_ends(len(audio), spec), networks.preprocessor.mel)
    outputs = networks.engines["voice"].infer({"mel": windows, "mask": masks})
    return calibrate(outputs["logits"], networks.manifest.models["voice"].temperature)

"""Scores a bundle on a data set through its own preprocessing and engine: the code that the
device runs, not the code that trained it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..engines import open_engine
from ..engines.bundle import LABELS, Bundle, Level
from ..engines.fusion import calibrate
from ..kernels import open_preprocessor
from .data import DatasetError
from .data.ferplus import FACE_PX, load_ferplus
from .data.ravdess import find_voice_clips, load_voice
from .metrics import score
from .voice import mel_windows, window_ends

log = logging.getLogger(__name__)

MODALITY_OF = {"ferplus": "face", "ravdess": "voice"}
"""What can be read from each data set."""
BATCH_SIZE = 64


def evaluate_bundle(
    bundle: Bundle,
    dataset: str,
    root: Path,
    split: str = "valid",
    actors: Sequence[int] | None = None,
    engine: str = "auto",
    level: str = "",
) -> dict[str, Any]:
    """The figures of `metrics.score`, and what was scored how. Raises DatasetError."""
    chosen = next((known for known in bundle.manifest.levels if level in ("", known.name)), None)
    if chosen is None:
        known = ", ".join(known.name for known in bundle.manifest.levels)
        raise DatasetError(f"level {level!r} is not in the bundle, allowed: {known}")
    modality = MODALITY_OF[dataset]
    if modality not in bundle.manifest.models:
        raise DatasetError(f"{bundle.path} has no {modality} network")
    if dataset == "ferplus":
        probabilities, truth, skipped = _score_faces(bundle, root, split, engine, chosen)
        scope: dict[str, Any] = {"split": split, "face_px": chosen.face_px}
    else:
        probabilities, truth, skipped = _score_voices(bundle, root, actors, engine)
        scope = {"actors": "all" if actors is None else list(actors)}
    return {
        **score(probabilities, truth, LABELS),
        "dataset": dataset,
        "modality": modality,
        **scope,
        "skipped": skipped,
        "bundle": bundle.sha256,
    }


Scored = tuple[NDArray[np.float64], NDArray[np.int64], int]


def _score_faces(bundle: Bundle, root: Path, split: str, engine_name: str, level: Level) -> Scored:
    """Every face that its voters agreed on; the picture is the face, edge to edge."""
    faces = load_ferplus(root, split)
    agreed = np.flatnonzero(faces.labels >= 0)
    manifest = bundle.manifest
    preprocessor = open_preprocessor("auto", manifest.image, manifest.mel)
    rows = []
    with open_engine(engine_name, bundle, "face") as engine:
        for start in tqdm(range(0, len(agreed), BATCH_SIZE), "faces", leave=False, disable=None):
            batch = [
                preprocessor.face(
                    np.repeat(faces.images[i][:, :, None], 3, axis=2),
                    (0.0, 0.0, float(FACE_PX)),
                    level.face_px,
                ).copy()
                for i in agreed[start : start + BATCH_SIZE]
            ]
            logits = engine.infer({"image": np.concatenate(batch)})["logits"]
            rows.append(calibrate(logits, manifest.models["face"].temperature))
    skipped = faces.skipped + len(faces.labels) - len(agreed)
    return np.concatenate(rows), faces.labels[agreed], skipped


def _score_voices(
    bundle: Bundle, root: Path, actors: Sequence[int] | None, engine_name: str
) -> Scored:
    """Every recording: the mean over its windows."""
    manifest = bundle.manifest
    clips = find_voice_clips(root, actors)
    mel = open_preprocessor("auto", manifest.image, manifest.mel).mel
    rows, truth = [], []
    with open_engine(engine_name, bundle, "voice") as engine:
        for clip in tqdm(clips, "recordings", leave=False, disable=None):
            try:
                sound = load_voice(clip.path, manifest.mel.sample_rate_hz)
                windows, masks = mel_windows(sound, window_ends(len(sound), manifest.mel), mel)
            except DatasetError as error:
                log.warning("left out: %s", error)
                continue
            logits = engine.infer({"mel": windows, "mask": masks})["logits"]
            temperature = manifest.models["voice"].temperature
            rows.append(calibrate(logits, temperature).mean(axis=0))
            truth.append(LABELS.index(clip.label))
    if not rows:
        raise DatasetError(f"{root}: none of {len(clips)} recordings can be read")
    return np.stack(rows), np.array(truth), len(clips) - len(rows)

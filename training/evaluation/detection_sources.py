"""What a face detector is scored on, from the user's folders.

In: FER+, a folder of clips and pictures of one person each, a folder of pictures without faces,
YuNet as the teacher that says where the faces are. Out: `DetectionSources`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...engines.bundles import Bundle
from ...engines.detection_network import DetectionNetwork
from ...engines.face_detector import Detector, open_detector
from ..data import FacePicture, FeatureCache, Teacher, load_people, load_pictures, load_tight_faces
from .detection import DetectionSources

CLIP_EVERY_S = 0.25
MAX_FRAMES = 80
"""Per clip, spread over its length."""


def load_sources(
    ferplus: Path,
    split: str,
    clips: Path,
    pictures: Path,
    teacher_file: Path,
    num_faces: int,
    seed: int,
    cache: FeatureCache | None = None,
) -> DetectionSources:
    """Label and choose what to score. Raises DatasetError."""
    teacher = Teacher(teacher_file)
    people = load_people(clips, teacher, CLIP_EVERY_S)
    frames = {
        name: [
            found[i]
            for i in np.linspace(0, len(found) - 1, min(MAX_FRAMES, len(found))).astype(int)
        ]
        for name, found in people.items()
    }
    faces = load_tight_faces(ferplus, split, teacher, cache)
    order = np.random.default_rng(seed).permutation(len(faces))[:num_faces]
    return DetectionSources(frames, [faces[i] for i in order], load_pictures(pictures))


def _thin(frames: Sequence[FacePicture]) -> list[FacePicture]:
    """Return at most `MAX_FRAMES` of the frames, evenly."""
    chosen = np.linspace(0, len(frames) - 1, min(MAX_FRAMES, len(frames)))
    return [frames[round(i)] for i in chosen]


def open_scored(bundle: Bundle, network: Path | None, min_score: float, yunet: str) -> Detector:
    """Open what is scored: an ONNX file, YuNet, or the detector of a bundle. Raises EngineError."""
    if network is not None:
        return DetectionNetwork(network, min_score)
    return open_detector(yunet, bundle)

"""Scores a face detector: faces found under each condition, false boxes where there is no face.

In: a detector of the device, frames and composites with one known face each, pictures without
faces. Out: the share found by condition and source, the share of pictures with a false box.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engines.face_detector import Detection, Detector
from ..data import FacePicture, cut_picture
from .face_conditions import CONDITIONS, Chance, FaceCondition, compose

Gray = NDArray[np.uint8]
MIN_OVERLAP = 0.4
"""Least intersection over union of the squares: a face five pixels off is lost at 16 pixels."""
PICTURE_SIZE = (640, 360)
PICTURES_PER_FALSE_BOX = 500
LEAST_MIN_SCORE = 0.2
COMPOSITE_SHARE = 0.22
"""Side of a face in a composite, as a share of the picture's width."""


@dataclass(frozen=True, slots=True)
class DetectionSources:
    """What a detector is scored on."""

    frames: Mapping[str, Sequence[FacePicture]]
    """Pictures with surroundings by name of the clip."""
    faces: Sequence[FacePicture]
    """Tight faces for composites."""
    backgrounds: Sequence[Gray]
    """Pictures without faces, for composites and for false boxes."""


def score_detector(detector: Detector, sources: DetectionSources, seed: int = 0) -> dict[str, Any]:
    """Return {"conditions": {name: {"goal", source: {"found", "n"}}}, "false_boxes"}."""
    rows: dict[str, Any] = {}
    for condition in CONDITIONS:
        row: dict[str, Any] = {"goal": condition.goal}
        for name, frames in sources.frames.items():
            row[name] = count_found(detector, frames, sources.backgrounds, condition, seed)
        if sources.faces and sources.backgrounds:
            composites = make_composites(sources, seed)
            row["composites"] = count_found(
                detector, composites, sources.backgrounds, condition, seed
            )
        rows[condition.name] = row
    return {"conditions": rows, "false_boxes": count_false(detector, sources.backgrounds)}


def make_composites(sources: DetectionSources, seed: int) -> list[FacePicture]:
    """Paste each face into a background of its own choice."""
    rng = np.random.default_rng(seed)
    return [
        compose(face, cut_picture(sources.backgrounds, PICTURE_SIZE, rng), COMPOSITE_SHARE, rng)
        for face in sources.faces
    ]


def count_found(
    detector: Detector,
    pictures: Sequence[FacePicture],
    backgrounds: Sequence[Gray],
    condition: FaceCondition,
    seed: int,
) -> dict[str, float]:
    """Return the share of pictures whose face is found, and their number."""
    found = 0
    for index, picture in enumerate(pictures):
        rng = np.random.default_rng((seed, zlib.crc32(condition.name.encode()), index))
        height, width = picture.image.shape
        if backgrounds:
            background = cut_picture(backgrounds, (width, height), rng)
        else:
            background = np.full((height, width), 128, np.uint8)
        changed = condition.change(picture, Chance(background, rng))
        boxes = detect_gray(detector, changed.image)
        found += any(overlap(box, changed.label) >= MIN_OVERLAP for box in boxes)
    return {"found": found / max(1, len(pictures)), "n": len(pictures)}


def count_false(detector: Detector, pictures: Sequence[Gray]) -> dict[str, Any]:
    """Return the number of pictures without faces in which one is found, and the scores."""
    scores = [
        max((box.score for box in detect_gray(detector, picture)), default=None)
        for picture in pictures
    ]
    false = [score for score in scores if score is not None]
    return {"pictures": len(false), "n": len(pictures), "scores": sorted(false, reverse=True)}


def choose_min_score(scores: Sequence[float], num_pictures: int) -> float:
    """Return the least score, in hundredths, that at most one in 500 pictures without faces (and at
    least one) exceeds; `scores` are those of `count_false` with a low threshold."""
    allowed = max(1, num_pictures // PICTURES_PER_FALSE_BOX)
    ranked = sorted(scores, reverse=True)
    if len(ranked) <= allowed:
        return LEAST_MIN_SCORE
    return max(LEAST_MIN_SCORE, math.floor(ranked[allowed] * 100 + 1) / 100)


def detect_gray(detector: Detector, image: Gray) -> list[Detection]:
    """Search a grey picture as the device would search a colour picture."""
    return detector.detect(np.repeat(image[..., None], 3, axis=2), "bgr8")


def overlap(box: Detection, label: NDArray[np.float32]) -> float:
    """Return intersection over union of a box and a label's square."""
    x, y, side = (float(v) for v in label[:3])
    half, other = side / 2, box.size / 2
    wide = min(x + half, box.x + other) - max(x - half, box.x - other)
    high = min(y + half, box.y + other) - max(y - half, box.y - other)
    shared = max(0.0, wide) * max(0.0, high)
    return shared / (side**2 + box.size**2 - shared)


def format_table(results: dict[str, Any]) -> str:
    """Return one line per condition: the share found in each source, and the goal."""
    names = list(next(iter(results["conditions"].values())))[1:]
    lines = [f"{'found, %':22s} {'goal':>6s}" + "".join(f" {name[:18]:>18s}" for name in names)]
    for condition, row in results["conditions"].items():
        cells = "".join(f" {row[name]['found'] * 100:18.1f}" for name in names)
        lines.append(f"{condition:22s} {row['goal'] * 100:6.0f}{cells}")
    counts = "".join(f" {next(iter(results['conditions'].values()))[n]['n']:18d}" for n in names)
    lines.append(f"{'pictures':22s} {'':6s}{counts}")
    false = results["false_boxes"]
    lines.append(f"false boxes: in {false['pictures']} of {false['n']} pictures without faces")
    return "\n".join(lines)

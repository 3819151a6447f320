"""One example as camera and microphone capture it, before any preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...kernels import Box
from ..augment import Audio, Image

MARGIN = 0.25
"""Share of the face's side that is cut out around its box, so that a blur has pixels there."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in an image, `image` uint8 (H, W, 3) RGB, captured at `t_s` of the clip."""

    t_s: float
    image: Image
    box: Box
    id: str = ""
    """The same for one person while the tracker follows the face."""


@dataclass(frozen=True, slots=True)
class ExampleMedia:
    """Faces and audio of one example."""

    faces: tuple[Face, ...] = ()
    """In the order of time."""
    audio: Audio | None = None
    """float32 (n,), None without audio."""
    audio_t_s: float = 0.0
    """Capture time of its first sample, on the faces' clock."""
    frame_times_s: tuple[float, ...] = ()
    """Capture times of all frames of a clip, with a face or without, for fusion."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled example. `load` reads it and raises DatasetError when that fails."""

    name: str
    label: int
    """Index in the bundle's labels."""
    subject: str
    """Name of the person in the data set, "" when unknown."""
    load: Callable[[], ExampleMedia]
    groups: Mapping[str, str] = field(default_factory=dict)
    """Groups to score separately, such as {"sex": "female"}."""
    person: str = ""
    """Name of the person in the provenance of bundles, "" when unknown."""


def cut_face(t_s: float, image: Image, box: Box, face_id: str = "") -> Face:
    """Copy the face with a margin out of its image: the networks use no other part of it."""
    height, width = image.shape[:2]
    x, y, side, roll = box
    corners = 0.5 * (abs(np.cos(roll)) + abs(np.sin(roll)) - 1.0)  # of a turned box stand out
    reach = (MARGIN + corners) * side + 2
    # A box outside the image still gets the pixels of the border, as it would from the whole.
    left = int(np.clip(np.floor(x - reach), 0, width - 1))
    top = int(np.clip(np.floor(y - reach), 0, height - 1))
    right = int(np.clip(np.ceil(x + side + reach), left + 1, width))
    bottom = int(np.clip(np.ceil(y + side + reach), top + 1, height))
    image = image[top:bottom, left:right].copy()
    return Face(t_s, image, (x - left, y - top, side, roll), face_id)


def whole_face(t_s: float, gray: NDArray[np.uint8]) -> Face:
    """Return a square gray image (H, H) as a face, edge to edge."""
    return Face(t_s, np.repeat(gray[:, :, None], 3, axis=2), (0.0, 0.0, float(len(gray)), 0.0))

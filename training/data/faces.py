"""Faces of a video, and face crops of an archive.

In: a video, or an archive of face crops. Out: images with their time and the box of the face.
"""

from __future__ import annotations

import logging
import zipfile
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...engines.face_detector import Detector
from ...kernels import Box
from ..errors import DatasetError
from .images import read_gray
from .media import decode_frames

log = logging.getLogger(__name__)

MEDIAN_WINDOW = 5
"""A box is the median of this many detections, so single errors do not move it."""
FACE_ZIP_PX = 224


class FaceView(NamedTuple):
    """One frame of a video."""

    t_s: float
    """Time from the beginning of the file."""
    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    box: Box | None
    """None until the first detection; then the latest box."""


def read_faces(path: Path, detector: Detector, every_s: float) -> Iterator[FaceView]:
    """Yield frames of a video, at least `every_s` apart, with the box of the largest face.

    Raises DatasetError when the file cannot be decoded.
    """
    latest: deque[Box] = deque(maxlen=MEDIAN_WINDOW)
    for t_s, image in decode_frames(path, every_s):
        detections = detector.detect(image, "rgb8")
        if detections:
            face = max(detections, key=lambda face: face.size)
            latest.append((face.x, face.y, face.size, face.roll))
        box = None
        if latest:
            x, y, size, roll = (float(value) for value in np.median(latest, axis=0))
            box = (x - size / 2, y - size / 2, size, roll)
        yield FaceView(t_s, image, box)


def load_face_zip(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the clips of an archive `CLIP/NN.webp` of face crops: (name, grey uint8 (K, 224, 224)),
    images in the order of NN.

    Images that cannot be read are logged and skipped, and so are clips without any. Raises
    DatasetError when the archive cannot be read or holds no clip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                (PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")),
                key=lambda name: (name.parent, name.name),
            )
            empty = True
            for folder, members in groupby(names, key=lambda name: name.parent):
                images = []
                for member in members:
                    image = read_gray(archive, str(member), FACE_ZIP_PX)
                    if image is None:
                        log.warning("skipped: %s: %s cannot be read", path, member)
                    else:
                        images.append(image)
                if images:
                    empty = False
                    yield folder.name, np.stack(images)
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: not a face archive: {error}") from error
    if empty:
        raise DatasetError(f"{path}: no face of {FACE_ZIP_PX}x{FACE_ZIP_PX} pixels")

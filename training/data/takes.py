"""Takes with picture and sound of the same moment, for fusion and evaluation.

In: a film, or an archive of face crops. Out: pictures with their time and where the face is, and
the sound on the same clock.
"""

from __future__ import annotations

import logging
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...engines.face_detector import Detector, open_detector
from . import DatasetError
from .media import decode_pictures, decode_sound
from .pictures import read_grey

log = logging.getLogger(__name__)

Box = tuple[float, float, float]
"""A square in pixels of its picture: left, top, side; may reach past the border."""

NUM_STEADY = 5
"""A box is the median of as many findings: more than half of them must err to move it."""
FACE_ZIP_PX = 224


class FaceView(NamedTuple):
    """One picture of a film."""

    t_s: float
    """From the beginning of the file."""
    image: NDArray[np.uint8]
    """(H, W, 3), red first."""
    box: Box | None
    """None until the first face is found; then the last known one."""


@dataclass(frozen=True, slots=True)
class Take:
    """One film: what is heard and what is seen, on one clock."""

    sound: NDArray[np.float32]
    """Mono (n,); sample 0 is at the beginning of the file, as time 0 of the faces is."""
    faces: list[FaceView]
    """Pictures in which the face is known, in order."""


def read_faces(path: Path, detector: Detector, every_s: float) -> Iterator[FaceView]:
    """Pictures of a film, at least `every_s` apart, each searched for its largest face.

    Raises DatasetError when the file cannot be decoded.
    """
    latest: deque[Box] = deque(maxlen=NUM_STEADY)
    for t_s, image in decode_pictures(path, every_s):
        found = detector.detect(image, "rgb8")
        if found:
            face = max(found, key=lambda one: one.size)
            latest.append((face.x, face.y, face.size))
        box = None
        if latest:
            x, y, size = (float(value) for value in np.median(latest, axis=0))
            box = (x - size / 2, y - size / 2, size)
        yield FaceView(t_s, image, box)


def load_take(
    path: Path, mel_rate: int, detector: Detector | None = None, every_s: float = 0.2
) -> Take:
    """Sound at `mel_rate` Hz and faces `every_s` apart; OpenCV's Haar cascade finds them unless
    another detector is given. Raises DatasetError, also when no face is found."""
    sound, first_s = decode_sound(path, mel_rate)
    silence = np.zeros(max(0, round(first_s * mel_rate)), np.float32)
    sound = np.concatenate([silence, sound])
    views = read_faces(path, detector or open_detector(), every_s)
    faces = [view for view in views if view.box is not None]
    if not faces:
        raise DatasetError(f"{path}: no face is found in it")
    return Take(sound, faces)


def load_face_zip(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Clips of an archive `CLIP/NN.webp` of face crops: (name, grey uint8 (K, 224, 224) by NN).

    A picture that cannot be read is logged and left out, and so is a clip without any. Raises
    DatasetError when the archive itself cannot be read or holds no clip.
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
                    image = read_grey(archive, str(member), FACE_ZIP_PX)
                    if image is None:
                        log.warning("left out: %s: %s cannot be read", path, member)
                    else:
                        images.append(image)
                if images:
                    empty = False
                    yield folder.name, np.stack(images)
    except (OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: not an archive of faces: {error}") from error
    if empty:
        raise DatasetError(f"{path}: holds no face of {FACE_ZIP_PX}x{FACE_ZIP_PX} pixels")

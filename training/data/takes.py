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
from ..errors import DatasetError
from .media import decode_audio, decode_frames
from .pictures import read_gray

log = logging.getLogger(__name__)

Box = tuple[float, float, float]
"""A square in pixels of its picture: left, top, side; may reach past the border."""

MEDIAN_WINDOW = 5
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
class Recording:
    """One film: what is heard and what is seen, on one clock."""

    audio: NDArray[np.float32]
    """Mono (n,); sample 0 is at the beginning of the file, as time 0 of the faces is."""
    faces: list[FaceView]
    """Pictures in which the face is known, in order."""


def read_faces(path: Path, detector: Detector, every_s: float) -> Iterator[FaceView]:
    """Pictures of a film, at least `every_s` apart, each searched for its largest face.

    Raises DatasetError when the file cannot be decoded.
    """
    latest: deque[Box] = deque(maxlen=MEDIAN_WINDOW)
    for t_s, image in decode_frames(path, every_s):
        found = detector.detect(image, "rgb8")
        if found:
            face = max(found, key=lambda one: one.size)
            latest.append((face.x, face.y, face.size))
        box = None
        if latest:
            x, y, size = (float(value) for value in np.median(latest, axis=0))
            box = (x - size / 2, y - size / 2, size)
        yield FaceView(t_s, image, box)


def load_recording(
    path: Path, mel_rate: int, detector: Detector | None = None, every_s: float = 0.2
) -> Recording:
    """Sound at `mel_rate` Hz and faces `every_s` apart; OpenCV's Haar cascade finds them unless
    another detector is given. Raises DatasetError, also when no face is found."""
    audio, first_s = decode_audio(path, mel_rate)
    silence = np.zeros(max(0, round(first_s * mel_rate)), np.float32)
    audio = np.concatenate([silence, audio])
    views = read_faces(path, detector or open_detector(), every_s)
    faces = [view for view in views if view.box is not None]
    if not faces:
        raise DatasetError(f"{path}: no face is found in it")
    return Recording(audio, faces)


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
                    image = read_gray(archive, str(member), FACE_ZIP_PX)
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

"""Faces with labels for the face detector, made by a teacher that ships nowhere: YuNet.

In: YuNet's ONNX file (Wu et al. 2023); tight faces (FER+), videos and pictures of one person.
Out: `FacePicture`s. A label has the face network's framing, `SIDE_PER_HEIGHT` of YuNet's height.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import DatasetError
from .cache import Arrays, FeatureCache
from .face_pictures import LABEL_SIZE, FacePicture, Gray, Labels
from .ferplus_files import find_layout
from .media import decode_frames

log = logging.getLogger(__name__)

SIDE_PER_HEIGHT = 0.95
MIN_TIGHT_SCORE, MIN_PERSON_SCORE = 0.75, 0.7
"""Least scores of the teacher for a label to be trusted, in tight faces and in other pictures."""
TIGHT_PX, TIGHT_BORDER_PX = 120, 36
"""Tight faces are enlarged, with their edges continued, because YuNet expects surroundings."""
PERSON_WIDTH_PX = 640
FRAMES_EVERY_S = 0.2
VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Teacher:
    """YuNet, run by OpenCV."""

    def __init__(self, file: Path) -> None:
        """Raises DatasetError when `file` is not YuNet."""
        self.file = file
        if not file.is_file():
            raise DatasetError(f"{file}: no such file")
        try:
            self._net = cv2.FaceDetectorYN.create(str(file), "", (32, 32), 0.5)
        except cv2.error as error:
            raise DatasetError(f"{file}: not a YuNet: {error.err}") from error

    def label(self, bgr: NDArray[np.uint8], min_score: float) -> Labels | None:
        """Return the label of the surest face in a picture, None without one."""
        self._net.setInputSize(bgr.shape[1::-1])
        rows: Any = self._net.detect(bgr)[1]  # None without a face, which the stubs do not say
        if rows is None:
            return None
        row = rows[np.argmax(rows[:, 14])]
        if row[14] <= min_score:
            return None
        x, y, width, height = row[:4]
        square = [x + width / 2, y + height / 2, height * SIDE_PER_HEIGHT]
        return np.array([*square, *row[4:14]], np.float32)


def label_tight_face(teacher: Teacher, image: Gray) -> FacePicture | None:
    """Return a tight square face with its label, None when the teacher does not see it."""
    enlarged = cv2.resize(image, (TIGHT_PX, TIGHT_PX), interpolation=cv2.INTER_CUBIC)
    border = (TIGHT_BORDER_PX,) * 4
    padded = cv2.copyMakeBorder(enlarged, *border, cv2.BORDER_REPLICATE)
    bgr = np.asarray(cv2.cvtColor(padded, cv2.COLOR_GRAY2BGR), np.uint8)
    label = teacher.label(bgr, MIN_TIGHT_SCORE)
    if label is None:
        return None
    label[[0, 1, *range(3, LABEL_SIZE)]] -= TIGHT_BORDER_PX
    return FacePicture(image, label / np.float32(TIGHT_PX / image.shape[1]))


def load_tight_faces(
    root: Path, split: str, teacher: Teacher, cache: FeatureCache | None = None
) -> list[FacePicture]:
    """Label the faces of a split of FER+. Raises DatasetError."""
    layout = find_layout(root, split)

    def build() -> Arrays:
        rows = tqdm(layout.read(), "labels", leave=False, disable=None)
        images = [image for row in rows if (image := row.decode()) is not None]
        labelled = [label_tight_face(teacher, image) for image in images]
        faces = [face for face in labelled if face is not None]
        return {
            "images": np.array([face.image for face in faces], np.uint8),
            "labels": np.array([face.label for face in faces], np.float32),
            "total": np.array(len(images)),
        }

    if cache is None:
        arrays = build()
    else:
        spec = {"split": split, "min_score": str(MIN_TIGHT_SCORE)}
        arrays = cache.load("face-labels", [*layout.files, teacher.file], spec, build)
    count = len(arrays["labels"])
    log.info("%s %s: the teacher labels %d of %d faces", root, split, count, arrays["total"])
    if not count:
        raise DatasetError(f"{root}: no face of {split} that the teacher sees")
    return [FacePicture(*pair) for pair in zip(arrays["images"], arrays["labels"], strict=True)]


def load_people(
    root: Path, teacher: Teacher, every_s: float = FRAMES_EVERY_S
) -> dict[str, list[FacePicture]]:
    """Label the videos and pictures of one person each under `root` -> pictures by file name.

    Raises DatasetError when there is none.
    """
    people: dict[str, list[FacePicture]] = {}
    for path in list_files(root, (*VIDEOS, *IMAGES)):
        labelled = [_label_person(teacher, bgr) for bgr in _read_bgr(path, every_s)]
        pictures = [picture for picture in labelled if picture is not None]
        if pictures:
            people[str(path.relative_to(root))] = pictures
    if not people:
        raise DatasetError(f"{root}: no video or picture in which the teacher sees a face")
    return people


def load_pictures(root: Path, max_side_px: int = 800) -> list[Gray]:
    """Read the pictures under `root` in grey, larger ones reduced. Raises DatasetError when there
    is none."""
    pictures: list[Gray] = []
    for path in list_files(root, IMAGES):
        image = _decode(path, cv2.IMREAD_GRAYSCALE)
        if image is None or min(image.shape) < 32:
            log.warning("left out: %s: no picture of 32 pixels or more", path)
            continue
        factor = max_side_px / max(image.shape)
        if factor < 1:
            size = round(image.shape[1] * factor), round(image.shape[0] * factor)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        pictures.append(image)
    if not pictures:
        raise DatasetError(f"{root}: no picture")
    return pictures


def list_files(root: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files under `root` with these suffixes, sorted. Raises DatasetError."""
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes)


def _read_bgr(path: Path, every_s: float) -> Iterator[NDArray[np.uint8]]:
    if path.suffix.lower() in VIDEOS:
        for _, frame in decode_frames(path, every_s):
            height, width = frame.shape[:2]
            size = PERSON_WIDTH_PX, round(height * PERSON_WIDTH_PX / width)
            bgr = np.ascontiguousarray(frame[..., ::-1])
            yield np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
        return
    image = _decode(path, cv2.IMREAD_COLOR)
    if image is None:
        log.warning("left out: %s: not a picture", path)
    else:
        yield image


def _label_person(teacher: Teacher, bgr: NDArray[np.uint8]) -> FacePicture | None:
    label = teacher.label(bgr, MIN_PERSON_SCORE)
    if label is None:
        return None
    return FacePicture(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8), label, True)


def _decode(path: Path, flags: int) -> NDArray[np.uint8] | None:
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), flags)  # type: ignore[return-value]
    except (OSError, cv2.error):
        return None

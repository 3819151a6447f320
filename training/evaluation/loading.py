"""Reads one example from its files: pictures at the device's rate of looking, sound at the mel's
rate, nothing else changed. Everything here raises DatasetError, naming the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...engines.face_detector import Detector
from ..data import DatasetError
from ..data.media import decode_sound
from ..data.pictures import read_picture
from ..data.takes import read_faces
from .judges import FACE_EVERY_S
from .material import Face, Material, cut_face


def load_sound(path: Path, sample_rate_hz: int) -> Material:
    return Material(sound=decode_sound(path, sample_rate_hz)[0])


def load_picture(path: Path, detector: Detector) -> Material:
    """Its largest face; a square picture in which none is found is taken for a face that was cut
    out already, as in training."""
    picture = read_picture(path)
    height, width = picture.shape[:2]
    found = detector.detect(picture, "rgb8")
    if found:
        x, y, size, _ = max(found, key=lambda face: face.size)
        return Material(faces=(cut_face(0.0, picture, (x - size / 2, y - size / 2, size)),))
    if height != width:
        raise DatasetError(f"{path}: no face is found in it")
    return Material(faces=(cut_face(0.0, picture, (0.0, 0.0, float(width))),))


def load_film(path: Path, detector: Detector) -> Material:
    """The faces of a film, without its sound."""
    return Material(faces=tuple(_look(path, detector)))


def load_pair(film: Path, voice: Path, detector: Detector, sample_rate_hz: int) -> Material:
    """The faces of `film` and the sound of `voice`, which may be the same file; two files of one
    take begin at the same moment."""
    sound, first_s = decode_sound(voice, sample_rate_hz)
    return Material(tuple(_look(film, detector)), sound, first_s if film == voice else 0.0)


def _look(path: Path, detector: Detector) -> Iterator[Face]:
    for view in read_faces(path, detector, FACE_EVERY_S):
        if view.box is not None:
            yield cut_face(view.t_s, np.asarray(view.image), view.box)

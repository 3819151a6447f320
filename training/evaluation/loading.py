"""Reads one example from its files: pictures at the device's rate of looking, sound at the mel's
rate, nothing else changed. Everything here raises DatasetError, naming the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...engines.face_detector import Detector
from ..data import decode_audio, read_faces, read_image
from ..errors import DatasetError
from .material import ExampleMedia, Face, cut_face
from .scorers import FACE_EVERY_S


def load_audio(path: Path, sample_rate_hz: int) -> ExampleMedia:
    return ExampleMedia(audio=decode_audio(path, sample_rate_hz)[0])


def load_image(path: Path, detector: Detector) -> ExampleMedia:
    """Its largest face; a square picture in which none is found is taken for a face that was cut
    out already, as in training."""
    image = read_image(path)
    height, width = image.shape[:2]
    found = detector.detect(image, "rgb8")
    if found:
        x, y, size, _ = max(found, key=lambda face: face.size)
        return ExampleMedia(faces=(cut_face(0.0, image, (x - size / 2, y - size / 2, size)),))
    if height != width:
        raise DatasetError(f"{path}: no face is found in it")
    return ExampleMedia(faces=(cut_face(0.0, image, (0.0, 0.0, float(width))),))


def load_video(path: Path, detector: Detector) -> ExampleMedia:
    """The faces of a film, without its sound."""
    return ExampleMedia(faces=tuple(_look(path, detector)))


def load_pair(video: Path, voice: Path, detector: Detector, sample_rate_hz: int) -> ExampleMedia:
    """The faces of `video` and the sound of `voice`, which may be the same file; two files of one
    take begin at the same moment."""
    audio, first_s = decode_audio(voice, sample_rate_hz)
    return ExampleMedia(tuple(_look(video, detector)), audio, first_s if video == voice else 0.0)


def _look(path: Path, detector: Detector) -> Iterator[Face]:
    for view in read_faces(path, detector, FACE_EVERY_S):
        if view.box is not None:
            yield cut_face(view.t_s, np.asarray(view.image), view.box)

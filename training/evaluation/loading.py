"""Reads one example from its files: frames and audio as a camera and a microphone give them.

In: files, a face detector. Out: `ExampleMedia`. Everything here raises DatasetError, naming the
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...engines.bundles import Bundle
from ...engines.face_detector import Detector, make_face_tracker
from ..data import decode_audio, decode_frames, read_faces, read_image
from ..errors import DatasetError
from .material import ExampleMedia, Face, cut_face

FACE_EVERY_S = 0.1
"""Time between the faces of a video that is scored by its faces alone."""


class _Frame(NamedTuple):
    t_ns: int
    image: NDArray[np.uint8]
    format: str


def load_audio(path: Path, sample_rate_hz: int) -> ExampleMedia:
    """A recording at `sample_rate_hz`."""
    return ExampleMedia(audio=decode_audio(path, sample_rate_hz)[0])


def load_image(path: Path, detector: Detector) -> ExampleMedia:
    """The largest face of an image. A square image without a detected face counts as a face that
    was cut out already, as in training."""
    image = read_image(path)
    height, width = image.shape[:2]
    detections = detector.detect(image, "rgb8")
    if detections:
        face = max(detections, key=lambda face: face.size)
        box = face.x - face.size / 2, face.y - face.size / 2, face.size, face.roll
        return ExampleMedia(faces=(cut_face(0.0, image, box),))
    if height != width:
        raise DatasetError(f"{path}: no face is detected in it")
    return ExampleMedia(faces=(cut_face(0.0, image, (0.0, 0.0, float(width), 0.0)),))


def load_video(path: Path, detector: Detector) -> ExampleMedia:
    """The faces of a video, one each `FACE_EVERY_S`, without its audio."""
    views = read_faces(path, detector, FACE_EVERY_S)
    return ExampleMedia(
        faces=tuple(
            cut_face(view.t_s, np.asarray(view.image), view.box)
            for view in views
            if view.box is not None
        )
    )


def load_pair(video: Path, voice: Path, detector: Detector, bundle: Bundle) -> ExampleMedia:
    """The face in every frame of `video`, tracked as on the device at the bundle's best level, and
    the audio of `voice`. The two may be one file; two files of one recording begin at the same
    moment."""
    audio, first_s = decode_audio(voice, bundle.manifest.mel.sample_rate_hz)
    tracker = make_face_tracker(detector)
    tracker.period_ns = round(1e9 / bundle.manifest.levels[0].face_find_hz)
    search_due_ns = 0
    times_s: list[float] = []
    faces: list[Face] = []
    for t_s, image in decode_frames(video):
        frame = _Frame(round(t_s * 1e9), image, "rgb8")
        times_s.append(t_s)
        if frame.t_ns >= search_due_ns:
            tracker.track(frame)
            search_due_ns = frame.t_ns + tracker.period_ns
        boxes = tracker.faces_for(frame)
        if boxes and boxes[0].trusted:
            box = boxes[0]
            place = box.x, box.y, box.size, box.roll
            faces.append(cut_face(t_s, image, place, box.id))
    return ExampleMedia(tuple(faces), audio, first_s if video == voice else 0.0, tuple(times_s))

"""The bundle's face detector: a small network, run by ONNX Runtime on one thread.

In: an image of any format and size. Out: squares around faces, and how far each head is tilted.
The network reads luma (1, 1, H, W) on 0..255, H and W multiples of 32, and gives for N places the
probability of a face, a square (centre x, y, side) and five landmarks (x, y: eye on the image's
left, eye on the right, nose, mouth corners), all in pixels of its input.
"""

from __future__ import annotations

import copy
import hashlib
import math
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..kernels.pixels import find_format, image_size
from .base import EngineError
from .bundles import FaceDetectorEntry
from .detection import Detection, TrackingScores
from .golden import check_golden_scores, golden_luma, pick_golden_scores
from .onnx_runtime import open_session, run_cancellable

MAX_WIDTH_PX, MAX_HEIGHT_PX = 448, 640
"""Images are reduced to fit: a face of a twentieth of a camera's width has 22 pixels then. The
height limits the work for tall images."""
STRIDE_PX = 32
KEEP_SHARE = 0.6
"""Share of the least score from which a face that is followed already counts as detected again: a
head that turns away scores less for a moment."""
MAX_OVERLAP = 0.35
"""Of two squares with a larger intersection over union only the more probable one is a face."""
MAX_CANDIDATES = 300
"""The most probable squares that are compared with each other."""
MIN_EYE_DISTANCE = 0.3
"""Of the side. Eyes closer than this, of a head turned away, say little about its tilt."""
MAX_REFINED, MAX_REFINEMENTS = 4, 2
"""Faces whose tilt is measured again, and how often."""
REFINED_PX = 96
"""Side of the square in which it is measured; the face's is half of that."""
SMALL_ROLL_RAD = 0.14
"""A smaller tilt is measured exactly enough at once."""
_TO_GRAY = {"bgr8": cv2.COLOR_BGR2GRAY, "rgb8": cv2.COLOR_RGB2GRAY}
_SIZES = {"scores": (), "boxes": (3,), "landmarks": (10,)}
"""Outputs of the network, and their sizes for one place."""

Float32 = NDArray[np.float32]


class DetectionNetwork:
    """A `Detector`, for one thread."""

    def __init__(
        self,
        path: Path,
        min_score: float,
        min_label_score: float = 0.0,
        model: bytes | None = None,
    ) -> None:
        """Open the ONNX file, or the bytes `model`, which `path` then names. Raises EngineError
        when it is none, or another network."""
        self._path, self._min_score = path, min_score
        self._min_label_score = min_label_score
        try:
            model = path.read_bytes() if model is None else model
        except OSError as error:
            raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
        self._session = open_session(path, model, 1)
        self.sha256 = hashlib.sha256(model).hexdigest()
        """Of the file: caches of what it detects are void when it changes."""
        inputs = [(value.name, value.type) for value in self._session.get_inputs()]
        outputs = {value.name for value in self._session.get_outputs()}
        if inputs != [("image", "tensor(float)")] or not outputs >= set(_SIZES):
            raise EngineError(
                f"{path}: no face detector: its inputs are {inputs} and its outputs"
                f" {sorted(outputs)}, wanted: image and {', '.join(_SIZES)}"
            )

    def for_tracking(self) -> DetectionNetwork:
        """Return the same detector for a tracker, which needs `tracking_scores`: it gives faces
        from `KEEP_SHARE` of the least score on."""
        lenient = copy.copy(self)
        lenient._min_score *= KEEP_SHARE
        return lenient

    @property
    def tracking_scores(self) -> TrackingScores:
        return TrackingScores(self._min_score, self._min_label_score)

    def detect(self, image: NDArray[np.uint8], pixel_format: str) -> list[Detection]:
        """As in `Detector`. Raises also EngineError, for outputs that are no detections."""
        luma, scale = prepare_luma(image, pixel_format)
        faces = find_faces(*self.run(luma), self._min_score, scale)
        return [
            face._replace(roll=self._refine_roll(luma, face, scale)) if at < MAX_REFINED else face
            for at, face in enumerate(faces)
        ]

    def _refine_roll(self, luma: Float32, face: Detection, scale: float) -> float:
        """Measure the tilt again on the face turned upright by what is known of it, until little is
        left: the network underestimates large tilts."""
        roll = face.roll
        if abs(roll) < SMALL_ROLL_RAD:
            return roll
        for _ in range(MAX_REFINEMENTS):
            upright = turn_upright(luma, face, roll, scale)
            scores, boxes, landmarks = self.run(upright)
            off = np.abs(boxes[:, :2] - REFINED_PX / 2).max(axis=1)
            at = int(np.argmax(np.where(off < REFINED_PX / 8, scores, -1.0)))
            if off[at] >= REFINED_PX / 8 or scores[at] < self._min_score / 2:
                break
            left = measure_roll(landmarks[at].reshape(5, 2), float(boxes[at, 2]))
            roll += left
            if abs(left) < SMALL_ROLL_RAD:
                break
        return math.remainder(roll, math.tau)

    def check(self, luma: Float32) -> Float32:
        """Return the scores (N,) of a first run, which has an end. Raises EngineError."""
        scores = run_cancellable(str(self._path), lambda options: self.run(luma, options)[0])
        if not len(scores):
            raise EngineError(f"{self._path}: gives no scores for the golden input")
        return scores

    def run(
        self, luma: Float32, options: ort.RunOptions | None = None
    ) -> tuple[Float32, Float32, Float32]:
        """Return scores (N,), boxes (N, 3) and landmarks (N, 10), all of them finite. Raises
        EngineError."""
        try:
            arrays = self._session.run(list(_SIZES), {"image": luma}, options)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise EngineError(f"{self._path}: ONNX Runtime failed: {error}") from error
        count = arrays[0].shape[:1]
        for (name, size), array in zip(_SIZES.items(), arrays, strict=True):
            if array.dtype != np.float32 or array.shape != (*count, *size) or not count:
                raise EngineError(
                    f"{self._path}: its output {name} is {array.dtype}{list(array.shape)}, not"
                    f" float32{['N', *size]}"
                )
            if not np.isfinite(array).all():
                raise EngineError(
                    f"{self._path}: its output {name} has numbers that are not finite"
                )
        scores, boxes, landmarks = arrays
        return scores, boxes, landmarks


def open_detection_network(
    folder: Path, entry: FaceDetectorEntry, model: bytes | None = None
) -> DetectionNetwork:
    """Open and verify the face detector of a bundle: its file, or the bytes `model` of it. Raises
    EngineError."""
    path = folder / entry.file
    network = DetectionNetwork(path, entry.min_score, entry.min_label_score, model)
    check_golden_scores(network.check(golden_luma()), entry.golden_scores, path)
    return network


def describe_detection_network(path: Path, min_score: float) -> FaceDetectorEntry:
    """Return the bundle's entry for a face detector's ONNX file. Raises EngineError."""
    scores = DetectionNetwork(path, min_score).check(golden_luma())
    return FaceDetectorEntry(path.name, min_score, pick_golden_scores(scores))


def prepare_luma(image: NDArray[np.uint8], pixel_format: str) -> tuple[Float32, float]:
    """Reduce an image to the network's input -> ((1, 1, H, W), source pixels per pixel of it).

    Up to a multiple of `STRIDE_PX` the border is repeated. Luma is in full range, as in pictures.
    """
    height, width = image_size(image, pixel_format)
    scale = max(1.0, width / MAX_WIDTH_PX, height / MAX_HEIGHT_PX)
    size = max(1, round(width / scale)), max(1, round(height / scale))
    # A mean over whole pixels after a linear step of at most two: averages out noise and fine
    # patterns nearly as a mean over fractions of pixels does, at a fifth of the cost.
    factor = math.ceil(scale / 2)
    larger = size[0] * factor, size[1] * factor
    ycbcr = find_format(pixel_format).ycbcr
    if ycbcr is None:
        small = cv2.cvtColor(cv2.resize(image, larger), _TO_GRAY[pixel_format])
    else:
        small = cv2.resize(image[..., 0] if image.ndim == 3 else image[:height], larger)
    if factor > 1:
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    bottom, right = (-size[1] % STRIDE_PX, -size[0] % STRIDE_PX)
    padded = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    luma = padded.astype(np.float32)
    if ycbcr is not None and not ycbcr.full_range:
        luma = np.clip((luma - ycbcr.black) * np.float32(ycbcr.luma_gain), 0.0, 255.0)
    return luma[None, None], scale


def turn_upright(luma: Float32, face: Detection, roll: float, scale: float) -> Float32:
    """Return (1, 1, `REFINED_PX`, `REFINED_PX`) of the network's input around a face, turned by
    `-roll`."""
    step = 2 * face.size / scale / REFINED_PX
    cos, sin, half = math.cos(roll) * step, math.sin(roll) * step, REFINED_PX / 2
    x, y = face.x / scale, face.y / scale
    turn = np.array([[cos, -sin, x - (cos - sin) * half], [sin, cos, y - (sin + cos) * half]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    upright = cv2.warpAffine(
        luma[0, 0], turn, (REFINED_PX,) * 2, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(upright, np.float32)[None, None]


def find_faces(
    scores: Float32, boxes: Float32, landmarks: Float32, min_score: float, scale: float
) -> list[Detection]:
    """Return the faces among the network's outputs, in pixels of the source, the most probable one
    first."""
    chosen = np.flatnonzero((scores >= min_score) & (boxes[:, 2] >= 1.0))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")[:MAX_CANDIDATES]]
    kept: list[int] = []
    while chosen.size:
        best, chosen = chosen[0], chosen[1:]
        kept.append(int(best))
        chosen = chosen[_overlap(boxes[best], boxes[chosen]) <= MAX_OVERLAP]
    return [
        Detection(
            x * scale,
            y * scale,
            side * scale,
            float(scores[at]),
            measure_roll(landmarks[at].reshape(5, 2), side),
        )
        for at in kept
        for x, y, side in [boxes[at].tolist()]
    ]


def _overlap(box: Float32, others: Float32) -> Float32:
    """Return the intersection over union of a square (centre x, y, side) with each of `others`."""
    half, halves = box[2] / 2, others[:, 2:] / 2
    low = np.maximum(box[:2] - half, others[:, :2] - halves)
    high = np.minimum(box[:2] + half, others[:, :2] + halves)
    common = np.prod(np.maximum(high - low, 0.0), axis=1)
    return np.asarray(common / (box[2] ** 2 + others[:, 2] ** 2 - common), np.float32)


def measure_roll(landmarks: Float32, side: float) -> float:
    """Return the angle of the line through the eyes, `Detection.roll`.

    The closer the eyes are, the more counts the line from between them to the mouth, which is at
    right angles to it and keeps its length when the head turns away.
    """
    left_eye, right_eye, _, *mouth = landmarks.astype(float)
    eyes = right_eye - left_eye
    down = (mouth[0] + mouth[1] - left_eye - right_eye) / 2
    share = max(0.0, 1.0 - float(np.hypot(*eyes)) / (MIN_EYE_DISTANCE * side))
    x, y = (1.0 - share) * eyes + share * np.array([down[1], -down[0]])
    return float(np.arctan2(y, x))

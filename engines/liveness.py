"""Liveness of a face: whether anything has ever moved within it.

In: frames, and the box of one face in them. Out: whether it is a picture of a face, such as a
poster. A picture moves and turns as a whole, dims with the light and has the sensor's noise, so two
crops of it are equal after an affine registration, up to noise. A living face blinks, speaks and
turns within a second.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..kernels.pixels import find_format, image_size

STILL_NS = 3_000_000_000
"""A face is taken for a picture after this long without motion within it..."""
MIN_STILL = 6
"""... and after this many comparisons."""
COMPARED_NS = 400_000_000
"""Time between the crops compared, at least: within it even a calm face moves."""
MIN_CHANGE = 0.2
"""Smallest motion: a change of the blurred crop somewhere, in standard deviations of the crop..."""
MIN_NOISE_SHARE = 5.0
"""... and in standard deviations of the noise that is left. Of noise alone it stays below both."""
MAX_NOISE = 0.07
"""With more noise, in standard deviations of the crop, motion cannot be told from it."""
MIN_CORRELATION = 0.8
"""A registration under this has failed, or the whole face has turned away."""
MIN_SCENE_CHANGE = 0.2
"""Mean change of the image's pixels in gray levels from one frame to the next. A sensor's noise
alone exceeds it; a still image, repeated or encoded as a video, does not."""

CROP_PX, MARGIN_PX = 48, 12
"""Side of the face in a crop, and the room around it in which it may have moved."""
_SIDE_PX = CROP_PX + 2 * MARGIN_PX
_WHITE = 245
"""Pixels from this on may be clipped, or outside the image."""
_BLUR_PX = 5
_SAMPLES = 64
"""Pixels per row and column that stand for the scene."""
_QUARTILE = 0.3186
"""Lower quartile of the absolute value of a standard normal variable."""

Crop = NDArray[np.float32]


def _make_ellipse() -> NDArray[np.bool_]:
    """Return the pixels of a crop that show the face, and not the background at its corners."""
    at = (np.arange(CROP_PX) - (CROP_PX - 1) / 2) / CROP_PX
    return np.asarray((at[None] / 0.40) ** 2 + (at[:, None] / 0.44) ** 2 < 1)


_ELLIPSE = _make_ellipse()


class Scene:
    """Whether the frames are of a live scene, and not one still image again and again."""

    def __init__(self) -> None:
        self.moves = False
        """From the frame before the newest to the newest."""
        self._samples: NDArray[np.int16] | None = None

    def update(self, image: NDArray[np.uint8], pixel_format: str) -> None:
        gray = view_gray(image, pixel_format)
        step = max(1, min(gray.shape) // _SAMPLES)
        samples = gray[::step, ::step].astype(np.int16)
        before, self._samples = self._samples, samples
        self.moves = (
            before is not None
            and before.shape == samples.shape
            and (float(np.abs(samples - before).mean()) > MIN_SCENE_CHANGE)
        )

    def wipe(self) -> None:
        if self._samples is not None:
            self._samples.fill(0)
            self._samples = None


class LivenessCheck:
    """The motion within one face."""

    def __init__(self) -> None:
        self.is_picture = False
        """Nothing has moved within it for several seconds. One motion makes it a face for good."""
        self._has_moved = False
        self._crops: deque[tuple[int, Crop]] = deque()
        self._num_still = 0
        self._still_since_ns = 0

    def update(
        self,
        t_ns: int,
        image: NDArray[np.uint8],
        pixel_format: str,
        square: tuple[float, float, float],
        scene_moves: bool,
    ) -> None:
        """Take the face in the `square` (left, top, side) of the frame of `t_ns`. `scene_moves`: of
        `Scene`. A still image says nothing."""
        if self._has_moved:
            return
        crops = self._crops
        newest = cut_crop(image, pixel_format, square)
        while len(crops) > 1 and t_ns - crops[1][0] >= COMPARED_NS:
            crops.popleft()[1].fill(0.0)
        if crops and t_ns - crops[0][0] >= COMPARED_NS and scene_moves:
            self._judge(crops[0][0], t_ns, compare_crops(crops[0][1], newest))
        if self._has_moved:
            newest.fill(0.0)
        else:
            crops.append((t_ns, newest))

    def _judge(self, before_ns: int, t_ns: int, change: Change) -> None:
        if change == "moved":
            self._has_moved, self.is_picture = True, False
            self.wipe()
        elif change == "still":
            if self._num_still == 0:
                self._still_since_ns = before_ns
            self._num_still += 1
            lasts = t_ns - self._still_since_ns >= STILL_NS
            self.is_picture = lasts and self._num_still >= MIN_STILL

    def wipe(self) -> None:
        """Overwrite the crops with zeros."""
        for _, crop in self._crops:
            crop.fill(0.0)
        self._crops.clear()


def view_gray(image: NDArray[np.uint8], pixel_format: str) -> NDArray[np.uint8]:
    """Return a view of the image's luma, or of its green, which is nearest to it."""
    layout = find_format(pixel_format).layout
    if layout == "nv12":
        return image[: image_size(image, pixel_format)[0]]
    return image[..., 0 if layout == "yuyv" else 1]


def cut_crop(
    image: NDArray[np.uint8], pixel_format: str, square: tuple[float, float, float]
) -> Crop:
    """Return the square with a margin around it, on 0..255; white outside the image."""
    gray = view_gray(image, pixel_format)
    height, width = gray.shape
    left, top, side = square
    reach = side * MARGIN_PX / CROP_PX
    x0, y0 = round(left - reach), round(top - reach)
    x1, y1 = round(left + side + reach), round(top + side + reach)
    inside = gray[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
    if 0 in inside.shape:
        return np.full((_SIDE_PX, _SIDE_PX), 255, np.float32)
    padded = cv2.copyMakeBorder(
        inside,
        max(0, -y0),
        max(0, y1 - height),
        max(0, -x0),
        max(0, x1 - width),
        cv2.BORDER_CONSTANT,
        value=(255,),
    )
    method = cv2.INTER_AREA if side > CROP_PX else cv2.INTER_LINEAR
    crop = cv2.resize(padded, (_SIDE_PX, _SIDE_PX), interpolation=method)
    return np.asarray(crop, np.float32)


Change = Literal["moved", "still", "unknown"]


def compare_crops(before: Crop, after: Crop) -> Change:
    """Return whether something moved within the face between two crops."""
    registered = _register(before, after)
    if registered is None:
        return "unknown"
    first, second = registered
    shown = _ELLIPSE & (first < _WHITE) & (second < _WHITE)
    if shown.sum() < _ELLIPSE.sum() / 2:
        return "unknown"
    a, b = first[shown] - first[shown].mean(), second[shown] - second[shown].mean()
    contrast = float(a.std())
    if contrast < 1.0:
        return "unknown"
    difference = np.zeros_like(first)
    difference[shown] = b * (a @ b / max(float(b @ b), 1e-6)) - a
    smooth = cv2.blur(difference, (_BLUR_PX, _BLUR_PX))
    rest = np.abs((difference - smooth)[shown])
    noise = float(np.quantile(rest, 0.25)) / _QUARTILE / contrast
    change = float(np.abs(smooth[shown]).max()) / contrast
    if change > max(MIN_CHANGE, MIN_NOISE_SHARE * noise):
        return "moved"
    return "unknown" if noise > MAX_NOISE else "still"


def _register(before: Crop, after: Crop) -> tuple[Crop, Crop] | None:
    """Return the face in both crops, the second brought onto the first by an affine map that
    maximises their correlation (Evangelidis and Psarakis 2008); None where that fails."""
    inner = slice(MARGIN_PX, MARGIN_PX + CROP_PX)
    first = np.ascontiguousarray(cv2.GaussianBlur(before, (0, 0), 1.0)[inner, inner])
    second = cv2.GaussianBlur(after, (0, 0), 1.0)
    matches = cv2.matchTemplate(second, first, cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(int(matches.argmax()), matches.shape)
    start = np.array([[1, 0, x], [0, 1, y]], np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
    try:
        correlation, found = cv2.findTransformECC(
            first, second, start, cv2.MOTION_AFFINE, criteria, None, 1
        )
    except cv2.error:  # no affine map fits: it diverged
        return None
    if correlation < MIN_CORRELATION:
        return None
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, found, first.shape, flags=flags, borderValue=(255,))
    return first, np.asarray(moved, np.float32)

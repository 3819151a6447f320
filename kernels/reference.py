"""Reference implementation of the face pass and the log-mel, in plain NumPy.

Slow and short. The tests hold every other backend to it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pixels import find_format, image_size
from .spec import ImageSpec, MelSpec, Pcen, Root

MAX_BILINEAR_STEP = 2.5
"""Source pixels per output pixel from which two neighbours no longer represent the output pixel."""

MIN_ROLL_RAD = math.radians(2.0)
"""A box turned by less than this is cropped upright, which costs less. Detectors are no more exact
than that, and the face network is trained on faces turned further."""

TAP_OFFSET = 2.0**-20
"""Added to a quarter point before it is rounded down. A point exactly between two pixels then falls
on the second one, however a backend rounds."""

Box = tuple[float, float, float, float]
"""A square in an image: x and y of its top left corner and its side, in pixels, before it is turned
about its centre by `roll`, the fourth. Roll is in radians, positive clockwise as seen (y points
down)."""
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def hann_window(spec: MelSpec) -> Float64:
    """Return the periodic Hann window, (window,)."""
    n = np.arange(spec.window)
    return 0.5 - 0.5 * np.cos(2 * np.pi * n / spec.window)


def hz_to_mel(hz: Float64 | float) -> Float64:
    """Convert Hz to mel, HTK scale: 2595 log10(1 + f / 700) (The HTK Book, Young et al., 5.13)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0))


def mel_to_hz(mel: Float64) -> Float64:
    """Invert `hz_to_mel`."""
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


def mel_filters(spec: MelSpec) -> Float64:
    """Return triangular filters, (num_mels, fft_size / 2 + 1): peak 1, equally spaced in mel."""
    edges_hz = mel_to_hz(
        np.linspace(hz_to_mel(spec.low_hz), hz_to_mel(spec.high_hz), spec.num_mels + 2)
    )
    bins_hz = np.arange(spec.fft_size // 2 + 1) * spec.sample_rate_hz / spec.fft_size
    low, centre, high = (edges_hz[i : i + spec.num_mels, None] for i in range(3))
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def num_columns(num_samples: int, spec: MelSpec) -> int:
    """Count the complete columns of `num_samples` samples that start on the hop grid."""
    return max(0, (num_samples - spec.window) // spec.hop + 1)


def log_mel(samples: Float32, spec: MelSpec, previous: float = 0.0) -> Float32:
    """Compute the normalized log-mel of audio: (n,) -> (num_mels, num_columns(n)), or what the
    spec has instead of the logarithm, see `compress`.

    `previous` is the sample before the first one, for the pre-emphasis `y[n] = x[n] - a x[n-1]`.
    It is 0 at the start of a stream. Samples that are not finite count as 0; all others are clipped
    to full scale, -1..1.
    """
    clean = np.clip(np.nan_to_num(samples.astype(np.float64), posinf=0.0, neginf=0.0), -1, 1)
    emphasised = clean - spec.preemphasis * np.concatenate(([previous], clean[:-1]))
    count = num_columns(len(samples), spec)
    starts = np.arange(count) * spec.hop
    frames = emphasised[starts[:, None] + np.arange(spec.window)] * hann_window(spec)
    power = np.abs(np.fft.rfft(frames, spec.fft_size, axis=1)) ** 2
    return compress(mel_filters(spec) @ power.T, spec).astype(np.float32)


def compress(power: Float64, spec: MelSpec) -> Float64:
    """Compress the dynamic range of mel power (num_mels, T), and standardise it.

    For `Pcen` the first column is the first of the stream.
    """
    rule = spec.compression
    if isinstance(rule, Root):
        return np.asarray(((power + spec.floor) ** rule.exponent - rule.mean) / rule.std)
    if isinstance(rule, Pcen):
        smooth = power.copy()
        for k in range(1, power.shape[1]):
            smooth[:, k] = smooth[:, k - 1] + rule.smoothing * (power[:, k] - smooth[:, k - 1])
        ratio = power / (spec.floor + smooth) ** rule.gain
        result = (ratio + rule.bias) ** rule.exponent - rule.bias**rule.exponent
        return np.asarray((result - rule.mean) / rule.std)
    return np.asarray((np.log(power + spec.floor) - spec.mean) / spec.std)


def face_tensor(
    image: NDArray[np.uint8],
    box: Box,
    size_px: int,
    spec: ImageSpec,
    pixel_format: str = "bgr8",
) -> Float32:
    """Crop, resize and scale a face: image + box -> (3, size_px, size_px), channels R G B."""
    blended = sample_face(to_rgb(image, pixel_format), box, size_px)
    scaled = (blended / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32)


def sample_face(pixels: NDArray[Any], box: Box, size_px: int) -> Float64:
    """Crop and resize a face: (height, width, channels) -> (size_px, size_px, channels).

    Each output pixel blends four source pixels: of an upright box two rows and two columns, see
    `taps`, of a turned one those of `turned_taps`.
    """
    height, width = pixels.shape[:2]
    x, y, side, roll = box
    if abs(roll) >= MIN_ROLL_RAD:
        rows, columns, weights = turned_taps(box, size_px, height, width)
        return np.asarray((pixels[rows, columns] * weights[..., None]).sum(axis=0))
    row0, row1, down = taps(y, side, size_px, height)
    col0, col1, right = taps(x, side, size_px, width)
    down, right = down[:, None, None], right[None, :, None]
    top = pixels[row0][:, col0] * (1 - right) + pixels[row0][:, col1] * right
    bottom = pixels[row1][:, col0] * (1 - right) + pixels[row1][:, col1] * right
    return np.asarray(top * (1 - down) + bottom * down)


def to_rgb(image: NDArray[np.uint8], pixel_format: str) -> Float64:
    """Convert an image to (height, width, 3), R G B on 0..255, not rounded.

    Y'CbCr is converted by its encoding and range, see `pixels.YCbCr`. All pixels of a chroma group
    have the group's chroma: chroma is not interpolated.
    """
    height, width = image_size(image, pixel_format)
    layout, ycbcr = find_format(pixel_format).layout, find_format(pixel_format).ycbcr
    if ycbcr is None:
        return (image[..., ::-1] if layout == "bgr8" else image).astype(np.float64)
    if layout == "yuyv":
        luma = image[..., 0]
        u, v = (np.repeat(image[:, k::2, 1], 2, axis=1) for k in (0, 1))
    else:
        luma, chroma = image[:height], image[height:].reshape(height // 2, width // 2, 2)
        u, v = (chroma[..., k].repeat(2, axis=0).repeat(2, axis=1) for k in (0, 1))
    kr, kb = ycbcr.kr, ycbcr.kb
    y = (luma.astype(np.float64) - ycbcr.black) * ycbcr.luma_gain
    red = y + 2 * (1 - kr) * ycbcr.chroma_gain * (v.astype(np.float64) - 128)
    blue = y + 2 * (1 - kb) * ycbcr.chroma_gain * (u.astype(np.float64) - 128)
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255)


def taps(
    origin: float, side: float, size_px: int, limit: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float64]:
    """Return, along one axis, two source positions per output pixel and the second one's weight.

    Below a step of `MAX_BILINEAR_STEP` the resize is bilinear: output pixel i lies at
    `origin + (i + 0.5) * step - 0.5`, step = side / size_px, pixel centres at integers. From that
    step on, an output pixel is the mean of the two pixels under its quarter points, which cover
    more of the source than two neighbours. Beyond the border the border's pixel is repeated.
    """
    step = side / size_px
    i = np.arange(size_px)
    if step < MAX_BILINEAR_STEP:
        place = np.clip(origin + (i + 0.5) * step - 0.5, 0, limit - 1)
        first = place.astype(np.intp)
        return first, np.minimum(first + 1, limit - 1), place - first
    quarters = origin + (i + np.array([[0.25], [0.75]])) * step + TAP_OFFSET
    first, second = np.clip(np.floor(quarters), 0, limit - 1).astype(np.intp)
    return first, second, np.full(size_px, 0.5)


def turned_taps(
    box: Box, size_px: int, height: int, width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Float64]:
    """Return the four source pixels of each output pixel of a turned box, and their weights: rows,
    columns and weights, each (4, size_px, size_px).

    The grid of output pixels is that of `taps`, turned by `roll` about the box's centre: its rows
    run along (cos roll, sin roll) in the image. Below `MAX_BILINEAR_STEP` the four are the
    neighbours of the output pixel's place, from that step on those under its four quarter points.
    """
    x, y, side, roll = box
    step = side / size_px
    cos, sin = math.cos(roll), math.sin(roll)
    i = np.arange(size_px) - size_px / 2

    def place(right: float, down: float) -> tuple[Float64, Float64]:
        """Return the position, row and column, of a point of each output pixel."""
        along, across = (i[None, :] + right) * step, (i[:, None] + down) * step
        row = y + side / 2 + along * sin + across * cos
        column = x + side / 2 + along * cos - across * sin
        return row, column

    if step >= MAX_BILINEAR_STEP:
        quarters = [place(right, down) for down in (0.25, 0.75) for right in (0.25, 0.75)]
        places = np.floor(np.array(quarters) + TAP_OFFSET)
        rows = np.clip(places[:, 0], 0, height - 1).astype(np.intp)
        columns = np.clip(places[:, 1], 0, width - 1).astype(np.intp)
        return rows, columns, np.full(rows.shape, 0.25)
    row, column = place(0.5, 0.5)
    row, column = np.clip(row - 0.5, 0, height - 1), np.clip(column - 0.5, 0, width - 1)
    top, left = row.astype(np.intp), column.astype(np.intp)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = row - top, column - left
    weights = (
        (1 - down) * (1 - across),
        (1 - down) * across,
        down * (1 - across),
        down * across,
    )
    return (
        np.stack([top, top, bottom, bottom]),
        np.stack([left, right, left, right]),
        np.stack(weights),
    )

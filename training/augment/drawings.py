"""Drawn grey pictures without faces: noise, gradients, text, plots, coins and dials.

In: a size and random numbers. Out: backgrounds for scenes, or single things (decoys).
"""

from __future__ import annotations

import string

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]


def draw_background(size: int, rng: np.random.Generator) -> Gray:
    """Return a drawn square picture of `size` pixels."""
    kinds = (draw_flat, draw_noise, draw_text, draw_plot, draw_shapes, draw_tiles)
    return kinds[int(rng.integers(len(kinds)))](size, rng)


def draw_flat(size: int, rng: np.random.Generator) -> Gray:
    """A wall: one tint or a gradient between two."""
    first, second = rng.uniform(0, 255, 2)
    if rng.random() < 0.4:
        second = first
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.linspace(-0.5, 0.5, size)
    along = np.clip(ramp[None] * np.cos(angle) + ramp[:, None] * np.sin(angle) + 0.5, 0, 1)
    return (first + (second - first) * along).astype(np.uint8)


def draw_noise(size: int, rng: np.random.Generator) -> Gray:
    """Noise of random grain and contrast, sum of two scales."""
    image = np.full((size, size), rng.uniform(30, 220), np.float32)
    for _ in range(2):
        cells = int(rng.integers(2, size))
        grain = rng.normal(0, rng.uniform(3, 60), (cells, cells)).astype(np.float32)
        image += cv2.resize(grain, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_text(size: int, rng: np.random.Generator) -> Gray:
    """Lines of random letters."""
    paper, ink = (int(v) for v in rng.integers(0, 256, 2))
    image = np.full((size, size), paper, np.uint8)
    scale = float(rng.uniform(0.25, 1.2))
    letters = np.array(list(string.ascii_letters + string.digits + "    .,"))
    y = 0
    while y < size + 20:
        y += round(28 * scale) + int(rng.integers(1, 5))
        line = "".join(rng.choice(letters, 60))
        font = int(rng.integers(0, 8))
        cv2.putText(image, line, (int(rng.integers(-20, 10)), y), font, scale, ink, 1, cv2.LINE_AA)
    return image


def draw_plot(size: int, rng: np.random.Generator) -> Gray:
    """Axes with bars, curves or points."""
    image = np.full((size, size), int(rng.integers(180, 256)), np.uint8)
    ink = int(rng.integers(0, 120))
    for _ in range(int(rng.integers(1, 5))):
        kind, tint = rng.integers(3), int(rng.integers(0, 180))
        if kind == 0:
            x = np.linspace(0, size, 40)
            y = size / 2 + np.cumsum(rng.normal(0, size / 25, 40))
            cv2.polylines(
                image, [np.stack([x, y], 1).astype(np.int32)], False, tint, 1, cv2.LINE_AA
            )
        elif kind == 1:
            num = int(rng.integers(3, 14))
            for i, height in enumerate(rng.uniform(0, size * 0.8, num)):
                left = int(i * size / num)
                right = int(left + size / num * 0.7)
                cv2.rectangle(image, (left, size - int(height)), (right, size), tint, -1)
        else:
            for x, y in rng.normal(size / 2, size / 5, (60, 2)):
                cv2.circle(image, (int(x), int(y)), 2, tint, -1, cv2.LINE_AA)
    for at in range(10, size, int(rng.integers(15, 60))):
        cv2.line(image, (at, 0), (at, size), ink, 1)
        cv2.line(image, (0, at), (size, at), ink, 1)
    return image


def draw_shapes(size: int, rng: np.random.Generator) -> Gray:
    """Ellipses, boxes, lines and dials of all sizes on a wall."""
    image = draw_flat(size, rng)
    for _ in range(int(rng.integers(2, 22))):
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        axes = tuple(int(v) for v in np.exp(rng.uniform(np.log(3), np.log(size / 2), 2)))
        tint, kind = int(rng.integers(0, 256)), rng.integers(4)
        if kind == 0:
            cv2.ellipse(
                image, centre, axes, float(rng.uniform(0, 180)), 0, 360, tint, -1, cv2.LINE_AA
            )
        elif kind == 1:
            end = (centre[0] + axes[0], centre[1] + axes[1])
            cv2.rectangle(image, centre, end, tint, -1)
        elif kind == 2:
            x, y = (int(v) for v in rng.uniform(0, size, 2))
            cv2.line(image, centre, (x, y), tint, int(rng.integers(1, 6)), cv2.LINE_AA)
        else:
            _draw_dial(image, centre, axes[0], rng)
    return image


def draw_tiles(size: int, rng: np.random.Generator) -> Gray:
    """A checkerboard, stripes or bricks."""
    image = np.empty((size, size), np.uint8)
    period = rng.uniform(4, 50, 2)
    phase = rng.uniform(0, 50, 2)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    u = (columns * np.cos(angle) + rows * np.sin(angle) + phase[0]) / period[0]
    v = (rows * np.cos(angle) - columns * np.sin(angle) + phase[1]) / period[1]
    pattern = (np.floor(u) + (np.floor(v) if rng.random() < 0.6 else 0)) % 2
    first, second = rng.integers(0, 256, 2)
    image[:] = np.where(pattern > 0, first, second)
    return image


def _draw_dial(image: Gray, centre: tuple[int, ...], radius: int, rng: np.random.Generator) -> None:
    """A coin, a clock, a button or a wheel: rings and marks around a centre."""
    radius = max(4, radius // 2)
    dark, bright = sorted(int(v) for v in rng.integers(0, 256, 2))
    cv2.circle(image, centre, radius, bright, -1, cv2.LINE_AA)
    cv2.circle(image, centre, int(radius * 0.85), dark, max(1, radius // 12), cv2.LINE_AA)
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(3, 13)), endpoint=False):
        direction = np.array([np.cos(angle), np.sin(angle)]) * radius
        near, far = sorted(rng.uniform(0, 0.8, 2))
        start = tuple(int(v) for v in centre + direction * near)
        end = tuple(int(v) for v in centre + direction * far)
        cv2.line(image, start, end, dark, max(1, radius // 15), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 5))):
        offset = rng.uniform(-0.5, 0.5, 2) * radius
        spot = tuple(int(v) for v in centre + offset)
        axes = (max(1, int(radius * rng.uniform(0.05, 0.3))), max(1, int(radius * 0.12)))
        tint = int(rng.integers(0, 256))
        cv2.ellipse(image, spot, axes, float(rng.uniform(0, 180)), 0, 360, tint, -1, cv2.LINE_AA)

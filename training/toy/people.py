"""Made-up people: a drawn face and a synthetic voice for each, with four expressions.

In: a person's number, an expression, random numbers. Out: RGB images and audio. They are cartoons
that check a training from end to end; figures about them say nothing about people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE_PX = 192
"""Side of a drawn image."""
RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Expression:
    """The shape of a face (1 = as drawn, pixels for the rest) and the sound of a voice."""

    brow_up_px: float
    brow_tilt: float
    """Positive: the inner ends are low, as in anger."""
    eye_open: float
    mouth_curve_px: float
    """Positive: the corners are up."""
    mouth_open_px: float
    mouth_width: float
    pitch: float
    """Factor of the person's pitch."""
    glide: float
    """Change of the pitch over a recording, as a share."""
    syllables_hz: float


EXPRESSIONS = {
    "angry": Expression(-8, 0.9, 0.7, -8, 14, 1.1, 1.0, -0.1, 5.5),
    "happy": Expression(2, -0.1, 0.8, 26, 14, 1.6, 1.6, 0.25, 4.5),
    "sad": Expression(4, -0.8, 0.5, -26, 2, 0.9, 0.8, -0.3, 2.5),
    "surprise": Expression(20, -0.1, 1.9, 0, 44, 0.8, 2.2, 0.6, 3.5),
}


@dataclass(frozen=True, slots=True)
class Person:
    """What one person's images and recordings share."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    width: float
    eyes: float
    pitch_hz: float
    vowel: float
    """Factor of the formants' frequencies."""


def make_person(number: int) -> Person:
    """Return the person of a number."""
    rng = np.random.default_rng([2, number])
    skin, hair = float(rng.uniform(0.6, 1.05)), float(rng.uniform(0.3, 1.6))
    shape = rng.uniform((0.92, 0.94, 95, 0.88), (1.08, 1.06, 210, 1.12))
    return Person(
        (224 * skin, 184 * skin, 152 * skin),
        (70 * hair, 50 * hair, 35 * hair),
        *(float(value) for value in shape),
    )


def draw_face(
    person: Person, expression: Expression, rng: np.random.Generator, talking: float = 0.5
) -> NDArray[np.uint8]:
    """Draw a face -> RGB (192, 192, 3), a little moved, turned and lit by `rng`.

    `talking` opens the mouth, 0 to 1. The shading has the contrasts by which detectors know faces.
    """
    image = _draw_head(person, float(rng.uniform(90, 170)))
    centre, strength = SIZE_PX // 2, float(rng.uniform(0.8, 1.2))
    for side in (-1, 1):
        eye = (round(centre + side * 30 * person.eyes), 84)
        white = (11, max(1, round(6 * expression.eye_open)))
        cv2.ellipse(image, eye, white, 0, 0, 360, (220, 215, 205), -1, cv2.LINE_AA)
        pupil = (6, max(1, min(6, white[1])))
        cv2.ellipse(image, eye, pupil, 0, 0, 360, (50, 35, 25), -1, cv2.LINE_AA)
        lid = (eye[0], eye[1] - white[1] // 2)
        cv2.ellipse(image, lid, (12, 5), 0, 180, 360, (70, 45, 35), 2, cv2.LINE_AA)
        y = 66 - expression.brow_up_px * strength * 0.8
        inner = (round(centre + side * 14), round(y + 16 * expression.brow_tilt * strength))
        outer = (round(centre + side * 49), round(y + 3 - 10 * expression.brow_tilt * strength))
        cv2.line(image, inner, outer, (60, 40, 30), 6, cv2.LINE_AA)
    across = np.linspace(-1, 1, 21)
    x = centre + across * 27 * expression.mouth_width
    lift = 0.8 * expression.mouth_curve_px * strength * (across**2 - 0.5)
    bulge = 0.8 * expression.mouth_open_px * (0.4 + 0.9 * talking) * (1 - across**2)
    upper = np.stack((x, 148 - lift - 0.4 * bulge), axis=1)
    lower = np.stack((x, 148 - lift + bulge), axis=1)
    lips = np.concatenate((upper, lower[::-1])).round().astype(np.int32)
    cv2.fillPoly(image, [lips], (80, 30, 35), cv2.LINE_AA)
    cv2.polylines(image, [lips], True, (150, 75, 70), 3, cv2.LINE_AA)
    degrees, zoom = rng.uniform(-5, 5), rng.uniform(0.9, 1.05)
    turn = np.asarray(cv2.getRotationMatrix2D((centre, centre), degrees, zoom), np.float64)
    turn[:, 2] += rng.uniform(-6, 6, 2)
    moved = cv2.warpAffine(image, turn, (SIZE_PX, SIZE_PX), borderMode=cv2.BORDER_REPLICATE)
    noise = 4 * rng.standard_normal((SIZE_PX, SIZE_PX, 1), np.float32)
    return np.clip(cv2.GaussianBlur(moved, (3, 3), 0) + noise, 0, 255).astype(np.uint8)


def _draw_head(person: Person, wall: float) -> NDArray[np.float32]:
    """Draw what has no expression: wall, shoulders, hair, shaded skin."""
    image = np.full((SIZE_PX, SIZE_PX, 3), wall, np.float32)
    centre, width = SIZE_PX // 2, round(71 * person.width)
    cv2.ellipse(image, (centre, 205), (width + 40, 40), 0, 0, 360, (60, 70, 95), -1, cv2.LINE_AA)
    cv2.ellipse(image, (centre, 85), (width + 11, 82), 0, 0, 360, person.hair, -1, cv2.LINE_AA)
    cv2.ellipse(image, (centre, 106), (width, 84), 0, 0, 360, person.skin, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(image, (7, 7), 0) * _light_head(person), np.float32)


@lru_cache
def _light_head(person: Person) -> NDArray[np.float32]:
    """Return the factor of each pixel's brightness (192, 192, 1)."""
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX].astype(np.float32)
    centre = SIZE_PX // 2

    def spot(x0: float, y0: float, rx: float, ry: float, gain: float) -> NDArray[np.float32]:
        bump = np.exp(-(((x - x0) / rx) ** 2) - ((y - y0) / ry) ** 2)
        return np.asarray(gain * bump, np.float32)

    light = spot(centre, 42, 48, 20, 0.12) + spot(centre, 102, 7, 36, 0.22)  # forehead, nose
    light += spot(centre, 131, 18, 6, -0.25) + spot(centre, 168, 21, 5, -0.15)  # under nose, lip
    for side in (-1, 1):
        light += spot(centre + side * 46, 122, 21, 18, 0.16)  # cheek
        light += spot(centre + side * 30 * person.eyes, 82, 22, 14, -0.42)  # eye socket
        light += spot(centre + side * (71 * person.width + 5), 110, 14, 72, -0.2)
    return (1 + light)[..., None]


def open_mouth(expression: Expression, t_s: float) -> float:
    """Return how far a syllable opens the mouth at a time, 0 to 1."""
    return float(max(0.0, np.sin(2 * np.pi * expression.syllables_hz * t_s)) ** 0.7)


def speak(
    person: Person, expression: Expression, seconds: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a recording (n,) at 16 kHz: vowels, and a hiss before each syllable."""
    t_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    glide = 1 + expression.glide * (t_s / seconds - 0.5)
    pitch_hz = person.pitch_hz * expression.pitch * rng.uniform(0.93, 1.07) * glide
    turns = np.cumsum(pitch_hz) / RATE_HZ
    vowel = 0.5 + 0.5 * np.sin(2 * np.pi * (0.7 * t_s + rng.random()))  # from "ah" to "ee"
    tone = np.zeros(len(t_s))
    for harmonic in range(1, 25):
        f_hz = pitch_hz * harmonic / person.vowel
        gain = np.exp(-(((f_hz - 700 + 400 * vowel) / 160) ** 2))
        gain += 0.6 * np.exp(-(((f_hz - 1150 - 1000 * vowel) / 220) ** 2))
        gain += 0.25 * np.exp(-(((f_hz - 2600) / 350) ** 2)) + 0.05 / harmonic
        tone += gain * np.sin(2 * np.pi * harmonic * turns)
    beat = np.sin(2 * np.pi * expression.syllables_hz * rng.uniform(0.93, 1.07) * t_s)
    hiss = np.diff(rng.uniform(-0.5, 0.5, len(t_s) + 1))
    voice = 0.6 * np.maximum(0.0, beat) ** 0.7 * tone + 0.5 * np.maximum(0.0, -beat) ** 2 * hiss
    voice *= rng.uniform(0.15, 0.35)
    return np.clip(voice + rng.normal(0, 1e-3, len(t_s)), -0.9, 0.9).astype(np.float32)

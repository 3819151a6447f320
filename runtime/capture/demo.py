"""A drawn face and a synthetic voice, for machines without a camera.

Both are pure functions of media time and change their expression every few seconds. They are a
cartoon: estimates of them have no meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..messages import AudioChunk, Float32, VideoFrame
from .catching_up import DueTime

WIDTH_PX, HEIGHT_PX, FPS = 640, 360, 30
SAMPLE_RATE_HZ = 16000
_CHUNK = SAMPLE_RATE_HZ // 100
_HOLD_S = 4.0
_BLEND_S = 0.8
"""Each expression blends into the next during the last part of its time."""


@dataclass(frozen=True, slots=True)
class _Expression:
    """One expression: the face's shape (1 = as drawn, pixels for the rest) and the voice."""

    brow_up_px: float
    brow_tilt: float
    """Positive: the inner ends are low, as in anger."""
    eye_open: float
    mouth_curve_px: float
    """Positive: the corners are up."""
    mouth_open_px: float
    mouth_width: float
    pitch_hz: float
    loudness: float


_EXPRESSIONS = (
    _Expression(0, 0.0, 1.0, 0, 4, 1.0, 120, 0.20),  # neutral
    _Expression(3, -0.1, 0.8, 14, 8, 1.25, 190, 0.30),  # happy
    _Expression(12, -0.1, 1.5, 0, 24, 0.75, 230, 0.35),  # surprised
    _Expression(2, -0.45, 0.7, -10, 3, 0.9, 100, 0.12),  # sad
    _Expression(-6, 0.5, 0.8, -7, 10, 1.0, 160, 0.40),  # angry
)
_CYCLE_S = _HOLD_S * len(_EXPRESSIONS)


class Demo:
    """The drawn face and its voice as endless `Media`."""

    sample_rate_hz = SAMPLE_RATE_HZ
    has_video = True
    has_audio = True
    copies_per_frame = 2
    """Drawing copies the head and moves it."""

    def frames(self, *, loop: bool = False, due_ns: DueTime | None = None) -> Iterator[VideoFrame]:
        del loop  # it has no end
        index = 0
        while True:
            if due_ns is not None:
                index = max(index, due_ns() * FPS // 1_000_000_000)
            yield VideoFrame(index * 1_000_000_000 // FPS, index, draw_face(index / FPS))
            index += 1

    def chunks(self, *, loop: bool = False) -> Iterator[AudioChunk]:
        del loop
        first = 0
        while True:
            block = synthesize_speech(first, 10 * _CHUNK)  # ten cost little more than one
            for at in range(0, block.size, _CHUNK):
                t_ns = (first + at) * 1_000_000_000 // SAMPLE_RATE_HZ
                yield AudioChunk(t_ns, first + at, block[at : at + _CHUNK])
            first += block.size


def draw_face(t_s: float) -> NDArray[np.uint8]:
    """Return the image at `t_s`: uint8 (360, 640, 3) BGR.

    The shading has the contrasts by which detectors know faces: eye sockets and mouth are darker
    than cheeks, forehead and the bridge of the nose.
    """
    import cv2

    expression = _expression_at(t_s)
    image = _draw_head().copy()
    mouth_open = expression.mouth_open_px * (0.4 + 0.9 * float(_syllable(np.array(t_s))))
    eye_open = 0.1 if t_s % 3.7 < 0.12 else expression.eye_open  # a blink

    for side in (-1, 1):
        eye = (320 + side * 38, 158)
        white = (13, max(1, round(7 * eye_open)))
        cv2.ellipse(image, eye, white, 0, 0, 360, (205, 215, 220), -1, cv2.LINE_AA)
        pupil = (7, max(1, min(7, white[1])))
        cv2.ellipse(image, eye, pupil, 0, 0, 360, (25, 35, 50), -1, cv2.LINE_AA)
        lid = (eye[0], eye[1] - white[1] // 2)
        cv2.ellipse(image, lid, (15, 6), 0, 180, 360, (35, 45, 70), 3, cv2.LINE_AA)
        y = 136 - expression.brow_up_px
        inner = (320 + side * 18, round(y + 20 * expression.brow_tilt))
        outer = (320 + side * 62, round(y + 3 - 12 * expression.brow_tilt))
        cv2.line(image, inner, outer, (30, 40, 60), 7, cv2.LINE_AA)

    across = np.linspace(-1, 1, 21)
    x = 320 + across * 34 * expression.mouth_width
    lift = expression.mouth_curve_px * (across**2 - 0.5)
    bulge = mouth_open * (1 - across**2)
    upper = np.stack((x, 238 - lift - 0.4 * bulge), axis=1)
    lower = np.stack((x, 238 - lift + bulge), axis=1)
    lips = np.concatenate((upper, lower[::-1])).round().astype(np.int32)
    cv2.fillPoly(image, [lips], (35, 30, 80), cv2.LINE_AA)
    cv2.polylines(image, [lips], True, (70, 75, 150), 4, cv2.LINE_AA)

    face = image[60:310, 200:440]
    cv2.GaussianBlur(face, (5, 5), 0, dst=face)
    sway = np.array(
        [[1, 0, 8 * np.sin(0.9 * t_s)], [0, 1, 4 * np.sin(1.3 * t_s)]], dtype=np.float64
    )
    moved = cv2.warpAffine(image, sway, (WIDTH_PX, HEIGHT_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


@lru_cache(maxsize=1)
def _draw_head() -> NDArray[np.uint8]:
    """Return the parts without expression: background, shoulders, hair, shaded skin."""
    import cv2

    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX].astype(np.float32)
    image = np.empty((HEIGHT_PX, WIDTH_PX, 3), np.float32)
    image[:] = (150, 140, 130)
    image -= (0.12 * y)[..., None]
    cv2.ellipse(image, (320, 400), (190, 110), 0, 0, 360, (95, 70, 60), -1, cv2.LINE_AA)
    cv2.rectangle(image, (282, 270), (358, 320), (105, 135, 180), -1)
    cv2.ellipse(image, (320, 160), (104, 122), 0, 0, 360, (30, 38, 52), -1, cv2.LINE_AA)  # hair
    cv2.ellipse(image, (320, 185), (90, 118), 0, 0, 360, (150, 180, 220), -1, cv2.LINE_AA)
    soft = np.asarray(cv2.GaussianBlur(image, (9, 9), 0), dtype=np.float32)

    def spot(x0: float, y0: float, rx: float, ry: float, gain: float) -> NDArray[np.float32]:
        bump = np.exp(-(((x - x0) / rx) ** 2) - ((y - y0) / ry) ** 2)
        return np.asarray(gain * bump, dtype=np.float32)

    light = spot(320, 105, 60, 25, 0.12) + spot(320, 180, 9, 45, 0.22)  # forehead, nose
    light += spot(262, 205, 26, 22, 0.16) + spot(378, 205, 26, 22, 0.16)  # cheeks
    light += spot(282, 155, 27, 17, -0.42) + spot(358, 155, 27, 17, -0.42)  # eye sockets
    light += spot(320, 216, 22, 7, -0.25) + spot(320, 262, 26, 6, -0.15)  # under nose and lip
    light += spot(225, 190, 18, 90, -0.2) + spot(415, 190, 18, 90, -0.2)  # sides of the face
    return np.clip(soft * (1 + light)[..., None], 0, 255).astype(np.uint8)


def synthesize_speech(first_sample: int, n: int) -> Float32:
    """Return `n` samples of the voice from `first_sample` on: float32 (n,) at 16 kHz, below 0.9.

    Harmonics are shaped by three vowel formants and the rhythm of syllables. Each syllable begins
    with a hiss, as of "s": without frequencies above 4 kHz the voice would be a telephone's.
    """
    number = first_sample + np.arange(n)
    t_s = number / SAMPLE_RATE_HZ
    pitch_hz, turns = _pitch(t_s)
    loudness = _blend(t_s, np.array([expression.loudness for expression in _EXPRESSIONS]))
    vowel = 0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * t_s)  # wanders between "ah" (0) and "ee" (1)
    tone = np.zeros(n)
    for harmonic in range(1, 25):
        f_hz = pitch_hz * harmonic
        gain = np.exp(-(((f_hz - 700 + 400 * vowel) / 160) ** 2))
        gain += 0.6 * np.exp(-(((f_hz - 1150 - 1000 * vowel) / 220) ** 2))
        gain += 0.25 * np.exp(-(((f_hz - 2600) / 350) ** 2)) + 0.05 / harmonic
        tone += gain * np.sin(2 * np.pi * ((harmonic * turns) % 1.0))
    voice = 0.6 * _syllable(t_s) * tone + 0.5 * _consonant(t_s) * (
        _noise(number) - _noise(number - 1)
    )
    return np.clip(loudness * voice, -0.9, 0.9).astype(np.float32)


def _syllable(t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how open the mouth is, 0..1: four syllables a second, a pause after each phrase."""
    beat = np.maximum(0.0, np.sin(2 * np.pi * 4 * t_s)) ** 0.7
    return np.asarray(np.where(t_s % 2.0 < 1.5, beat, 0.0), dtype=np.float64)


def _consonant(t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the loudness of the hiss before each syllable, 0..1."""
    beat = np.maximum(0.0, -np.sin(2 * np.pi * 4 * t_s)) ** 2
    return np.asarray(np.where(t_s % 2.0 < 1.5, beat, 0.0), dtype=np.float64)


def _noise(number: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return white noise, -0.5..0.5, that depends on the number of the sample alone."""
    return np.asarray(np.sin(12.9898 * number) * 43758.5453 % 1.0 - 0.5, dtype=np.float64)


def _blend(t_s: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one expression parameter at each time: constant, then linear to the next value."""
    now, into_s = np.divmod(t_s % _CYCLE_S, _HOLD_S)
    k = now.astype(int) % len(_EXPRESSIONS)
    share = np.maximum(0.0, into_s - (_HOLD_S - _BLEND_S)) / _BLEND_S
    after = values[(k + 1) % len(_EXPRESSIONS)]
    return np.asarray(values[k] + share * (after - values[k]), dtype=np.float64)


def _expression_at(t_s: float) -> _Expression:
    now = np.array(t_s)
    names = _Expression.__dataclass_fields__
    return _Expression(
        **{
            n: float(_blend(now, np.array([getattr(expression, n) for expression in _EXPRESSIONS])))
            for n in names
        }
    )


def _pitch(t_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pitch and its exact integral in turns, so that a chunk needs no predecessor."""
    hz = np.array([expression.pitch_hz for expression in _EXPRESSIONS])
    step = np.roll(hz, -1) - hz
    per_expression = hz * _HOLD_S + step * _BLEND_S / 2
    before = np.concatenate(([0.0], np.cumsum(per_expression)))
    cycle, in_cycle_s = np.divmod(t_s, _CYCLE_S)
    now, into_s = np.divmod(in_cycle_s, _HOLD_S)
    k = now.astype(int) % len(_EXPRESSIONS)
    share = np.maximum(0.0, into_s - (_HOLD_S - _BLEND_S)) / _BLEND_S
    turns = cycle * before[-1] + before[k] + hz[k] * into_s + step[k] * _BLEND_S * share**2 / 2
    return hz[k] + share * step[k], turns

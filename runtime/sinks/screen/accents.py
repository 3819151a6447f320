"""Colors of labels: the names of a bundle in, one color 0xRRGGBB for each out."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

ACCENTS = {
    "angry": 0xEE6A5F,
    "disgust": 0x9BBF5B,
    "fear": 0xA68BE8,
    "happy": 0xF5C04E,
    "sad": 0x62A5E6,
    "surprise": 0xF0924F,
    "neutral": 0xB9C4D0,
}
"""The default bundle's labels. Each color has a contrast of at least 5:1 to the ground."""
FIRST_HUE, LIGHTNESS, SATURATION = 0.47, 0.72, 0.62
"""Of other labels, whose hues are spread over the circle; as bright as `ACCENTS`."""


def choose_accents(labels: Sequence[str]) -> dict[str, int]:
    """Return the color of each label: that of `ACCENTS`, or one that no other label has."""
    known = {name: ACCENTS[name.lower()] for name in labels if name.lower() in ACCENTS}
    others = [name for name in labels if name not in known]
    hues = [(FIRST_HUE + n / len(others)) % 1 for n in range(len(others))]
    colors = [[round(255 * tone) for tone in to_rgb(hue)] for hue in hues]
    made = {
        name: red << 16 | green << 8 | blue
        for name, (red, green, blue) in zip(others, colors, strict=True)
    }
    return {name: {**known, **made}[name] for name in labels}


def to_rgb(hue: float) -> tuple[float, float, float]:
    """Return red, green and blue of a hue, each 0..1."""
    return colorsys.hls_to_rgb(hue, LIGHTNESS, SATURATION)

"""Specs: what they refuse, with which words, and that they survive the bundle's JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emotion_edge.kernels import open_preprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_mels": 0}, "must be positive"),
        ({"num_frames": -1}, "must be positive"),
        ({"hop": 0}, "must be positive"),
        ({"sample_rate_hz": 0}, "must be positive"),
        ({"hop": 500}, "hop 500 <= window 400"),
        ({"window": 600}, "window 600 <= fft_size 512"),
        ({"fft_size": 500}, "power of two"),
        ({"fft_size": 16, "window": 16, "hop": 8, "num_mels": 4}, "fft_size 16 must be at least"),
        ({"num_mels": 257}, "num_mels 257 at most half"),
        ({"high_hz": 8_001.0}, r"20.0..8001.0 Hz must lie in 0..8000"),
        ({"low_hz": -1.0}, "must lie in"),
        ({"low_hz": 8_000.0}, "must lie in"),
        ({"preemphasis": 1.0}, "preemphasis"),
        ({"floor": 0.0}, "floor"),
        ({"std": 0.0}, "std"),
        ({"high_hz": float("nan")}, "must lie in"),
        ({"preemphasis": float("nan")}, "preemphasis"),
    ],
)
def test_mel_that_cannot_be_computed_is_refused(fields: dict[str, Any], message: str) -> None:
    """At once, and not by the kernel, which checks nothing."""
    with pytest.raises(ValueError, match=message):
        MelSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (0.5, 0.5, 128.0)}, "image mean"),
        ({"std": (0.0, 0.2, 0.2)}, "image std"),
        ({"std": (57.0, 57.0, 57.0)}, "image std"),
        ({"mean": (float("nan"), 0.5, 0.5)}, "image mean"),
    ],
)
def test_image_scaling_is_of_zero_to_one(fields: dict[str, Any], message: str) -> None:
    """Means of 0..255 are the commonest mistake."""
    with pytest.raises(ValueError, match=message):
        ImageSpec(**fields)


@pytest.mark.parametrize("spec", [ImageSpec(mean=(0.1, 0.2, 0.3)), MelSpec(num_mels=40)])
def test_json_round_trip(spec: ImageSpec | MelSpec) -> None:
    """Written to a bundle and read back, a spec is the same."""
    assert msgspec.json.decode(msgspec.json.encode(spec), type=type(spec)) == spec


@pytest.mark.parametrize("text", ['{"num_mel": 64}', '{"hop": "160"}', '{"hop": 160.5}'])
def test_json_is_read_strictly(text: str) -> None:
    """An unknown field or another type is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=MelSpec)


def test_unknown_preprocessor() -> None:
    """The message says what there is; "auto" is something that works here."""
    with pytest.raises(ValueError, match="'tpu' is not one of auto, cuda, cpu"):
        open_preprocessor("tpu", ImageSpec(), MelSpec())
    assert open_preprocessor("auto", ImageSpec(), MelSpec()).name != "auto"

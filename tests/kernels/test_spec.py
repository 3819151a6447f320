"""Specs: the values they refuse, by the name of the field, and their JSON in the bundle."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emotion_edge.kernels import open_preprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec, Pcen, Root


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_mels": 0}, "num_mels"),
        ({"num_frames": -1}, "num_frames"),
        ({"hop": 0}, "hop"),
        ({"sample_rate_hz": 0}, "sample_rate_hz"),
        ({"hop": 500}, "hop 500"),
        ({"window": 600}, "window 600"),
        ({"fft_size": 500}, "fft_size 500"),
        ({"fft_size": 16, "window": 16, "hop": 8, "num_mels": 4}, "fft_size 16"),
        ({"num_mels": 257}, "num_mels 257"),
        ({"high_hz": 8_001.0}, r"band 20.0..8001.0"),
        ({"low_hz": -1.0}, "low_hz -1.0"),
        ({"low_hz": 8_000.0}, r"band 8000.0"),
        ({"preemphasis": 1.0}, "preemphasis"),
        ({"floor": 0.0}, "floor 0.0"),
        ({"floor": 1e-40}, "floor 1e-40"),
        ({"std": 0.0}, "std"),
        ({"high_hz": float("nan")}, "high_hz nan"),
        ({"preemphasis": float("nan")}, "preemphasis"),
        ({"fft_size": 2**40, "window": 2**39}, "window"),
        ({"num_frames": 2_000_000}, "num_frames"),
        ({"sample_rate_hz": 10**400}, "sample_rate_hz"),
        ({"mean": float("inf")}, "mean"),
    ],
)
def test_mel_that_cannot_be_computed_is_refused(fields: dict[str, Any], named: str) -> None:
    """Refused when the spec is made: the kernels do not check."""
    with pytest.raises(ValueError, match=named):
        MelSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"mean": (0.5, 0.5, 128.0)}, "image mean"),
        ({"std": (0.0, 0.2, 0.2)}, "image std"),
        ({"std": (57.0, 57.0, 57.0)}, "image std"),
        ({"mean": (float("nan"), 0.5, 0.5)}, "image mean"),
    ],
)
def test_image_scaling_is_of_zero_to_one(fields: dict[str, Any], named: str) -> None:
    """Means on 0..255 are the most common mistake."""
    with pytest.raises(ValueError, match=named):
        ImageSpec(**fields)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Pcen, {"smoothing": 0.0}, "smoothing 0.0"),
        (Pcen, {"smoothing": 1.5}, "smoothing 1.5"),
        (Pcen, {"gain": -0.1}, "gain -0.1"),
        (Pcen, {"bias": -1.0}, "bias -1.0"),
        (Pcen, {"exponent": 0.0}, "pcen exponent 0.0"),
        (Pcen, {"std": 0.0}, "std 0.0"),
        (Root, {"exponent": 1.1}, "root exponent 1.1"),
        (Root, {"exponent": float("nan")}, "root exponent nan"),
        (Root, {"mean": float("inf")}, "root mean inf"),
    ],
)
def test_compression_that_cannot_be_computed_is_refused(
    kind: type[Pcen | Root], fields: dict[str, Any], named: str
) -> None:
    """By the name and value of the field."""
    with pytest.raises(ValueError, match=named):
        kind(**fields)


def test_the_logarithm_is_not_named() -> None:
    """A bundle without another compression is one that earlier versions read. With one, mean and
    std of the logarithm have no effect, and are refused."""
    assert b"compression" not in msgspec.json.encode(MelSpec())
    with pytest.raises(ValueError, match=r"mean -9\.0.*compression"):
        MelSpec(mean=-9.0, compression=Root())


@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec(mean=(0.1, 0.2, 0.3)),
        MelSpec(num_mels=40),
        MelSpec(compression=Pcen(gain=0.5)),
        MelSpec(compression=Root()),
    ],
)
def test_json_round_trip(spec: ImageSpec | MelSpec) -> None:
    """A spec is the same after writing and reading it."""
    assert msgspec.json.decode(msgspec.json.encode(spec), type=type(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        '{"num_mel": 64}',
        '{"hop": "160"}',
        '{"hop": 160.5}',
        '{"compression": {"kind": "a-law"}}',
        '{"compression": {"kind": "root", "gain": 1}}',
    ],
)
def test_json_is_read_strictly(text: str) -> None:
    """An unknown field or a wrong type is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=MelSpec)


def test_unknown_preprocessor() -> None:
    """The message names the value; "auto" opens a preprocessor that works here."""
    with pytest.raises(ValueError, match="tpu"):
        open_preprocessor("tpu", ImageSpec(), MelSpec())
    assert open_preprocessor("auto", ImageSpec(), MelSpec()).name != "auto"

"""Recordings and films made on the spot, named as RAVDESS names them."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.runtime.capture.demo import draw_face

Write = Callable[..., Path]


def write_audio_file(path: Path, seed: int, seconds: float = 0.2, rate_hz: int = 16_000) -> Path:
    """Mono noise, 16 bits; equal seeds give equal samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-9_000, 9_000, round(seconds * rate_hz), "<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return path


def write_video(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]] | None = None,
    *,
    rate: int = 25,
    audio: NDArray[np.float32] | None = None,
    audio_from_s: float = 0.0,
) -> Path:
    """BGR pictures (the drawn face by default), and mono sound at 16 kHz that starts later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [draw_face(n / rate) for n in range(25)] if pictures is None else pictures
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=rate)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.bit_rate = 4_000_000
        track: Any = (
            container.add_stream("pcm_s16le", rate=16_000, layout="mono")
            if (audio is not None)
            else None
        )
        for n, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = n, Fraction(1, rate)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if audio is not None:
            pcm = np.round(audio * 32_767).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            block.sample_rate = 16_000
            block.pts, block.time_base = round(audio_from_s * 16_000), Fraction(1, 16_000)
            container.mux(track.encode(block))
            container.mux(track.encode(None))
    return path


@pytest.fixture
def make_audio_file(tmp_path: Path) -> Write:
    """A function (name, seed, ...) -> path of a new recording under `tmp_path`."""
    return lambda name, seed=0, **options: write_audio_file(tmp_path / name, seed, **options)


@pytest.fixture
def make_video(tmp_path: Path) -> Write:
    """A function (name, what `write_video` takes) -> path of a new film under `tmp_path`."""
    return lambda name, *what, **options: write_video(tmp_path / name, *what, **options)

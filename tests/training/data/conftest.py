"""Generated recordings and videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.runtime.capture.demo import draw_face

from ..wav_files import write_noise

Write = Callable[..., Path]


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]] | None = None,
    *,
    rate: int = 25,
    audio: NDArray[np.float32] | None = None,
    audio_from_s: float = 0.0,
    aspect: Fraction | None = None,
    title: str = "",
) -> Path:
    """Write BGR frames (by default a drawn face) of pixels of `aspect`, and mono audio at 16 kHz
    that starts later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [draw_face(n / rate) for n in range(25)] if frames is None else frames
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=rate)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.bit_rate = 4_000_000
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if title:
            container.metadata["title"] = title
        track: Any = (
            container.add_stream("pcm_s16le", rate=16_000, layout="mono")
            if (audio is not None)
            else None
        )
        for n, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = n, Fraction(1, rate)
            container.mux(video.encode(frame))
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
    """A function (name, arguments of `write_noise`) -> path of a new recording."""
    return lambda name, *args, **options: write_noise(tmp_path / name, *args, **options)


@pytest.fixture
def make_video(tmp_path: Path) -> Write:
    """A function (name, arguments of `write_video`) -> path of a new video."""
    return lambda name, *args, **options: write_video(tmp_path / name, *args, **options)

"""Small clips with a flash and a click at known times, a clock, and a fake jetson-utils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emotion_edge.runtime.clock import FakeClock

from .jetson_utils_fake import FakeCamera, install


def write_clip(
    path: Path,
    *,
    seconds: float = 1.0,
    video: str | None = "mpeg4",
    size: tuple[int, int] = (320, 180),
    pixels: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    flash_s: float = 0.4,
    audio: str | None = "aac",
    rate_hz: int = 48000,
    layout: str = "stereo",
    click_s: float = 0.4,
    audio_from_s: float = 0.0,
) -> Path:
    """Write black frames with a white one at `flash_s`, silence with a 2 ms click at `click_s`."""
    with av.open(str(path), "w") as container:
        if video is not None:
            stream = container.add_stream(video, rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            stream.codec_context.time_base = Fraction(1, 1000)
        if audio is not None:
            audio_stream = container.add_stream(audio, rate=rate_hz, layout=layout)
        if video is not None:
            for t_s in times_s or np.arange(0, seconds, 1 / 25):
                level = 255 if abs(t_s - flash_s) < 1e-6 else 0
                image = np.full((size[1], size[0], 3), level, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = round(t_s * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if audio is not None:
            channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
            samples = np.zeros((channels, round(seconds * rate_hz)), np.float32)
            begin = round(click_s * rate_hz)
            length = round(0.002 * rate_hz)
            wave = np.sin(2 * np.pi * 2000 * np.arange(length) / rate_hz)
            room = samples[:, begin : begin + length]
            room[:] = 0.8 * wave[: room.shape[1]]
            context = audio_stream.codec_context
            step = context.frame_size or rate_hz // 50
            # Encoders take only their own sample format.
            to_codec = av.AudioResampler(context.format.name, layout, rate_hz)
            for at in range(round(audio_from_s * rate_hz), samples.shape[1], step):
                piece = np.ascontiguousarray(samples[:, at : at + step])
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate = rate_hz
                for ready in to_codec.resample(frame):
                    ready.pts, ready.time_base = at, Fraction(1, rate_hz)
                    container.mux(audio_stream.encode(ready))
            container.mux(audio_stream.encode(None))
    return path


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """A function (name, options of `write_clip`) -> path of a new clip."""

    def make(name: str = "clip.mp4", **options: object) -> Path:
        return write_clip(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100_000_000_000)


@pytest.fixture
def device(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    """The camera of a fake jetson-utils."""
    return install(clock, monkeypatch)

"""Video and audio files for the tests, encoded on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emotion_edge.runtime.capture.demo import draw_face, synthesize_speech

RATE = 16_000
Image = tuple[float, NDArray[np.uint8]]
"""Time in seconds, BGR pixels."""


def write_video(
    path: Path,
    images: Sequence[Image] = (),
    samples: NDArray[np.float32] | None = None,
    *,
    rate_hz: int = 16000,
    video: str = "mpeg4",
    pixels: str = "yuv420p",
    audio: str = "aac",
    shown_s: float = 0.0,
) -> Path:
    """Encode `images` and audio `samples` (channels, n). `shown_s`: of each image, as the file
    states it; 0 leaves it to the codec."""
    with av.open(str(path), "w") as container:
        if images:
            stream: Any = container.add_stream(video, rate=30)
            stream.height, stream.width = images[0][1].shape[:2]
            stream.pix_fmt = pixels
            stream.codec_context.time_base = Fraction(1, 1000)
        if samples is not None:
            layout = {1: "mono", 2: "stereo"}[len(samples)]
            track: Any = container.add_stream(audio, rate=rate_hz, layout=layout)
        packets: list[Any] = []
        for t_s, image in images:
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = round(t_s * 1000), Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode(None) if images else []
        for packet in packets:
            if shown_s:
                packet.duration = round(shown_s / packet.time_base)
            container.mux(packet)
        if samples is not None:
            context = track.codec_context
            to_codec = av.AudioResampler(context.format.name, layout, rate_hz)
            step = context.frame_size or rate_hz // 50
            for at in range(0, samples.shape[1], step):
                piece = np.ascontiguousarray(samples[:, at : at + step])
                block = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                block.sample_rate = rate_hz
                for ready in to_codec.resample(block):
                    ready.pts, ready.time_base = at, Fraction(1, rate_hz)
                    container.mux(track.encode(ready))
            container.mux(track.encode(None))
    return path


def video_times(seconds: float, fps: float = 30) -> list[float]:
    """Return the times of the frames in seconds."""
    return [n / fps for n in range(round(seconds * fps))]


def draw_video(seconds: float) -> list[tuple[float, NDArray[np.uint8]]]:
    """The face of the demo at 30 frames per second."""
    return [(t_s, draw_face(t_s)) for t_s in video_times(seconds)]


def voice_at(rate_hz: int, seconds: float, gain: float = 1.0) -> NDArray[np.float32]:
    """The voice of the demo at another sample rate: (1, n)."""
    speech = synthesize_speech(0, round(seconds * RATE))
    at = np.arange(round(seconds * rate_hz)) * RATE / rate_hz
    resampled = np.interp(at, np.arange(len(speech)), speech)
    return np.clip(gain * resampled, -1, 1).astype(np.float32)[None]

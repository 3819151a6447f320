"""Small files for the tests of media, and what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from emotion_edge.runtime.capture.media_file import MediaFile

RATE = 16_000


def encode_frames(
    codec: str, images: Sequence[np.ndarray], pixels: str, **settings: object
) -> list[Any]:
    """Return a packet for each image."""
    context: Any = av.CodecContext.create(codec, "w")
    context.height, context.width = images[0].shape[:2]
    context.pix_fmt = pixels
    context.time_base = Fraction(1, 25)
    for name, value in settings.items():
        setattr(context, name, value)
    packets = []
    for n, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts, frame.time_base = n, Fraction(1, 25)
        packets += context.encode(frame)
    return packets + context.encode(None)


def write_stamped(
    path: Path,
    video_ms: Sequence[int],
    audio_ms: Sequence[int] | None = None,
    *,
    step_ms: int = 40,
    true_audio_ms: Sequence[int] | None = None,
) -> Path:
    """Write gray frames and 20 ms pieces of a sine with these timestamps, interleaved by their true
    times: every `step_ms`, and every 20 ms or `true_audio_ms`."""
    images = [np.full((48, 64, 3), 5 * n % 256, np.uint8) for n in range(len(video_ms))]
    encoded = encode_frames("mjpeg", images, "yuvj420p")
    sine = (9_000 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)).astype(np.int16)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mjpeg", rate=1000 // step_ms)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        audio: Any = None
        if audio_ms is not None:
            audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        entries = []
        for n, (packet, pts) in enumerate(zip(encoded, video_ms, strict=True)):
            packet.stream, packet.time_base = video, Fraction(1, 1000)
            entries.append((n * step_ms, pts, packet))
        for n, pts in enumerate(audio_ms or []):
            packet = av.Packet(sine[n * 320 % RATE :][:320].tobytes())
            packet.stream, packet.time_base, packet.duration = audio, Fraction(1, 1000), 20
            entries.append((true_audio_ms[n] if true_audio_ms else n * 20, pts, packet))
        for true_ms, pts, packet in sorted(entries, key=lambda entry: entry[0]):
            packet.dts = min(true_ms, pts)
            packet.pts = pts
            container.mux(packet)
    return path


def write_tracks(
    path: Path,
    levels: Sequence[float],
    sizes: Sequence[tuple[int, int]] = (),
    *,
    default_audio: int = 0,
    default_video: int = 0,
    covers: Sequence[int] = (),
) -> Path:
    """Write audio tracks of these levels and video tracks of these sizes."""
    with av.open(str(path), "w") as container:
        videos: list[Any] = []
        for n, (width, height) in enumerate(sizes):
            codec = "mjpeg" if n in covers else "mpeg4"
            stream: Any = container.add_stream(codec, rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if n in covers else "yuv420p"
            stream.disposition = 0x400 if n in covers else int(n == default_video)
            videos.append(stream)
        audios: list[Any] = []
        for n, _ in enumerate(levels):
            track: Any = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            track.disposition = int(n == default_audio)
            audios.append(track)
        packets: list[Any] = []
        for n, stream in enumerate(videos):
            for step in range(1 if n in covers else 10):
                image = np.zeros((stream.height, stream.width, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="bgr24")
                frame.pts, frame.time_base = step, Fraction(1, 25)
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for track, level in zip(audios, levels, strict=True):
            for step in range(10):
                samples = np.full((1, 640), round(level * 32767), np.int16)
                samples[:, ::2] *= -1  # DC would be blocked
                block = av.AudioFrame.from_ndarray(samples, "s16", "mono")
                block.sample_rate, block.pts, block.time_base = RATE, 640 * step, Fraction(1, RATE)
                packets += track.encode(block)
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            container.mux(packet)
    return path


def frame_times_ms(media: MediaFile) -> list[float]:
    return [frame.t_ns / 1e6 for frame in media.frames()]


def audio_end_ms(media: MediaFile) -> float:
    *_, last = media.chunks()
    return last.t_ns / 1e6 + last.samples.size / 16

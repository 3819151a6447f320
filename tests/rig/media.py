"""Video and audio for the camera and the microphone of the virtual device."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WIDTH_PX, HEIGHT_PX = 640, 480


def write_wave(file: Path, samples: NDArray[np.int16]) -> Path:
    """Write a mono WAV file at 16 kHz."""
    with wave.open(str(file), "wb") as to:
        to.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        to.writeframes(samples.astype("<i2").tobytes())
    return file


def write_babble(file: Path, seconds: float) -> Path:
    """Write noise with the rhythm of syllables, which voice activity detection takes for speech."""
    t_s = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(1).normal(scale=3000, size=t_s.size)
    return write_wave(file, (np.sin(np.pi * 2 * t_s) ** 4 * noise).astype(np.int16))


def write_video(clip: Path, folder: Path, *, fps: int, repeats: int) -> tuple[Path, Path]:
    """Write the video of a clip once as YUYV frames of 640x480 for rig-camera, and its audio
    `repeats` times as a WAV file. One repeat of both is equally long, so they stay in sync."""
    with av.open(str(clip)) as container:
        graph = av.filter.Graph()
        source = graph.add_buffer(template=container.streams.video[0])
        rate = graph.add("fps", str(fps))
        scale = graph.add(
            "scale",
            f"{WIDTH_PX}:{HEIGHT_PX}:force_original_aspect_ratio=increase",
        )
        crop = graph.add("crop", f"{WIDTH_PX}:{HEIGHT_PX}")
        pixels = graph.add("format", "yuyv422")
        graph.link_nodes(source, rate, scale, crop, pixels, graph.add("buffersink")).configure()
        images = []
        for frame in container.decode(video=0):
            graph.push(frame)
            images += _pull(graph)
        graph.push(None)
        images += _pull(graph)
    with av.open(str(clip)) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        frames = [*container.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    samples = np.zeros(len(images) * SAMPLE_RATE // fps, np.int16)
    decoded = np.concatenate(parts)[: samples.size]
    samples[: decoded.size] = decoded
    video_file = folder / f"{clip.stem}.yuyv"
    video_file.write_bytes(b"".join(images))
    return video_file, write_wave(folder / f"{clip.stem}.wav", np.tile(samples, repeats))


def write_replay(yuyv: Path, wav: Path, file: Path, *, fps: int, repeats: int) -> Path:
    """Write `repeats` repeats of a video with their audio as one lossless file."""
    images = np.fromfile(yuyv, np.uint8).reshape(-1, HEIGHT_PX, 2 * WIDTH_PX)
    with av.open(str(file), "w") as to:
        video = to.add_stream("rawvideo", fps, width=WIDTH_PX, height=HEIGHT_PX, pix_fmt="yuyv422")
        audio = to.add_stream("pcm_s16le", SAMPLE_RATE, layout="mono")
        for number in range(repeats * len(images)):
            frame = av.VideoFrame.from_ndarray(
                images[number % len(images)].reshape(HEIGHT_PX, WIDTH_PX, 2), "yuyv422"
            )
            frame.pts = number
            to.mux(video.encode(frame))
        with wave.open(str(wav)) as source:
            count = repeats * len(images) * SAMPLE_RATE // fps
            samples = np.frombuffer(source.readframes(count), "<i2")
        whole = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        whole.sample_rate = SAMPLE_RATE
        to.mux(audio.encode(whole))
    return file


def _pull(graph: av.filter.Graph) -> list[bytes]:
    """Return the frames that the graph has ready."""
    images = []
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return images
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        images.append(rows[:, : 2 * WIDTH_PX].tobytes())

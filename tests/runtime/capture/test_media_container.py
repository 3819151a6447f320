"""Files of all kinds, and those that cannot be played."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.messages import SourceError

from .media_samples import audio_end_ms, frame_times_ms

MakeClip = Callable[..., Path]


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mov", "mkv", "mp3", "ogg", "flac", "wav", "nut"])
def test_titles_in_any_encoding(tmp_path: Path, make_clip: MakeClip, suffix: str) -> None:
    """A file plays whatever bytes its titles are of."""
    path = tmp_path / f"title.{suffix}"
    has_video = suffix in {"avi", "mp4", "mov", "mkv", "nut"}
    audio = {"mp3": "libmp3lame", "ogg": "libopus", "flac": "flac"}.get(suffix, "pcm_s16le")
    if suffix == "mp4":
        audio = "aac"
    with av.open(str(path), "w") as container:
        # Of the same length as what replaces it.
        container.metadata["title"] = container.metadata["artist"] = "QQQQQ"
        if has_video:
            video: Any = container.add_stream("mpeg4", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.metadata["language"] = "qqq"
        track: Any = container.add_stream(audio, rate=16_000, layout="mono")
        track.metadata["title"] = "QQQQQ"
        if has_video:
            for n in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        size = track.codec_context.frame_size or 1_600
        to_codec = av.AudioResampler(track.codec_context.format.name, "mono", 16_000)
        for at in range(0, 16_000, size):
            block = av.AudioFrame.from_ndarray(np.zeros((1, size), np.float32), "flt", "mono")
            block.sample_rate, block.pts, block.time_base = 16_000, at, Fraction(1, 16_000)
            for ready in to_codec.resample(block):
                container.mux(track.encode(ready))
        container.mux(track.encode(None))
    data = path.read_bytes()
    assert b"QQQQQ" in data or suffix == "mp3"
    data = data.replace(b"QQQQQ", b"\xe7\xfc\xff\xfe\xe9").replace(
        b"Q\0Q\0Q\0Q\0Q\0", b"\0\xd8" * 5
    )
    if suffix == "ogg":
        path.write_bytes(fix_ogg(data))
    else:
        path.write_bytes(data)
    media = MediaFile(path)
    assert media.has_video == has_video
    assert audio_end_ms(media) >= 900


def fix_ogg(data: bytes) -> bytes:
    """Return Ogg pages with right checksums."""
    table = []
    for n in range(256):
        value = n << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    pages = []
    at = 0
    while at < len(data):
        num = data[at + 26]
        end = at + 27 + num + sum(data[at + 27 : at + 27 + num])
        page = bytearray(data[at:end])
        page[22:26] = bytes(4)
        checksum = 0
        for byte in page:
            checksum = ((checksum << 8) & 0xFFFFFFFF) ^ table[(checksum >> 24) ^ byte]
        page[22:26] = checksum.to_bytes(4, "little")
        pages.append(bytes(page))
        at = end
    return b"".join(pages)


def write_encrypted(path: Path, *, audio: bool = True) -> Path:
    options = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(30):
            image = np.full((48, 64, 3), 8 * n, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_encrypted_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.mp4 is encrypted") as error:
        MediaFile(write_encrypted(tmp_path / "a.mp4"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_unfinished_recording_says_so(make_clip: MakeClip, share: float) -> None:
    """An MP4 whose index was to come at the end."""
    path = make_clip("unfinished.mp4", seconds=2)
    data = path.read_bytes()
    path.write_bytes(data[: round(share * data.index(b"moov"))])
    with pytest.raises(SourceError, match=r"unfinished\.mp4.*unfinished recording"):
        MediaFile(path)


def test_cut_copy_with_its_index_in_front_plays(make_clip: MakeClip) -> None:
    """Up to its end."""
    path = make_clip("whole.mp4", video="mpeg4", audio=None, seconds=2)
    front = path.with_name("front.mp4")
    options = {"movflags": "faststart"}
    with av.open(str(path)) as whole, av.open(str(front), "w", options=options) as to:
        stream = to.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                packet.stream = stream
                to.mux(packet)
    data = front.read_bytes()
    front.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2])
    assert 5 < len(list(MediaFile(front).frames())) < 50


def test_animated_webp_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In one line."""
    head = b"WEBPVP8X" + struct.pack("<IB3x", 10, 0x02) + bytes([63, 0, 0, 47, 0, 0])
    body = (
        head + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + b"ANMF" + struct.pack("<I", 40) + bytes(40)
    )
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(SourceError, match=r"a\.webp.*animated WebP"):
        MediaFile(path)
    assert not caplog.records


def test_animated_gif_plays(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for n in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 * n, np.uint8), "bgr24")
            frame = frame.reformat(format="rgb8")
            frame.pts, frame.time_base = n, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert frame_times_ms(MediaFile(path)) == [0, 100, 200, 300]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("wav", "pcm_u8"), ("wav", "pcm_s24le"), ("wav", "pcm_s32le"), ("wav", "pcm_f32le"),
     ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus"), ("m4a", "aac")],
)  # fmt: skip
def test_audio_alone(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(codec, rate=48_000, layout="stereo")
        size = track.codec_context.frame_size or 4_800
        to_codec = av.AudioResampler(track.codec_context.format.name, "stereo", 48_000)
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000).astype(np.float32)
        for at in range(0, 48_000, size):
            piece = np.ascontiguousarray(np.repeat(wave[None, at : at + size], 2, 0))
            block = av.AudioFrame.from_ndarray(piece, "fltp", "stereo")
            block.sample_rate, block.pts, block.time_base = 48_000, at, Fraction(1, 48_000)
            for ready in to_codec.resample(block):
                container.mux(track.encode(ready))
        container.mux(track.encode(None))
    chunks = list(MediaFile(path).chunks())
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert chunks[0].t_ns == 0
    assert len(samples) == pytest.approx(16_000, abs=1_000)
    assert float(np.sqrt((samples[2_000:14_000] ** 2).mean())) == pytest.approx(0.354, abs=0.02)

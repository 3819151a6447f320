"""Audio and frames of media files, with their times, and files that are invalid."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from emotion_edge.training.data.images import read_image
from emotion_edge.training.data.media import MAX_SIDE_PX, decode_audio, decode_frames
from emotion_edge.training.errors import DatasetError

Write = Callable[..., Path]


def ramp(num: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Frames of increasing brightness, blue above and red below."""
    images = []
    for n in range(num):
        image = np.zeros((64, 96, 3), np.uint8)
        image[:32, :, 0] = image[32:, :, 2] = 100 + 5 * n
        images.append(image)
    return images


def test_frames_in_order_with_their_times(make_video: Write) -> None:
    """All frames, RGB."""
    images = list(decode_frames(make_video("a.mp4", ramp(20))))
    assert [t_s for t_s, _ in images] == pytest.approx([n / 25 for n in range(20)], abs=1e-3)
    for n, (_, image) in enumerate(images):
        assert image.shape == (64, 96, 3)
        assert image[48:, :, 0].mean() == pytest.approx(100 + 5 * n, abs=12)
        assert image[:16, :, 2].mean() == pytest.approx(100 + 5 * n, abs=12)
        assert image[48:, :, 2].mean() < 40


@pytest.mark.parametrize(("every_s", "step"), [(0.04, 1), (0.1, 3), (0.2, 5), (0.25, 7)])
def test_frames_some_time_apart(make_video: Write, every_s: float, step: int) -> None:
    """The first frame, then each that is due, never earlier."""
    times_s = [t_s for t_s, _ in decode_frames(make_video("a.mkv", ramp(20)), every_s)]
    assert times_s == pytest.approx([n / 25 for n in range(0, 20, step)], abs=1e-3)


def test_audio_that_starts_later(make_video: Write) -> None:
    """The time of its first sample counts from the first frame."""
    audio = np.sin(np.arange(8_000) / 5, dtype=np.float32) / 2
    video = make_video("a.mkv", ramp(20), audio=audio, audio_from_s=0.3)
    samples, first_s = decode_audio(video, 16_000)
    assert first_s == pytest.approx(0.3, abs=1e-3)
    assert len(samples) == 8_000
    np.testing.assert_allclose(samples[800:], audio[800:], atol=0.02)
    assert next(decode_frames(video))[0] == pytest.approx(0, abs=1e-3)


def test_one_modality_alone(make_video: Write, make_audio_file: Write) -> None:
    """A video without audio and a recording without video are named."""
    with pytest.raises(DatasetError, match=r"a\.mp4: no audio"):
        decode_audio(make_video("a.mp4", ramp(3)), 16_000)
    with pytest.raises(DatasetError, match=r"a\.wav: no video"):
        list(decode_frames(make_audio_file("a.wav")))


@pytest.mark.parametrize("data", [None, b"", b"not a video", b"\x00\x00\x00\x18ftypmp42" * 9])
def test_file_that_is_no_video(tmp_path: Path, data: bytes | None) -> None:
    """One line names the file."""
    file = tmp_path / "a.mp4"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.mp4") as error:
        list(decode_frames(file))
    assert "\n" not in str(error.value)


def test_truncated_video(make_video: Write) -> None:
    """Its index was at the end."""
    video = make_video("a.mp4")
    video.write_bytes(video.read_bytes()[:5_000])
    with pytest.raises(DatasetError, match=r"a\.mp4"):
        list(decode_frames(video))


def test_playlist_opens_no_connection(tmp_path: Path) -> None:
    """A text file with an address is refused under any name."""
    file = tmp_path / "a.mp4"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        file.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(DatasetError, match=r"a\.mp4"):
            list(decode_frames(file))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_name_with_a_colon(make_audio_file: Write) -> None:
    """FFmpeg would take it for a protocol."""
    assert len(decode_audio(make_audio_file("a:b.wav"), 16_000)[0]) == 3_200


def test_huge_frames_are_shrunk(make_video: Write) -> None:
    """To the longest side that is allowed."""
    video = make_video("a.mkv", [np.full((64, MAX_SIDE_PX + 16, 3), 90, np.uint8)])
    ((_, image),) = decode_frames(video)
    assert image.shape == (64, MAX_SIDE_PX, 3)
    assert image.mean() == pytest.approx(90, abs=3)


def change_sizes(file: Path, num_bytes: int) -> None:
    """Let the header of a WAV file state another number of bytes."""
    data = bytearray(file.read_bytes())
    data[4:8] = struct.pack("<I", min(36 + num_bytes, 0xFFFFFFFF))
    data[40:44] = struct.pack("<I", num_bytes)
    file.write_bytes(data)


def test_wav_that_ends_early(make_audio_file: Write) -> None:
    """A header that promises more than the file holds: a copy that was interrupted."""
    file = make_audio_file("a.wav", seconds=0.31)
    change_sizes(file, 2 * 57_600)
    with pytest.raises(DatasetError, match=r"a\.wav: .*0\.31.*3\.60"):
        decode_audio(file, 16_000)


@pytest.mark.parametrize("num_bytes", [2 * 4_960, 0xFFFFFFFF, 2 * 5_200])
def test_wav_that_is_complete(make_audio_file: Write, num_bytes: int) -> None:
    """Also one that was written to a pipe, and one that lacks a few samples."""
    file = make_audio_file("a.wav", seconds=0.31)
    change_sizes(file, num_bytes)
    assert len(decode_audio(file, 16_000)[0]) == 4_960


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, value: float) -> None:
    samples = np.zeros((1, 8_000), np.float32)
    samples[0, 4_000] = value
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, "flt", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match=r"a\.wav: .*finite"):
        decode_audio(tmp_path / "a.wav", 16_000)


def test_huge_picture_is_shrunk(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((MAX_SIDE_PX * 2, 40, 3), 90, np.uint8))
    assert read_image(tmp_path / "a.png").shape == (MAX_SIDE_PX, 20, 3)


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4"])
def test_title_in_another_encoding(make_video: Write, suffix: str) -> None:
    """Latin-1, for instance."""
    video = make_video(f"a.{suffix}", ramp(5), audio=np.zeros(8_000, np.float32), title="QQQQQ")
    video.write_bytes(video.read_bytes().replace(b"QQQQQ", b"fran\xe7"))
    assert len(list(decode_frames(video))) == 5
    assert len(decode_audio(video, 16_000)[0]) == 8_000


@pytest.mark.parametrize(
    ("aspect", "shape"), [(Fraction(2), (64, 192, 3)), (Fraction(1, 2), (128, 96, 3))]
)
def test_pixels_become_square(
    make_video: Write, aspect: Fraction, shape: tuple[int, int, int]
) -> None:
    """As on the device."""
    ((_, image),) = decode_frames(make_video("a.mkv", ramp(1), aspect=aspect))
    assert image.shape == shape

"""Images are upright, of square pixels and not too large."""

from __future__ import annotations

import gc
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from emotion_edge.runtime.capture.media_file import MediaFile
from emotion_edge.runtime.capture.media_image import MAX_SIDE_PX, fit_size
from emotion_edge.runtime.messages import SourceError

from .media_samples import encode_frames


def write_shape(
    path: Path, size: tuple[int, int], aspect: Fraction | None = None, *, count: int = 3
) -> Path:
    """Write frames whose left upper quarter is red, right upper green, left lower blue."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2, 2] = 255
    image[: height // 2, width // 2 :, 1] = 255
    image[height // 2 :, : width // 2, 0] = 255
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.bit_rate = 2_000_000
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for n in range(count):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def corners(image: np.ndarray) -> str:
    """Return the colors of the quarters: upper left, upper right, lower left, lower right."""
    height, width = image.shape[:2]
    names = {(False, False, True): "r", (False, True, False): "g", (True, False, False): "b"}
    return "".join(
        names.get(tuple(bool(c > 128) for c in image[y, x]), "-")
        for y in (height // 4, 3 * height // 4)
        for x in (width // 4, 3 * width // 4)
    )


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [
        (Fraction(2), (48, 128)),
        (Fraction(1, 2), (96, 64)),
        (Fraction(4, 3), (48, 85)),
        (Fraction(1), (48, 64)),
        (Fraction(1, 200), (48, 64)),  # a mistake
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_pixels_become_square(
    tmp_path: Path, suffix: str, aspect: Fraction, shape: tuple[int, int]
) -> None:
    media = MediaFile(write_shape(tmp_path / f"a.{suffix}", (64, 48), aspect))
    for frame in media.frames():
        assert frame.image.shape == (*shape, 3)
        assert frame.image.flags.c_contiguous
        assert corners(frame.image) == "rgb-"


@pytest.mark.parametrize(
    ("matrix", "expected", "shape"),
    [
        ((1, 0, 0, 1), "rgb-", (48, 64)),
        ((0, 1, -1, 0), "br-g", (64, 48)),  # 90 degrees clockwise
        ((-1, 0, 0, -1), "-bgr", (48, 64)),
        ((0, -1, 1, 0), "g-rb", (64, 48)),
        ((-1, 0, 0, 1), "gr-b", (48, 64)),  # mirrored
        ((1, 0, 0, -1), "b-rg", (48, 64)),  # upside down
        ((0, 1, 1, 0), "rbg-", (64, 48)),
        ((0, -1, -1, 0), "-gbr", (64, 48)),
    ],
)
def test_whole_display_matrix(
    tmp_path: Path, matrix: tuple[int, int, int, int], expected: str, shape: tuple[int, int]
) -> None:
    """A phone stores what its sensor sees, and a matrix; a selfie may be mirrored too."""
    path = write_shape(tmp_path / "phone.mp4", (64, 48))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(each * 65536) for each in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 64 << 16, 48 << 16, 1 << 30)
    path.write_bytes(data)
    media = MediaFile(path)
    frame = next(media.frames())
    assert frame.image.shape == (*shape, 3)
    assert corners(frame.image) == expected
    assert media.copies_per_frame == (2 if expected == "rgb-" else 3)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, "rgb-"), (2, "gr-b"), (3, "-bgr"), (4, "b-rg"), (5, "rbg-"), (6, "br-g"), (8, "g-rb")],
)
def test_orientation_of_a_photograph(tmp_path: Path, orientation: int, expected: str) -> None:
    """The EXIF tag of a JPEG."""
    image = next(MediaFile(write_shape(tmp_path / "a.mp4", (64, 48))).frames()).image
    (packet,) = encode_frames("mjpeg", [image], "yuvj420p")
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 0x112, 3, 1, orientation, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(exif)) + b"Exif\0\0" + exif
    jpeg = bytes(packet)
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg[:2] + segment + jpeg[2:])
    (frame,) = MediaFile(path).frames()
    assert corners(frame.image) == expected


def test_large_frames_are_shrunk(tmp_path: Path) -> None:
    """Beyond 4096 pixels by a whole number; up to there they stay."""
    media = MediaFile(write_shape(tmp_path / "wide.mp4", (4_128, 96)))
    frame = next(media.frames())
    assert frame.image.shape == (48, 2_064, 3)
    assert corners(frame.image) == "rgb-"
    assert fit_size(4_096, 4_096, None) == (4_096, 4_096)
    assert fit_size(5_312, 2_988, Fraction(1)) == (1_771, 996)
    assert fit_size(12_000, 8_000, None) == (2_400, 1_600)
    assert fit_size(3_000, 2_000, Fraction(2)) == (2_000, 667)
    assert max(fit_size(100, 4_000, Fraction(1, 8))) <= MAX_SIDE_PX


def test_images_beyond_100_megapixels_are_refused(tmp_path: Path) -> None:
    """Before they are decoded."""
    width = height = 10_240

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + checksum

    rows = zlib.compress((b"\0" + bytes(width // 8)) * height)
    path = tmp_path / "huge.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
    with pytest.raises(SourceError, match=r"huge\.png.*100 megapixels"):
        MediaFile(path)


def test_frames_are_freed_at_once(tmp_path: Path) -> None:
    """Without a garbage collection: each holds megabytes."""
    path = write_shape(tmp_path / "a.mp4", (64, 48), count=60)
    gc.disable()
    try:
        frames = MediaFile(path).frames()
        alive = [sum(type(each) is av.VideoFrame for each in gc.get_objects()) for _ in frames]
    finally:
        gc.enable()
    assert len(alive) == 60
    assert max(alive) - alive[0] <= 5

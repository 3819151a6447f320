"""Frames turned and mirrored, in every pixel format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.kernels.bgr_image import resize_to_bgr
from emotion_edge.kernels.pixels import PIXEL_FORMATS, find_format, image_size
from emotion_edge.runtime.capture import open_media, open_sources, opening
from emotion_edge.runtime.capture.turning import Turn, TurnedVideo
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Source
from emotion_edge.runtime.messages import CapturePath, VideoFrame

from .reading import read_next

Bytes = NDArray[np.uint8]
TURNS = [(rotate, mirror) for rotate in (0, 90, 180, 270) for mirror in (False, True)]


def draw(pixel_format: str, padding: int = 0) -> Bytes:
    """Four tinted quarters of 8x6 pixels in an image of 16x12, with rows padded by some bytes."""
    rng = np.random.default_rng(7)
    quarters = rng.integers(60, 200, (2, 2, 3), dtype=np.uint8)
    full = quarters.repeat(6, axis=0).repeat(8, axis=1)  # Y, Cb, Cr or the three colors
    layout = find_format(pixel_format).layout
    if layout == "yuyv":
        image = np.empty((12, 16, 2), np.uint8)
        image[..., 0] = full[..., 0]
        image[:, 0::2, 1] = full[:, 0::2, 1]
        image[:, 1::2, 1] = full[:, 0::2, 2]
    elif layout == "nv12":
        chroma = full[0::2, 0::2, 1:].reshape(6, 16)
        image = np.concatenate((full[..., 0], chroma))
    else:
        image = full
    flat = np.zeros((image.shape[0], image[0].size + padding), np.uint8)
    flat[:, : image[0].size] = image.reshape(image.shape[0], -1)
    flat.flags.writeable = False  # as a camera's memory may be
    return flat[:, : image[0].size].reshape(image.shape) if not padding else _pad(flat, image.shape)


def _pad(flat: Bytes, shape: tuple[int, ...]) -> Bytes:
    strides = (flat.strides[0], *np.empty(shape, np.uint8).strides[1:])
    return np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)


def to_bgr(frame: VideoFrame) -> Bytes:
    height, width = image_size(frame.image, frame.format)
    return resize_to_bgr(frame.image, frame.format, width, height)


def turn_pixels(image: Bytes, rotate: int, mirror: bool) -> Bytes:
    turned = np.rot90(image, -rotate // 90)
    return turned[:, ::-1] if mirror else turned


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize(("rotate", "mirror"), TURNS)
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_every_turn_of_every_format(
    pixel_format: str, rotate: int, mirror: bool, padding: int
) -> None:
    """The colors of each pixel go where they belong, and the GPU does not read the old memory."""
    frame = VideoFrame(5, 9, draw(pixel_format, padding), pixel_format, device_ptr=1)
    turned = Turn(rotate, mirror).apply(frame)
    assert (turned.t_ns, turned.index, turned.device_ptr) == (5, 9, 0)
    wanted = turn_pixels(to_bgr(frame), rotate, mirror).astype(int)
    # OpenCV's resize blends chroma at the borders of the quarters.
    inner = np.ones(wanted.shape[:2], bool)
    middle_y, middle_x = wanted.shape[0] // 2, wanted.shape[1] // 2
    inner[middle_y - 2 : middle_y + 2] = False
    inner[:, middle_x - 2 : middle_x + 2] = False
    assert np.abs(to_bgr(turned).astype(int) - wanted)[inner].max() <= 1


@pytest.mark.parametrize(("rotate", "mirror"), TURNS)
def test_luma_is_exact(rotate: int, mirror: bool) -> None:
    """Of YUYV too, also where a quarter turn makes it NV12."""
    luma = np.random.default_rng(1).integers(0, 256, (12, 16), dtype=np.uint8)
    image = np.stack((luma, np.full_like(luma, 128)), axis=2)
    turned = Turn(rotate, mirror).apply(VideoFrame(0, 0, image, "yuyv-709-full"))
    wanted = turn_pixels(luma, rotate, mirror)
    if rotate in (90, 270):
        assert turned.format == "nv12-709-full"
        assert np.array_equal(turned.image[:16], wanted)
    else:
        assert turned.format == "yuyv-709-full"
        assert np.array_equal(turned.image[..., 0], wanted)


def test_odd_height_of_yuyv() -> None:
    """A quarter turn needs an even number of rows."""
    image = np.full((13, 16, 2), 100, np.uint8)
    turned = Turn(90).apply(VideoFrame(0, 0, image, "yuyv"))
    assert image_size(turned.image, turned.format) == (16, 12)


class FakeCamera:
    """One upright frame, then the end."""

    path = CapturePath(0, "v4l2 monotonic", "pinned")

    def __init__(self) -> None:
        self.frames = [VideoFrame(3, 0, draw("nv12"), "nv12", 77)]
        self.closed = False

    def read(self) -> VideoFrame | None:
        return self.frames.pop() if self.frames else None

    def close(self) -> None:
        self.closed = True


def test_turned_camera() -> None:
    """It states the copy, and ends and closes as the camera does."""
    camera = FakeCamera()
    video = TurnedVideo(camera, Turn(90))
    assert video.path == CapturePath(1, "v4l2 monotonic", "none")
    assert read_next(video).image.shape == (24, 12)
    assert video.read() is None
    video.close()
    assert camera.closed


def test_camera_is_turned_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is not to be turned keeps its own memory."""
    monkeypatch.setattr(opening, "CameraOpener", lambda *_: FakeCamera)
    name = "/dev/video0"
    with open_sources(Source(name, "none", rotate=270), clock=FakeClock()) as sources:
        assert read_next(sources.video).image.shape == (24, 12)
        assert sources.devices == (sources.camera,)
    with open_sources(Source(name, "none"), clock=FakeClock()) as sources:
        assert read_next(sources.video).device_ptr == 77


@pytest.mark.parametrize(
    ("rotate", "mirror", "shape"), [(90, False, (320, 180)), (0, True, (180, 320))]
)
def test_file_is_turned_as_configured(
    make_clip: Callable[..., Path], rotate: int, mirror: bool, shape: tuple[int, int]
) -> None:
    """At both paces, with its audio."""
    clip = str(make_clip())
    plain = next(open_media(Source(clip)).frames())
    source = Source(clip, rotate=rotate, mirror=mirror)
    media = open_media(source)
    assert media.has_audio
    assert media.copies_per_frame == 3
    frame = next(media.frames())
    assert frame.image.shape[:2] == shape
    assert np.array_equal(frame.image, turn_pixels(plain.image, rotate, mirror))
    with open_sources(source, clock=FakeClock()) as sources:
        assert read_next(sources.video).image.shape[:2] == shape
        assert read_next(sources.audio).samples.size

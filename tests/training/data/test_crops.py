"""Face crops: as on the device, a fixed number per video, files that fail are skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.face_detector import open_detector
from emotion_edge.kernels import Box, reference
from emotion_edge.kernels.spec import ImageSpec
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.training.data.cache import FeatureCache
from emotion_edge.training.data.crops import (
    CROP_PX,
    NUM_CROPS,
    crop_gray,
    image_recipe,
    load_crops,
)
from emotion_edge.training.data.ravdess import EMOTIONS8, find_video_clips
from emotion_edge.training.errors import DatasetError

Write = Callable[..., Path]
PLAIN = ImageSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "box", [(20.3, 11.7, 90.0, 0.0), (-15.0, -20.0, 150.0, 0.0), (5.0, 2.0, 340.5, 0.6)]
)
def test_crop_is_the_device_s_face(box: Box) -> None:
    """Equal to the luma of the network's input, also past the border and when downscaled."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (36, 48, 3), np.uint8), (480, 360))
    face = reference.face_tensor(image, box, CROP_PX, PLAIN, "rgb8") * 255
    luma = np.tensordot([0.299, 0.587, 0.114], face, axes=1)
    crop = crop_gray(image, box)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop, luma, atol=1.6)


def test_videos(tmp_path: Path, make_video: Write) -> None:
    """The same number of crops each, in temporal order, with the labels of the file names; videos
    that fail are counted."""
    images = [draw_face(n / 25) for n in range(25)]
    dark = [np.zeros((90, 160, 3), np.uint8)] * 3
    make_video("01-01-02-01-01-01-05.mp4", images)
    make_video("01-01-03-01-01-01-02.mp4", images[::-1])
    make_video("01-01-04-01-01-01-02.mp4", dark)
    (tmp_path / "01-01-05-01-01-01-02.mp4").write_bytes(b"broken")
    crops = load_crops(find_video_clips(tmp_path))
    assert crops.names == ["01-01-02-01-01-01-05", "01-01-03-01-01-01-02"]
    assert crops.images.shape == (2, NUM_CROPS, CROP_PX, CROP_PX)
    assert crops.labels.tolist() == [LABELS.index("neutral"), LABELS.index("happy")]
    assert crops.emotions.tolist() == [EMOTIONS8.index("calm"), EMOTIONS8.index("happy")]
    assert crops.actors.tolist() == [5, 2]
    assert (crops.skipped, crops.duplicates) == (2, 0)
    # The second video is the first one backwards.
    first, second = crops.images.astype(float)
    assert np.abs(first - second[::-1]).mean() < np.abs(first - second).mean()


def test_videos_from_the_cache(tmp_path: Path, make_video: Write) -> None:
    """The same crops; a copy of a video counts once."""
    video = make_video("01-01-03-01-01-01-02.mp4")
    (tmp_path / "01-01-03-01-01-02-02.mp4").write_bytes(video.read_bytes())
    clips = find_video_clips(tmp_path)
    first = load_crops(clips, FeatureCache(tmp_path / "cache"))
    cache = FeatureCache(tmp_path / "cache")
    second = load_crops(clips, cache)
    assert (cache.hits, cache.built) == (2, 0)
    np.testing.assert_array_equal(first.images, second.images)
    assert second.duplicates == 1


def test_video_without_a_face_is_named(tmp_path: Path, make_video: Write) -> None:
    """If there is no other."""
    make_video("01-01-03-01-01-01-02.mp4", [np.zeros((90, 160, 3), np.uint8)] * 3)
    with pytest.raises(DatasetError, match=r"02\.mp4"):
        load_crops(find_video_clips(tmp_path))


def test_images(tmp_path: Path) -> None:
    """The detected face is cropped; a square image without a detection is a face crop."""
    scene = draw_face(1.0)
    square = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    (face,) = open_detector().detect(scene, "bgr8")
    recipe = image_recipe(open_detector())
    for image, box in (
        (scene, (face.x - face.size / 2, face.y - face.size / 2, face.size, face.roll)),
        (square, (0.0, 0.0, 48.0, 0.0)),
    ):
        cv2.imwrite(str(tmp_path / "a.png"), image)
        (crop,) = recipe.decode(tmp_path / "a.png")
        np.testing.assert_array_equal(crop, crop_gray(np.ascontiguousarray(image[..., ::-1]), box))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"broken",
        None,
        cv2.imencode(".png", np.zeros((48, 96, 3), np.uint8))[1].tobytes(),
    ],
    ids=["empty", "broken", "missing", "no face"],
)
def test_wrong_image_is_named(tmp_path: Path, data: bytes | None) -> None:
    """The error names the file."""
    if data is not None:
        (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.png"):
        image_recipe(open_detector()).decode(tmp_path / "a.png")


def test_real_videos(shared_data: Path) -> None:
    """Two recordings of actor 1."""
    crops = load_crops(find_video_clips(shared_data / "ravdess")[:2])
    assert crops.images.shape == (2, NUM_CROPS, CROP_PX, CROP_PX)
    assert crops.skipped == 0

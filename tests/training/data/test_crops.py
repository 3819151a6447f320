"""Face crops: cut as on the device, a fixed number per film, one bad file at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.engines.face_detector import open_detector
from emotion_edge.kernels import reference
from emotion_edge.kernels.spec import ImageSpec
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.training.data.cache import FeatureCache
from emotion_edge.training.data.crops import (
    CROP_PX,
    NUM_CROPS,
    crop_gray,
    image_recipe,
    load_crops,
    load_folder_crops,
)
from emotion_edge.training.data.folder import load_folder
from emotion_edge.training.data.ravdess import EMOTIONS8, find_video_clips
from emotion_edge.training.errors import DatasetError

Write = Callable[..., Path]
PLAIN = ImageSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("box", [(20.3, 11.7, 90.0), (-15.0, -20.0, 150.0), (5.0, 2.0, 340.5)])
def test_crop_is_the_device_s_face(box: tuple[float, float, float]) -> None:
    """The luma of what the network is shown, also past the border and when it shrinks."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (36, 48, 3), np.uint8), (480, 360))
    shown = reference.face_tensor(image, box, CROP_PX, PLAIN, "rgb8") * 255
    luma = np.tensordot([0.299, 0.587, 0.114], shown, axes=1)
    crop = crop_gray(image, box)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop, luma, atol=1.6)


def test_films(tmp_path: Path, make_video: Write) -> None:
    """As many crops each, in the order of time, with what the names say; the rest is counted."""
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
    # The second film is the first one backwards.
    apart = crops.images[0].astype(float) - crops.images[1, ::-1]
    assert np.abs(apart).mean() < np.abs(crops.images[0].astype(float) - crops.images[1]).mean()
    assert crops.select([5]).names == ["01-01-02-01-01-01-05"]


def test_videos_from_the_cache(tmp_path: Path, make_video: Write) -> None:
    """The same crops, and a copy of a film counts once."""
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
    """When there is nothing else."""
    make_video("01-01-03-01-01-01-02.mp4", [np.zeros((90, 160, 3), np.uint8)] * 3)
    with pytest.raises(DatasetError, match=r"none of 1 films .*02\.mp4: no face is found"):
        load_crops(find_video_clips(tmp_path))


def test_images_of_a_folder(tmp_path: Path) -> None:
    """A face is found where it is; a square picture without one is a face; the rest is skipped."""
    scene = draw_face(1.0)
    square = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "scene.png"), scene)
    cv2.imwrite(str(tmp_path / "square.png"), square)
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((48, 96, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"broken")
    (tmp_path / "empty.png").touch()
    names = ("scene", "square", "wide", "broken", "empty", "missing")
    lines = ["file,label,subject,split", *(f"{name}.png,happy,{name},train" for name in names)]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    crops = load_folder_crops(load_folder(tmp_path), tmp_path, "picture")
    assert crops.names == ["scene.png", "square.png"]
    assert crops.images.shape == (2, 1, CROP_PX, CROP_PX)
    assert crops.skipped == 4
    (found,) = open_detector().detect(scene, "bgr8")
    box = (found.x - found.size / 2, found.y - found.size / 2, found.size)
    red_first = np.ascontiguousarray(scene[..., ::-1])
    np.testing.assert_array_equal(crops.images[0, 0], crop_gray(red_first, box))
    np.testing.assert_array_equal(
        crops.images[1, 0], crop_gray(np.ascontiguousarray(square[..., ::-1]), (0, 0, 48))
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "0 bytes"), (b"broken", "not a picture"), (None, "cannot be read: No such file")],
)
def test_wrong_image_is_named(tmp_path: Path, data: bytes | None, message: str) -> None:
    """One line with the file and the reason."""
    if data is not None:
        (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DatasetError, match=rf"a\.png: {message}"):
        image_recipe(open_detector()).decode(tmp_path / "a.png")


def test_real_videos(shared_data: Path) -> None:
    """Actor 01, seven takes."""
    crops = load_crops(find_video_clips(shared_data / "ravdess")[:2])
    assert crops.images.shape == (2, NUM_CROPS, CROP_PX, CROP_PX)
    assert crops.skipped == 0

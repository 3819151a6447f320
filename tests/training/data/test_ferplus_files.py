"""FER+ as published: two tables with the same rows, or one table and folders."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotion_edge.engines.bundles import LABELS
from emotion_edge.training.data.cache import FeatureCache
from emotion_edge.training.data.ferplus import VOTES, load_ferplus
from emotion_edge.training.data.ferplus_files import has_split
from emotion_edge.training.errors import DatasetError


class Face(NamedTuple):
    usage: str
    name: str
    seed: int
    vote: str = "happiness"


FACES = (
    Face("Training", "fer0000000.png", 0),
    Face("Training", "", 1, "NF"),
    Face("Training", "fer0000002.png", 2, "fear"),
    Face("PublicTest", "fer0000003.png", 3, "anger"),
    Face("PrivateTest", "fer0000004.png", 4, "sadness"),
    Face("PrivateTest", "fer0000005.png", 5, "disgust"),
)
FOLDERS = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
Write = Callable[..., Path]


def pixels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), np.uint8)


@pytest.fixture
def publish(tmp_path: Path) -> Write:
    """A function (faces, "tables", "kaggle" or "folders") -> root in that layout."""

    def write(faces: Sequence[Face] = FACES, layout: str = "tables") -> Path:
        with (tmp_path / "fer2013new.csv").open("w", newline="") as file:
            votes = csv.DictWriter(file, ["Usage", "Image name", *VOTES], restval=0)
            votes.writeheader()
            for face in faces:
                votes.writerow({"Usage": face.usage, "Image name": face.name, face.vote: 10})
        if layout == "tables":
            with (tmp_path / "fer2013.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["emotion", "pixels", "Usage"])
                for face in faces:
                    text = " ".join(map(str, pixels(face.seed).ravel()))
                    table.writerow([0, text, face.usage])
        elif layout == "kaggle":  # its copy has spaces in the header and another order
            with (tmp_path / "icml_face_data.csv").open("w", newline="") as file:
                file.write("emotion, Usage, pixels\r\n")
                table = csv.writer(file)
                for face in faces:
                    table.writerow([0, face.usage, " ".join(map(str, pixels(face.seed).ravel()))])
                file.write("\r\n,,\r\n")
        else:
            for face in faces:
                folder = tmp_path / FOLDERS[face.usage]
                folder.mkdir(exist_ok=True)
                if face.name:
                    cv2.imwrite(str(folder / face.name), pixels(face.seed))
        return tmp_path

    return write


@pytest.mark.parametrize("layout", ["tables", "kaggle", "folders"])
def test_published_layouts(publish: Write, layout: str) -> None:
    """Each split has pixels and votes of the same row; rows without a name are skipped."""
    root = publish(layout=layout)
    for split, seeds, labels in (
        ("train", [0, 2], ["happy", "fear"]),
        ("valid", [3], ["angry"]),
        ("test", [4, 5], ["sad", "disgust"]),
    ):
        faces = load_ferplus(root, split)
        np.testing.assert_array_equal(faces.images, [pixels(seed) for seed in seeds])
        assert faces.labels.tolist() == [LABELS.index(label) for label in labels]
        assert (faces.skipped, faces.duplicates) == (0, 0)
        assert has_split(root, split)


@pytest.mark.parametrize("layout", ["tables", "folders"])
def test_same_image_counts_once(publish: Write, layout: str) -> None:
    """Within a split the first face stays; across splits that of the later one, with any label."""
    root = publish(
        [
            Face("Training", "fer0000000.png", 0),
            Face("Training", "fer0000001.png", 1),
            Face("Training", "fer0000002.png", 0, "fear"),
            Face("Training", "fer0000003.png", 2),
            Face("Training", "fer0000004.png", 3),
            Face("PublicTest", "fer0000005.png", 2, "anger"),
            Face("PublicTest", "fer0000006.png", 3),
            Face("PrivateTest", "fer0000007.png", 3),
        ],
        layout,
    )
    train, valid, test = (load_ferplus(root, split) for split in ("train", "valid", "test"))
    np.testing.assert_array_equal(train.images, [pixels(0), pixels(1)])
    assert train.labels.tolist() == [LABELS.index("happy")] * 2
    assert (train.duplicates, train.skipped) == (3, 0)
    np.testing.assert_array_equal(valid.images, [pixels(2)])
    assert valid.duplicates == 1
    assert len(test.images) == 1
    assert test.duplicates == 0


def test_broken_pixels_are_skipped(publish: Write) -> None:
    """Too few values, not numbers, out of range: named and counted."""
    root = publish([Face("Training", f"fer{n}.png", n) for n in range(5)])
    lines = (root / "fer2013.csv").read_text().splitlines()
    lines[1] = "0,1 2 3,Training"
    lines[2] = lines[2].replace(" ", " x", 1)
    lines[3] = f"0,256 {lines[3].split(',')[1].split(' ', 1)[1]},Training"
    lines[4] = "0,,Training"
    (root / "fer2013.csv").write_text("\n".join(lines))
    faces = load_ferplus(root, "train")
    np.testing.assert_array_equal(faces.images, [pixels(4)])
    assert faces.skipped == 4
    assert list(faces.unreadable) == ["fer0.png", "fer1.png", "fer2.png", "fer3.png"]


def test_broken_images_in_a_folder(publish: Write, tmp_path: Path) -> None:
    """Missing, empty, of another size, or outside the folder: named and counted."""
    names = ["missing.png", "empty.png", "size.png", "../out.png", "good.png"]
    root = publish([Face("Training", name, n) for n, name in enumerate(names)], "folders")
    folder = root / "FER2013Train"
    (folder / "missing.png").unlink()
    (folder / "empty.png").write_bytes(b"")
    cv2.imwrite(str(folder / "size.png"), np.zeros((50, 48), np.uint8))
    assert (root / "out.png").is_file()
    faces = load_ferplus(root, "train")
    assert list(faces.unreadable) == names[:4]
    assert len(faces.images) == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("fer2013.csv", "pixels", "dots", r"fer2013\.csv: columns missing: pixels"),
        ("fer2013new.csv", "contempt", "x", r"fer2013new\.csv: columns missing: contempt"),
        ("fer2013.csv", "PublicTest", "Training", r"fer2013\.csv line 5: Usage is 'Training'"),
        ("fer2013new.csv", ",10,", ",-1,", r"line 2: happiness is '-1'"),
        ("fer2013new.csv", ",10,", ",1.5,", r"line 2: happiness is '1.5'"),
        ("fer2013.csv", "0,", '0,"' + "1 " * 70_000, r"fer2013\.csv"),
    ],
)
def test_wrong_table_is_named(publish: Write, file: str, old: str, new: str, named: str) -> None:
    """The error names the file and the column; an endless cell does not fill the memory."""
    root = publish()
    text = (root / file).read_text()
    (root / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DatasetError, match=named):
        load_ferplus(root, "train")


@pytest.mark.parametrize("file", ["fer2013.csv", "fer2013new.csv"])
def test_tables_of_different_length(publish: Write, file: str) -> None:
    """Row i of one is row i of the other, so an extra row is an error."""
    root = publish()
    with (root / file).open("a") as table:
        table.write((root / file).read_text().splitlines()[-1] + "\n")
    with pytest.raises(DatasetError, match=f"/{file}: "):
        load_ferplus(root, "train")


def test_incomplete_dataset(publish: Write) -> None:
    """Votes without images, a missing folder, an unknown split."""
    root = publish()
    (root / "fer2013.csv").unlink()
    assert not has_split(root, "test")
    with pytest.raises(DatasetError, match=r"fer2013\.csv.*FER2013Test"):
        load_ferplus(root, "test")
    with pytest.raises(DatasetError, match="/none: "):
        load_ferplus(root / "none", "test")
    with pytest.raises(DatasetError, match="split 'dev'"):
        load_ferplus(root, "dev")


@pytest.mark.parametrize("layout", ["tables", "folders"])
def test_cache_changes_nothing(publish: Write, layout: str, tmp_path: Path) -> None:
    """The same faces and counts; a changed image of a later split is noticed."""
    faces = [*FACES, Face("Training", "bad.png", 9), Face("Training", "fer0000009.png", 8)]
    root = publish(faces, layout)
    if layout == "folders":
        (root / "FER2013Train" / "bad.png").write_bytes(b"")
    fresh = load_ferplus(root, "train")
    load_ferplus(root, "train", FeatureCache(tmp_path / "cache"))
    cache = FeatureCache(tmp_path / "cache")
    cached = load_ferplus(root, "train", cache)
    assert (cache.hits, cache.built) == (1, 0)
    for name in ("images", "votes", "labels"):
        np.testing.assert_array_equal(getattr(cached, name), getattr(fresh, name))
    assert (cached.skipped, cached.duplicates) == (fresh.skipped, fresh.duplicates)
    assert list(cached.unreadable) == list(fresh.unreadable)
    publish([*faces, Face("PrivateTest", "fer0000010.png", 0)], layout)
    changed = load_ferplus(root, "train", cache)
    np.testing.assert_array_equal(changed.images, load_ferplus(root, "train").images)
    assert changed.duplicates == fresh.duplicates + 1

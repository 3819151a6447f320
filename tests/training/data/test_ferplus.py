"""FER+: from ten votes to a label, and from an archive to images, damaged or not."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.training.data.ferplus import (
    VOTES,
    find_vote_labels,
    label_from_votes,
    load_ferplus,
)
from emotion_edge.training.data.label_names import LabelNames
from emotion_edge.training.errors import DatasetError

WriteFerplus = Callable[..., Path]
VOTE_LABELS = find_vote_labels(LabelNames())
HEADER = b"file," + ",".join(VOTES).encode()


def count_votes(**votes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([votes.get(name, 0) for name in VOTES], np.int64)


@pytest.mark.parametrize(
    ("votes", "label", "shares"),
    [
        ({"happiness": 10}, "happy", {"happy": 1.0}),
        ({"anger": 6, "disgust": 4}, "angry", {"angry": 0.6, "disgust": 0.4}),
        # A single vote is an outlier and counts neither for the shares nor for the majority.
        ({"fear": 5, "surprise": 4, "sadness": 1}, "fear", {"fear": 5 / 9, "surprise": 4 / 9}),
        ({"sadness": 2, "neutral": 1, "anger": 1, "fear": 1}, "sad", {"sad": 1.0}),
        # Half is not more than half.
        ({"neutral": 5, "sadness": 5}, None, {"neutral": 0.5, "sad": 0.5}),
        ({"neutral": 4, "sadness": 3, "fear": 3}, None, {"neutral": 0.4, "sad": 0.3, "fear": 0.3}),
        # Contempt and unknown count for the majority, but are no labels.
        ({"contempt": 6, "neutral": 4}, None, {"neutral": 1.0}),
        ({"contempt": 3, "neutral": 7}, "neutral", {"neutral": 1.0}),
        ({"unknown": 5, "surprise": 5}, None, {"surprise": 1.0}),
    ],
)
def test_label_from_votes(
    votes: dict[str, int], label: str | None, shares: dict[str, float]
) -> None:
    """The rule of Barsoum et al. for the product's labels."""
    distribution, index = label_from_votes(count_votes(**votes), VOTE_LABELS, len(LABELS))
    assert distribution is not None
    assert index == (LABELS.index(label) if label else -1)
    want = np.array([shares.get(name, 0.0) for name in LABELS])
    np.testing.assert_allclose(distribution, want, rtol=1e-6)


@pytest.mark.parametrize(
    "votes",
    [
        {},
        {"contempt": 10},
        {"unknown": 8, "anger": 1, "fear": 1},
        {"NF": 10},
        dict.fromkeys(VOTES, 1),
    ],
)
def test_no_vote_left(votes: dict[str, int]) -> None:
    """Faces without a vote for one of the seven labels have no distribution."""
    assert label_from_votes(count_votes(**votes), VOTE_LABELS, len(LABELS)) == (None, -1)


def test_labels_of_a_recipe() -> None:
    """Contempt may be a label, several votes may share one; a vote without a label is named."""
    names = LabelNames(("joy", "contempt"), {"happiness": "joy", "surprise": "joy", "fear": ""})
    with pytest.raises(
        DatasetError, match="FER\\+ has the labels neutral, sadness, anger, disgust"
    ):
        find_vote_labels(names)
    left_out = dict.fromkeys(("neutral", "sad", "angry", "disgust"), "")
    labels = find_vote_labels(LabelNames(names.labels, {**names.map, **left_out}))
    votes = count_votes(happiness=4, surprise=3, contempt=3, fear=2)
    distribution, index = label_from_votes(votes, labels, 2)
    np.testing.assert_allclose(distribution, [0.7, 0.3], rtol=1e-6)
    assert index == 0


def test_good_split(write_ferplus: WriteFerplus) -> None:
    """Images, distributions and labels, in the order of the table."""
    root = write_ferplus({"a.png": {"happiness": 10}, "b.png": {"anger": 5, "fear": 5}})
    faces = load_ferplus(root, "train")
    assert faces.images.shape == (2, 48, 48)
    assert faces.images.dtype == np.uint8
    assert faces.images.std() > 50
    assert faces.labels.tolist() == [LABELS.index("happy"), -1]
    np.testing.assert_allclose(faces.votes.sum(axis=1), 1.0)
    assert faces.skipped == 0


def test_unreadable_images_are_skipped_and_counted(
    write_ferplus: WriteFerplus, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken, missing, of another size or too large: named; without a vote: only counted."""
    happy = {"happiness": 10}
    other_size = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    contents = {
        "broken.png": b"not an image",
        "empty.png": b"",
        "missing.png": None,
        "size.png": other_size,
        "large.png": bytes((1 << 20) + 1),
    }
    rows = {"good.png": happy, **dict.fromkeys(contents, happy), "voteless.png": {"NF": 10}}
    faces = load_ferplus(write_ferplus(rows, contents), "train")
    assert len(faces.images) == 1
    assert faces.skipped == 6
    assert list(faces.unreadable) == list(contents)
    assert all(name in caplog.text for name in contents)
    assert "voteless.png" not in caplog.text


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_bytes_in_the_zip(write_ferplus: WriteFerplus, packed: int) -> None:
    """An image whose bytes changed on disk is skipped, stored or deflated."""
    root = write_ferplus({"a.png": {"fear": 10}, "b.png": {"fear": 10}})
    with zipfile.ZipFile(root / "train.zip") as archive:
        images = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(root / "train.zip", "w", packed) as archive:
        for name, data in images.items():
            archive.writestr(name, data)
    damaged = bytearray((root / "train.zip").read_bytes())
    for at in range(35, 400):  # past the first local header
        damaged[at] ^= 0x55
    (root / "train.zip").write_bytes(damaged)
    faces = load_ferplus(root, "train")
    assert faces.skipped == 1
    assert len(faces.images) == 1


@pytest.mark.parametrize(
    ("file", "data", "named"),
    [
        ("train.csv", None, r"train\.csv"),
        ("train.zip", None, r"train\.zip"),
        ("train.zip", b"not a zip", r"train\.zip"),
        ("train.csv", b"", r"train\.csv.*NF"),
        ("train.csv", b"file,neutral\na.png,10\n", r"train\.csv.*NF, anger"),
        ("train.csv", b"\xff\xfe\x00", r"train\.csv"),
        ("train.csv", HEADER + b"\na,x", r"train\.csv line 2: neutral"),
        ("train.csv", HEADER + b"\na,1", r"train\.csv line 2: happiness"),
        ("train.csv", HEADER + b"\n", r"train\.zip"),
    ],
)
def test_wrong_file_is_named(
    write_ferplus: WriteFerplus, file: str, data: bytes | None, named: str
) -> None:
    """The error names the file, and the column or line."""
    root = write_ferplus({"a.png": {"happiness": 10}})
    (root / file).unlink()
    if data is not None:
        (root / file).write_bytes(data)
    with pytest.raises(DatasetError, match=named):
        load_ferplus(root, "train")


def test_real_split(shared_data: Path) -> None:
    """Every row is a face or counted as skipped; most faces have a hard label."""
    faces = load_ferplus(shared_data / "ferplus", "valid")
    num_rows = len((shared_data / "ferplus" / "valid.csv").read_text().splitlines()) - 1
    assert len(faces.images) + faces.skipped == num_rows == 3_510
    assert faces.skipped < 50
    assert (faces.labels >= 0).mean() > 0.8
    assert set(faces.labels) == {-1, *range(7)}
    np.testing.assert_allclose(faces.votes.sum(axis=1), 1.0, atol=1e-6)


def test_copies_across_zips(write_ferplus: WriteFerplus) -> None:
    """Faces of the validation split and repeated faces are skipped and counted. A face without a
    label in the later split does not count."""
    happy = {"happiness": 10}
    images = {
        name: cv2.imencode(".png", np.full((48, 48), level, np.uint8))[1].tobytes()
        for name, level in {"a.png": 10, "b.png": 20, "c.png": 10, "d.png": 30, "e.png": 40}.items()
    }
    root = write_ferplus({"b.png": happy, "e.png": {"NF": 10}}, images)
    for suffix in (".csv", ".zip"):
        (root / f"train{suffix}").rename(root / f"valid{suffix}")
    write_ferplus(dict.fromkeys(images, happy), images)
    train = load_ferplus(root, "train")
    assert train.images[:, 0, 0].tolist() == [10, 30, 40]
    assert (train.duplicates, train.skipped) == (2, 0)
    valid = load_ferplus(root, "valid")
    assert valid.images[:, 0, 0].tolist() == [20]
    assert (valid.duplicates, valid.skipped) == (0, 1)


def test_unreadable_images_are_named(
    write_ferplus: WriteFerplus, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that are broken, not those without a vote."""
    happy = {"happiness": 10}
    rows = {"good.png": happy, "bad.png": happy, "voteless.png": {"NF": 10}}
    faces = load_ferplus(write_ferplus(rows, {"bad.png": b"broken"}), "train")
    assert list(faces.unreadable) == ["bad.png"]
    assert faces.skipped == 2
    assert "bad.png cannot be read" in caplog.text
    assert "voteless.png" not in caplog.text

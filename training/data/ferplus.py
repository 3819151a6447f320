"""FER+ faces: `ROOT/SPLIT.zip` with 48x48 grey pictures and `ROOT/SPLIT.csv` with ten votes each.

In: the two files of a split. Out: pictures, the voters' distribution over the product's labels,
and one hard label per face (or -1 where the voters did not agree).
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...engines.bundle import LABELS
from . import DatasetError

VOTES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
_LABEL_OF_VOTE = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
}
FACE_PX = 48
_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FaceSet:
    """`images` uint8 (N, 48, 48), `votes` float32 (N, 7) summing to 1, `labels` int64 (N,)."""

    images: NDArray[np.uint8]
    votes: NDArray[np.float32]
    labels: NDArray[np.int64]
    skipped: int
    """Faces left out: unreadable, or with no vote for any of the seven labels."""


def label_from_votes(counts: NDArray[np.int64]) -> tuple[NDArray[np.float32] | None, int]:
    """One face's ten vote counts -> (distribution over `LABELS`, hard label or -1).

    Barsoum et al. 2016 (arXiv:1608.01041): a vote cast by one person only is an outlier, and the
    majority label needs more than half of the rest. Contempt, unknown and "no face" are not
    labels of the product: a face they win has no hard label, and their votes leave the
    distribution. None when nothing is left.
    """
    kept = np.where(counts > 1, counts, 0)
    distribution = np.zeros(len(LABELS), np.float32)
    for vote, count in zip(VOTES, kept, strict=True):
        if vote in _LABEL_OF_VOTE:
            distribution[LABELS.index(_LABEL_OF_VOTE[vote])] += count
    total = distribution.sum()
    if total == 0:
        return None, -1
    best = int(distribution.argmax())
    agreed = distribution[best] * 2 > kept.sum()
    return distribution / total, best if agreed else -1


def _decode_face(archive: zipfile.ZipFile, name: str) -> NDArray[np.uint8] | None:
    try:
        info = archive.getinfo(name)
        if info.file_size > _MAX_FILE_BYTES:
            return None
        encoded = np.frombuffer(archive.read(info), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    # zipfile's own way to say that a picture is damaged, encrypted or packed in an unknown manner.
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, cv2.error):
        return None
    if image is None or image.shape != (FACE_PX, FACE_PX):
        return None
    return np.asarray(image, np.uint8)


def load_ferplus(root: Path, split: str) -> FaceSet:
    """Read one split. Raises DatasetError when a file is missing or is not what it should be."""
    table, pictures = root / f"{split}.csv", root / f"{split}.zip"
    for path in (table, pictures):
        if not path.is_file():
            raise DatasetError(f"{path}: no such file (FER+ needs {split}.csv and {split}.zip)")
    images: list[NDArray[np.uint8]] = []
    votes: list[NDArray[np.float32]] = []
    labels: list[int] = []
    skipped = 0
    try:
        with zipfile.ZipFile(pictures) as archive:
            reader = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))
            missing = {"file", *VOTES} - set(reader.fieldnames or ())
            if missing:
                raise DatasetError(f"{table}: columns missing: {', '.join(sorted(missing))}")
            for row in reader:
                counts = np.array([int(row[vote]) for vote in VOTES], np.int64)
                distribution, label = label_from_votes(counts)
                image = _decode_face(archive, row["file"]) if distribution is not None else None
                if image is None or distribution is None:
                    skipped += 1
                    continue
                images.append(image)
                votes.append(distribution)
                labels.append(label)
    except zipfile.BadZipFile as error:
        raise DatasetError(f"{pictures}: not a FER+ split: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: not a table of FER+ votes: {error}") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{table}: a vote is not a number: {error}") from error
    if not images:
        raise DatasetError(f"{pictures}: no readable face in it")
    return FaceSet(np.stack(images), np.stack(votes), np.array(labels), skipped)

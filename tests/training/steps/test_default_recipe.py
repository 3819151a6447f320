"""The recipe of the bundle that ships, on toy data with tiny networks: FER+ without people, RAVDESS
in folds, action units in the place of a face."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles import Bundle, load_bundle
from emotion_edge.training.__main__ import main
from emotion_edge.training.data.action_units import UNITS
from emotion_edge.training.data.ferplus import VOTES
from emotion_edge.training.data.ravdess import EMOTIONS8, TEST_FOLDS
from emotion_edge.training.steps import run

from ..wav_files import write_wav

RECIPE = Path(run.__file__).with_name("default_recipe.yaml")
FERPLUS_LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
ACTORS = [actor for fold in TEST_FOLDS for actor in fold]
SETTINGS = (
    "seeds=1",
    "precision=[]",
    "face.rounds=[{stages: [{num_epochs: 1, sizes_px: [32]}]}]",
    "face.learning.batch_size=14",
    "face.compile_model=false",
    "voice.num_epochs=1",
    "voice.network={num_members: 1, channels: [4, 4, 8], lstm_size: 8}",
    "voice.augmentation={num_variants: 1, crop_frames: 64}",
    "fusion.num_epochs=1",
)


def write_faces(root: Path, split: str, num_faces: int) -> None:
    """Write images whose brightness depends on the label, with ten votes for it."""
    rng = np.random.default_rng(num_faces)
    root.mkdir(exist_ok=True)
    with (
        zipfile.ZipFile(root / f"{split}.zip", "w") as archive,
        (root / f"{split}.csv").open("w", newline="") as file,
    ):
        table = csv.DictWriter(file, ["file", *VOTES], restval=0)
        table.writeheader()
        for i in range(num_faces):
            label = i % len(FERPLUS_LABELS)
            pixels = np.clip(rng.normal(30 + 30 * label, 20, (48, 48)), 0, 255).astype(np.uint8)
            archive.writestr(f"{i}.png", cv2.imencode(".png", pixels)[1].tobytes())
            table.writerow({"file": f"{i}.png", FERPLUS_LABELS[label]: 10})


def write_recordings(root: Path, units: Path) -> None:
    """Write a short recording per actor and emotion, one tone for each emotion, and a table of
    action units of the same recordings."""
    rng = np.random.default_rng(0)
    t = np.arange(9_600) / 16_000
    with units.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", *UNITS])
        for actor in ACTORS:
            for number in range(len(EMOTIONS8)):
                code = f"01-{number + 1:02}-01-01-01-{actor:02}"
                audio = 0.3 * np.sin(2 * np.pi * 150 * 1.5**number * t)
                audio += 0.01 * rng.standard_normal(len(t))
                write_wav(root / f"03-{code}.wav", (audio * 32_000).astype(np.int16))
                values = rng.uniform(0, 0.5, len(UNITS)).round(4)
                values[number] += 0.5
                table.writerow([f"01-{code}", *values])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("default")
    write_faces(root / "ferplus", "train", 140)
    write_faces(root / "ferplus", "valid", 21)
    write_recordings(root / "ravdess", root / "units.csv")
    data = [
        f"{{kind: {kind}, root: '{root / name}'}}"
        for kind, name in (
            ("ferplus", "ferplus"),
            ("ravdess", "ravdess"),
            ("action_units", "units.csv"),
        )
    ]
    settings = [f"data=[{', '.join(data)}]", f"out={root / 'out'}", f"work={root / 'work'}"]
    options = [part for setting in (*settings, *SETTINGS) for part in ("--set", setting)]
    assert main(["all", str(RECIPE), *options]) == 0
    return load_bundle(root / "out")


def test_folds(bundle: Bundle) -> None:
    """Each actor is tested once, on seven labels and on the eight emotions; the networks that ship
    train on all of them."""
    folds = bundle.manifest.metrics["folds"]
    for label_set in ("labels", "fine"):
        for name in ("voice", "units", "units_fusion", "units_late_fusion"):
            summary = folds[label_set][name]
            assert summary["runs"] == len(TEST_FOLDS)
            assert np.sum(summary["confusion"]) == len(ACTORS) * len(EMOTIONS8)
    assert np.shape(folds["fine"]["voice"]["confusion"]) == (8, 8)
    assert "face" not in folds["labels"], "FER+ has no people to fold over"
    people = bundle.manifest.provenance["people"]["voice"]
    assert people["training"] == sorted(f"ravdess:{actor:02}" for actor in ACTORS)
    assert (bundle.path.parent / "work" / "folds.json").is_file()


def test_faces(bundle: Bundle) -> None:
    """FER+ `valid` is scored at the size of every level, and no person is named."""
    metrics = bundle.manifest.metrics
    for level in bundle.manifest.levels:
        assert metrics[f"face_{level.face_px}px"]["n"] == 21
    assert bundle.manifest.provenance["people"]["face"]["training"] == []


def test_values_of_the_recipe(bundle: Bundle) -> None:
    """Fusion from the people of the folds, doubt and threshold as set, licences of the data."""
    manifest = bundle.manifest
    assert manifest.fusion is not None
    assert manifest.provenance["fusion"]["face_doubt"] == 3.0
    assert "action units" in manifest.provenance["fusion"]["pairs"]
    assert manifest.abstain_below == 0.3
    licences = {row["name"]: row["licence"] for row in manifest.provenance["data_sets"]}
    assert "NC" in licences["RAVDESS"]
    assert set(licences) >= {"FER+", "RAVDESS"}

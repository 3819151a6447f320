"""The whole recipe on toy data: data sets in, a verified and scored bundle out."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import Bundle, load_bundle
from emotion_edge.engines.golden import check_golden_output
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.training.__main__ import main
from emotion_edge.training.data.action_units import UNITS
from emotion_edge.training.data.ferplus import VOTES
from emotion_edge.training.data.ravdess import TEST_FOLDS
from emotion_edge.training.recipes.action_units import UnitsRecipe
from emotion_edge.training.recipes.default import (
    ACTORS,
    DatasetPaths,
    fusion_weights,
    train_default,
)
from emotion_edge.training.recipes.face import FaceRecipe, Round
from emotion_edge.training.recipes.fusion import FusionRecipe
from emotion_edge.training.recipes.ravdess_folds import Recipes
from emotion_edge.training.recipes.voice import VoiceRecipe

from ..wav_files import write_wav

FERPLUS_LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
EMOTION_CODES = ("01", "03", "05", "08")
FACE = FaceRecipe(rounds=(Round(((32,),), 2e-3, 0.9),), batch_size=14, compile_model=False)
REST = Recipes(
    VoiceRecipe(num_epochs=1, batch_size=8, num_members=2, num_variants=2),
    UnitsRecipe(num_trees=5),
    FusionRecipe(num_epochs=1, batch_size=8),
)


def write_faces(root: Path, split: str, num_faces: int) -> None:
    """Write images whose brightness depends on the label, with ten votes for it."""
    rng = np.random.default_rng(num_faces)
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


def write_voices(root: Path) -> None:
    """Write a short recording per actor and emotion, one tone for each emotion."""
    rng = np.random.default_rng(0)
    t = np.arange(12_000) / 16_000
    for actor in ACTORS:
        for octave, code in enumerate(EMOTION_CODES):
            audio = 0.3 * np.sin(2 * np.pi * 300 * 2**octave * t)
            audio += 0.01 * rng.standard_normal(len(t))
            path = root / f"Actor_{actor:02}" / f"03-01-{code}-01-01-01-{actor:02}.wav"
            write_wav(path, (audio * 32_000).astype(np.int16))


def write_units(path: Path) -> None:
    """Write action units of the same recordings."""
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", *UNITS])
        for actor in ACTORS:
            for code in EMOTION_CODES:
                units = rng.uniform(0, 0.5, len(UNITS)).round(4)
                units[int(code)] += 0.5
                table.writerow([f"01-01-{code}-01-01-01-{actor:02}", *units])


def train_toy(root: Path, out: Path) -> Bundle:
    sources = DatasetPaths(root, root / "ravdess", root / "units.csv")
    return train_default(sources, root / "work", out, FACE, REST)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy data sets and the bundle trained on them."""
    root = tmp_path_factory.mktemp("toy")
    write_faces(root, "train", 70)
    write_faces(root, "valid", 21)
    write_voices(root / "ravdess")
    write_units(root / "units.csv")
    train_toy(root, root / "bundle")
    return root


@pytest.fixture(scope="module")
def bundle(toy: Path) -> Bundle:
    return load_bundle(toy / "bundle")


def test_bundle_passes_its_golden_check(bundle: Bundle) -> None:
    """All three networks reproduce their golden output."""
    for network in ("face", "voice", "fusion"):
        with OnnxEngine(bundle.model_path(network)) as engine:
            check_golden_output(engine, bundle, network)
    assert sum(model.fusion_weight for model in bundle.manifest.models.values()) == pytest.approx(1)


def test_metrics_and_provenance(bundle: Bundle) -> None:
    """Metrics of every image size and of the folds, licences of the data, a model card."""
    metrics, provenance = bundle.manifest.metrics, bundle.manifest.provenance
    for name in ("voice", "units", "fusion"):
        summary = metrics["ravdess_folds"]["seven"][name]
        assert summary["runs"] == len(TEST_FOLDS)
        assert np.sum(summary["confusion"]) == 20 * len(EMOTION_CODES), "each actor tested once"
    sizes = {f"face_ferplus_valid_{level.face_px}px" for level in bundle.manifest.levels}
    assert sizes < set(metrics)
    licences = {row["name"]: row["licence"] for row in provenance["data_sets"]}
    assert "NC" in licences["RAVDESS"]
    assert provenance["voice"]["actors"] == ACTORS
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "CC BY-NC-SA" in card
    accuracy = metrics["ravdess_folds"]["eight"]["voice"]["accuracy_mean"]
    assert f"{accuracy:.3f}" in card


def test_recipe_resumes(toy: Path, bundle: Bundle) -> None:
    """A second start uses the work folder and writes the same files."""
    again = train_toy(toy, toy / "again" / "bundle")
    assert again.manifest.files == bundle.manifest.files


@pytest.mark.parametrize(
    ("arguments", "num"),
    [
        (["--dataset", "ferplus", "--split", "valid"], 21),
        (["--dataset", "ravdess", "--actors", "2,5", "--modality", "voice"], 8),
    ],
)
def test_evaluate_writes_the_metrics(
    toy: Path, tmp_path: Path, arguments: list[str], num: int
) -> None:
    """`emotion-train evaluate` scores the bundle and writes the documented keys."""
    out = tmp_path / "metrics.json"
    command = ["evaluate", "--bundle", str(toy / "bundle"), "--root", str(toy), "--json", str(out)]
    assert main([*command, *arguments]) == 0
    metrics = json.loads(out.read_text())
    names = {"accuracy", "uar", "macro_f1", "weighted_f1", "n", "confusion", "labels"}
    assert names <= set(metrics)
    assert metrics["n"] == num
    assert metrics["labels"] == list(LABELS)
    assert np.sum(metrics["confusion"]) == num


def test_fusion_weights_favour_the_better_network() -> None:
    """Weights sum to one, increase with the gain over chance, and are positive."""
    weights = fusion_weights(0.7, 0.4)
    assert weights["face"] > weights["voice"] > 0
    assert sum(fusion_weights(0.1, 0.5).values()) == pytest.approx(1, abs=2e-3)

"""The whole recipe on toy data: data sets in, a bundle that runs and is scored out."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles.manifest import LABELS, Bundle, load_bundle
from emotion_edge.engines.golden import check_golden_output
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.training.__main__ import main
from emotion_edge.training.data.action_units import UNITS
from emotion_edge.training.data.ferplus import VOTES
from emotion_edge.training.data.ravdess import TEST_FOLDS
from emotion_edge.training.recipes.action_units import UnitsRecipe
from emotion_edge.training.recipes.default import DatasetPaths, fusion_weights, train_default
from emotion_edge.training.recipes.face import FaceRecipe, Round
from emotion_edge.training.recipes.fusion import FusionRecipe
from emotion_edge.training.recipes.ravdess_folds import Recipes
from emotion_edge.training.recipes.voice import VoiceRecipe

SEEN = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
EMOTION_CODES = ("01", "03", "05", "08")
FACE = FaceRecipe(rounds=(Round(((32,),), 2e-3, 0.9),), batch_size=14, compile_model=False)
REST = Recipes(
    VoiceRecipe(num_epochs=1, batch_size=8, num_members=2, num_variants=2),
    UnitsRecipe(num_trees=5),
    FusionRecipe(num_epochs=1, batch_size=8),
)


def write_faces(root: Path, split: str, num_faces: int) -> None:
    """Pictures whose brightness tells the label, all ten voters agreeing."""
    rng = np.random.default_rng(num_faces)
    with (
        zipfile.ZipFile(root / f"{split}.zip", "w") as archive,
        (root / f"{split}.csv").open("w", newline="") as file,
    ):
        table = csv.DictWriter(file, ["file", *VOTES], restval=0)
        table.writeheader()
        for i in range(num_faces):
            label = i % len(SEEN)
            pixels = np.clip(rng.normal(30 + 30 * label, 20, (48, 48)), 0, 255).astype(np.uint8)
            archive.writestr(f"{i}.png", cv2.imencode(".png", pixels)[1].tobytes())
            table.writerow({"file": f"{i}.png", SEEN[label]: 10})


def write_voices(root: Path) -> None:
    """One short recording per actor and emotion, a tone each."""
    rng = np.random.default_rng(0)
    t = np.arange(12_000) / 16_000
    for actor in (actor for fold in TEST_FOLDS for actor in fold):
        folder = root / f"Actor_{actor:02}"
        folder.mkdir(parents=True)
        for place, code in enumerate(EMOTION_CODES):
            audio = 0.3 * np.sin(2 * np.pi * 300 * 2**place * t) + 0.01 * rng.standard_normal(
                len(t)
            )
            path = folder / f"03-01-{code}-01-01-01-{actor:02}.wav"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
                pcm = (audio * 32_000).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
                frame.sample_rate = 16_000
                container.mux(stream.encode(frame))
                container.mux(stream.encode(None))


def write_units(path: Path) -> None:
    """Action units of the same takes."""
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", *UNITS])
        for actor in (actor for fold in TEST_FOLDS for actor in fold):
            for code in EMOTION_CODES:
                units = rng.uniform(0, 0.5, len(UNITS)).round(4)
                units[int(code)] += 0.5
                table.writerow([f"01-01-{code}-01-01-01-{actor:02}", *units])


def train_toy(root: Path, out: Path) -> Bundle:
    sources = DatasetPaths(root, root / "ravdess", root / "units.csv")
    return train_default(sources, root / "work", out, FACE, REST)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy FER+, toy RAVDESS and the bundle trained on them."""
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


def test_recipe_gives_a_bundle_that_passes_its_golden_check(bundle: Bundle) -> None:
    """All three networks answer the golden input as they did when they were exported."""
    for network in ("face", "voice", "fusion"):
        with OnnxEngine(bundle.model_path(network)) as engine:
            check_golden_output(engine, bundle, network)
    assert sum(model.fusion_weight for model in bundle.manifest.models.values()) == pytest.approx(1)


def test_bundle_says_how_good_it_is_and_where_it_comes_from(bundle: Bundle) -> None:
    """Metrics of every picture size and of the folds; licences of the data; a model card."""
    metrics, provenance = bundle.manifest.metrics, bundle.manifest.provenance
    for name in ("voice", "units", "fusion"):
        figures = metrics["ravdess_folds"]["seven"][name]
        assert figures["runs"] == len(TEST_FOLDS)
        judged = np.array(figures["confusion"]).sum()
        assert judged == 20 * len(EMOTION_CODES), "every person is tested exactly once"
    sizes = {f"face_ferplus_valid_{level.face_px}px" for level in bundle.manifest.levels}
    assert sizes < set(metrics)
    licences = {one["name"]: one["licence"] for one in provenance["data_sets"]}
    assert "NC" in licences["RAVDESS"]
    assert provenance["voice"]["actors"] == [actor for fold in TEST_FOLDS for actor in fold]
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "CC BY-NC-SA" in card
    reached = metrics["ravdess_folds"]["eight"]["voice"]["accuracy_mean"]
    assert f"{reached:.3f}" in card


def test_recipe_goes_on_where_it_was(toy: Path, bundle: Bundle) -> None:
    """A second start uses what is in the work folder and writes the very same networks."""
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
    """`emotion-train evaluate` scores the bundle and writes the promised keys."""
    out = tmp_path / "figures.json"
    command = ["evaluate", "--bundle", str(toy / "bundle"), "--root", str(toy), "--json", str(out)]
    assert main([*command, *arguments]) == 0
    figures = json.loads(out.read_text())
    names = {"accuracy", "uar", "macro_f1", "weighted_f1", "n", "confusion", "labels"}
    assert names <= set(figures)
    assert figures["n"] == num
    assert figures["labels"] == list(LABELS)
    assert np.array(figures["confusion"]).sum() == num


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dataset", "ferplus", "--split", "test"], "test.csv"),
        (["--dataset", "ferplus", "--actors", "2"], "--actors"),
        (["--dataset", "ravdess", "--actors", "22"], "[22]"),
        (["--dataset", "ravdess", "--split", "valid"], "--split"),
        (["--dataset", "ravdess", "--modality", "face"], "--modality face"),
        (["--dataset", "ferplus", "--level", "huge"], "huge"),
    ],
)
def test_evaluate_refuses_in_one_line(
    toy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    """What cannot be scored is one line that names it, and exit code 2."""
    out = str(tmp_path / "figures.json")
    command = ["evaluate", "--bundle", str(toy / "bundle"), "--root", str(toy), "--json", out]
    assert main([*command, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]


def test_evaluate_leaves_out_a_corrupt_recording(toy: Path, tmp_path: Path) -> None:
    """A recording that cannot be decoded is named, counted and left out."""
    root = tmp_path / "some"
    write_voices(root)
    next(root.rglob("*.wav")).write_bytes(b"no sound at all")
    out = tmp_path / "figures.json"
    command = ["evaluate", "--bundle", str(toy / "bundle"), "--dataset", "ravdess"]
    assert main([*command, "--root", str(root), "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert (figures["skipped"], figures["n"]) == (1, 79)


def test_fusion_weights_favour_the_better_network() -> None:
    """Weights sum to one, follow the gain over chance, and never vanish."""
    weights = fusion_weights(0.7, 0.4)
    assert weights["face"] > weights["voice"] > 0
    assert sum(fusion_weights(0.1, 0.5).values()) == pytest.approx(1, abs=2e-3)

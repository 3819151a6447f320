"""`emotion-calibrate` on the data of a recipe: a folder of one's own, from samples to the gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from emotion_edge.calibration.__main__ import main
from emotion_edge.calibration.samples import load_samples
from emotion_edge.engines.bundles import DEFAULT_BUNDLE, LABELS, Bundle, load_bundle

from ...training.wav_files import write_wav

Capture = pytest.CaptureFixture[str]
PEOPLE = {"ann": "train", "bob": "train", "cid": "valid", "dan": "test"}
EASY = ("--method", "minmax", "--min-agreement", "0.8")


def write_folder(root: Path, kinds: str = "face voice", num: int = 14) -> Path:
    """Write a folder with a manifest: of each person `num` pictures and recordings of noise, whose
    brightness and loudness depend on the label."""
    root.mkdir()
    lines = ["file,label,subject,split"]
    for seed, (person, split) in enumerate(PEOPLE.items()):
        rng = np.random.default_rng(seed)
        for i in range(num):
            place, label = i % len(LABELS), LABELS[i % len(LABELS)]
            if "face" in kinds:
                pixels = np.clip(rng.normal(30 + 30 * place, 20, (112, 112)), 0, 255)
                cv2.imwrite(str(root / f"{person}{i}.png"), pixels.astype(np.uint8))
                lines.append(f"{person}{i}.png,{label},{person},{split}")
            if "voice" in kinds:
                audio = rng.normal(0, 50 * 3**place, 8_000).clip(-32_768, 32_767).astype(np.int16)
                write_wav(root / f"{person}{i}.wav", audio)
                lines.append(f"{person}{i}.wav,{label},{person},{split}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


def write_recipe(root: Path, kinds: str = "face voice") -> Path:
    """Write a recipe of the folder, with small batches."""
    small = {"learning": {"batch_size": 4}}
    networks = {name: small if name in kinds else None for name in ("face", "voice")}
    tree = {"data": [{"kind": "folder", "root": root.name}], **networks}
    path = root.with_name(f"{root.name}.yaml")
    path.write_text(yaml.safe_dump({**tree, "levels": [{"name": "one", "face_px": 48}]}))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(write_folder(tmp_path_factory.mktemp("own") / "mine"))


def test_samples_of_a_recipe(recipe: Path, tmp_path: Path) -> None:
    """Of its training people, the same bytes every time."""
    for name in ("a", "b"):
        assert main(["samples", "--recipe", str(recipe), str(tmp_path / f"{name}.npz")]) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    samples = load_samples(tmp_path / "a.npz")
    for of_network in samples.values():
        assert set(of_network.people) == {"mine:ann", "mine:bob", ""}


def test_recipe(recipe: Path, shared_bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    """INT8 beside FP32; calibration people and the gate's figures, on validation people, are in
    the bundle; `compare` finds the same."""
    out, report = tmp_path / "int8", tmp_path / "report.json"
    command = ["recipe", str(recipe), "--bundle", str(shared_bundle.path), "--out", str(out)]
    code = main([*command, *EASY, "--json", str(report)])
    results = json.loads(report.read_text())
    assert code == (1 if results["refused"] else 0)
    assert [(row["network"], row["n"]) for row in results["rows"][::3]] == [
        ("face", 14),
        ("voice", 14),
    ]
    assert results["refused"] == []
    manifest = load_bundle(out).manifest
    people = manifest.provenance["people"]
    assert people == {name: {"calibration": ["mine:ann", "mine:bob"]} for name in ("face", "voice")}
    precisions = manifest.metrics["precisions"]
    assert precisions["face"]["int8"]["accuracy"] == round(results["rows"][2]["accuracy"], 4)
    assert "valid" in precisions["protocol"]
    again = tmp_path / "again.json"
    assert (
        main(["compare", "--bundle", str(out), "--recipe", str(recipe), "--json", str(again)]) == 0
    )
    assert json.loads(again.read_text())["rows"] == results["rows"]


def test_gate_refuses(
    recipe: Path,
    write_bundle: Callable[..., Bundle],
    make_network: Callable[..., bytes],
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """Exit code 1, the violated limits, and no bundle."""
    bundle = write_bundle(face=make_network("face", "always"))
    command = ["recipe", str(recipe), "--bundle", str(bundle.path), "--out", str(tmp_path / "o")]
    assert main([*command, "--method", "minmax", "--min-agreement", "0"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert any(line.startswith("refused: face int8: agreement") for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


@pytest.mark.parametrize("kind", ["face", "voice"])
def test_one_modality(
    kind: str,
    write_bundle: Callable[..., Bundle],
    make_network: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    """A bundle of one network, and data for it alone."""
    recipe = write_recipe(write_folder(tmp_path / "mine", kind), kind)
    bundle = write_bundle(**{kind: make_network(kind)})
    command = ["recipe", str(recipe), "--bundle", str(bundle.path), "--out", str(tmp_path / "o")]
    assert main([*command, *EASY]) == 0
    manifest = load_bundle(tmp_path / "o").manifest
    assert set(manifest.models[kind].variants) == {"int8"}
    command = ["compare", "--bundle", str(tmp_path / "o"), "--folder", str(tmp_path / "mine")]
    assert main([*command, "--min-agreement", "0.5", "--max-ece-rise", "1"]) == 0


def test_scoring_calibration_people_is_noted(
    recipe: Path, shared_bundle: Bundle, tmp_path: Path
) -> None:
    """`compare` on people of the calibration says so, in its JSON and in the bundle."""
    samples, out, report = tmp_path / "s.npz", tmp_path / "int8", tmp_path / "report.json"
    assert main(["samples", "--recipe", str(recipe), str(samples)]) == 0
    command = ["quantize", "--bundle", str(shared_bundle.path), "--samples", str(samples)]
    assert main([*command, "--out", str(out), *EASY]) == 0
    other = shutil.copytree(recipe.with_name("mine"), tmp_path / "mine")
    text = (other / "manifest.csv").read_text()
    swapped = text.replace(",train", ",old").replace(",valid", ",train").replace(",old", ",valid")
    (other / "manifest.csv").write_text(swapped)
    command = ["compare", "--bundle", str(out), "--folder", str(other), "--json", str(report)]
    main([*command, "--record"])
    notes = json.loads(report.read_text())["notes"]
    assert [note.split(":")[0] for note in notes] == ["face", "voice"]
    assert all("2 of the 2" in note and "ann, bob" in note for note in notes)
    assert load_bundle(out).manifest.metrics["precisions"]["notes"] == notes


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["samples", "RECIPE", "out.npz"], "2 paths"),
        (["samples", "--recipe", "RECIPE", "a", "b", "out.npz"], "--recipe"),
        (["samples", "--recipe", "RECIPE", "out.npz", "--lists", "lists"], "--lists"),
        (["samples", "--recipe", "none.yaml", "out.npz"], "none.yaml"),
        (["recipe", "none.yaml", "--bundle", "BUNDLE", "--out", "out"], "none.yaml"),
        (["recipe", "RECIPE", "--bundle", "none", "--out", "out"], "none"),
    ],
)
def test_usage(
    arguments: list[str],
    named: str,
    recipe: Path,
    shared_bundle: Bundle,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    """One line that names the option or file, exit code 2, and nothing is written."""
    known = {"RECIPE": str(recipe), "BUNDLE": str(shared_bundle.path)}
    files = ("out.npz", "none.yaml", "none", "out")
    given = [str(tmp_path / it) if it in files else known.get(it, it) for it in arguments]
    assert main(given) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_another_bundle(recipe: Path, tmp_path: Path, capsys: Capture) -> None:
    """Labels in another order are those of another bundle."""
    tree = yaml.safe_load(recipe.read_text())
    other = recipe.with_name("other.yaml")
    other.write_text(yaml.safe_dump({**tree, "labels": list(LABELS[::-1])}))
    command = ["recipe", str(other), "--bundle", str(DEFAULT_BUNDLE)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "labels" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_too_few_examples(shared_bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    """One line with the network and the number; no bundle is written."""
    recipe = write_recipe(write_folder(tmp_path / "mine", num=7))
    command = ["recipe", str(recipe), "--bundle", str(shared_bundle.path)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "face: 14" in lines[0]
    assert not (tmp_path / "out").exists()

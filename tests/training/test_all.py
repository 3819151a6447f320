"""From data of made-up people to a bundle on the device: `new`, `all`, `run`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markupsafe import escape

from emotion_edge.engines.bundles import Manifest, load_bundle
from emotion_edge.engines.golden import check_golden_output
from emotion_edge.engines.onnx_runtime import OnnxEngine
from emotion_edge.runtime.__main__ import main as run_runtime
from emotion_edge.training.__main__ import main
from emotion_edge.training.config import Round, Stage
from emotion_edge.training.export import rewrite_bundle
from emotion_edge.training.recipe_file import (
    Int8Section,
    PeopleSection,
    Recipe,
    dump_recipe,
    load_recipe,
)
from emotion_edge.training.steps import networks, run
from emotion_edge.training.toy import FILM, make_toy_recipe, write_ravdess

LABELS = ["angry", "happy", "sad", "surprise"]
QUICK = (Round((Stage(2, (48,)),)),)
QUICK_INT8 = Int8Section(method="mse", min_agreement=0.0)
"""The accuracy gate refuses it."""


def shrink(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with the tiny networks of the toy."""
    toy = make_toy_recipe()
    return msgspec.structs.replace(
        recipe,
        levels=toy.levels,
        face=recipe.face and msgspec.structs.replace(toy.face, rounds=QUICK),
        voice=recipe.voice and toy.voice,
        fusion=recipe.fusion and toy.fusion,
        int8=QUICK_INT8,
        **settings,
    )


def write_new_recipe(data: Path, file: Path, **settings: Any) -> Path:
    """What `new` writes for the data, shrunk."""
    draft = file.with_name("draft.yaml")
    assert main(["new", str(data), "--out", str(draft)]) == 0
    file.write_text(dump_recipe(shrink(load_recipe(draft), **settings)))
    return file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy's data, and with everything that `all` makes of it."""
    root = tmp_path_factory.mktemp("all")
    assert main(["toy", str(root / "data")]) == 0
    write_new_recipe(root / "data", root / "recipe.yaml")
    assert main(["all", str(root / "recipe.yaml")]) == 0
    return root


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError

    for name in ("train_face", "train_voice"):
        monkeypatch.setattr(networks, name, refuse)


def test_bundle(root: Path) -> None:
    """Checked networks with the labels of the data; every figure is of test people and measured by
    the device's code; provenance names everybody else."""
    bundle = load_bundle(root / "bundle")
    manifest = bundle.manifest
    assert sorted(manifest.labels) == LABELS
    for name in ("face", "voice", "fusion"):
        with OnnxEngine(bundle.model_path(name)) as engine:
            check_golden_output(engine, bundle, name)
    sizes = {f"face_{level.face_px}px" for level in manifest.levels}
    assert {*sizes, "voice", "fusion"} <= set(manifest.metrics)
    recordings_of_test_people = 2 * len(LABELS) * (2 + 1)
    assert manifest.metrics["voice"]["n"] == recordings_of_test_people
    assert manifest.metrics["fusion"]["n"] == 2 * len(LABELS)
    assert manifest.metrics["voice"]["accuracy"] > 0.5, "by chance 0.25"
    people = manifest.provenance["people"]
    assert len(people["voice"]["training"]) == 6
    assert people["fusion"]["training"] == people["voice"]["validation"]
    for name in ("face", "voice"):
        assert manifest.models[name].temperature != 1
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert f"{manifest.metrics['fusion']['accuracy']:.3f}" in card
    assert "not measured" not in card.lower()


def test_report(root: Path) -> None:
    """One page without external files: figures, curves, settings."""
    page = (root / "work" / "report.html").read_text()
    assert "://" not in page
    assert page.count("data:image/png;base64,") >= 10
    assert "<script" not in page
    for word in ("Fusion", "Voice", "Face, 48 px", "person-9", "sizes_px"):
        assert word in page


def test_device_runs_the_bundle(root: Path, tmp_path: Path) -> None:
    """A film of somebody else, with a face and a voice."""
    out = tmp_path / "out.jsonl"
    arguments = ["--source", str(root / "data" / FILM), "--pace", "max"]
    assert (
        run_runtime(
            ["run", "--bundle", str(root / "bundle"), *arguments, "--output", f"jsonl:{out}"]
        )
        == 0
    )
    estimates = [json.loads(line) for line in out.read_text().splitlines()]
    named = [each for each in estimates if each.get("probabilities")]
    assert len(named) > 20
    assert all(sorted(each["probabilities"]) == LABELS for each in named)


def test_second_call_goes_on(root: Path, no_training: None) -> None:
    """Nothing is trained twice; a choice that needs no training makes another bundle."""
    first = load_bundle(root / "bundle").sha256
    assert main(["all", str(root / "recipe.yaml")]) == 0
    assert load_bundle(root / "bundle").sha256 == first
    settings = ["--set", "abstain_below=0.2", "--set", "precision=[]"]
    settings += ["--set", f"out={root / 'other'}"]
    assert main(["all", str(root / "recipe.yaml"), *settings]) == 0
    other = load_bundle(root / "other")
    assert other.manifest.abstain_below == 0.2
    assert other.sha256 != first


@pytest.mark.parametrize(("missing", "rest"), [("voice", "face"), ("face", "voice")])
def test_one_modality(
    missing: str, rest: str, root: Path, tmp_path: Path, no_training: None
) -> None:
    """No fusion; the network is that of both modalities."""
    settings = [
        "--set",
        f"{missing}=null",
        "--set",
        "precision=[]",
        "--set",
        f"out={tmp_path / 'b'}",
    ]
    assert main(["all", str(root / "recipe.yaml"), *settings]) == 0
    manifest = load_bundle(tmp_path / "b").manifest
    assert list(manifest.models) == [rest]
    assert manifest.fusion is None
    assert {name.partition("_")[0] for name in manifest.metrics} == {rest, "export"}


@pytest.mark.parametrize("refused", [False, True])
def test_int8_and_its_gate(
    refused: bool,
    root: Path,
    tmp_path: Path,
    no_training: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bundle with INT8 is delivered if the gate lets it pass; else that with FP32 alone, and
    output and report say why."""
    line = f"face int8: accuracy 0.1 <{refused}>"

    def calibrate(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        given = dict(zip(command[5::2], command[6::2], strict=True))
        if not refused:
            bundle = load_bundle(Path(given["--bundle"]))
            rewrite_bundle(bundle, Path(given["--out"]), mark)
        gate = {"rows": [], "refused": [line] if refused else []}
        Path(given["--json"]).write_text(json.dumps(gate))
        return subprocess.CompletedProcess(command, int(refused), "", "")

    def mark(manifest: Manifest, _: Path) -> Manifest:
        return msgspec.structs.replace(manifest, provenance={**manifest.provenance, "int8": "made"})

    monkeypatch.setattr(run.subprocess, "run", calibrate)
    settings = ["--set", f"int8.min_agreement=0.{int(refused)}5", "--set", f"out={tmp_path / 'b'}"]
    assert main(["all", str(root / "recipe.yaml"), *settings]) == 0
    assert ("int8" in load_bundle(tmp_path / "b").manifest.provenance) is not refused
    assert (line in capsys.readouterr().out) is refused
    assert (escape(line) in (root / "work" / "report.html").read_text()) is refused


def test_interrupted(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is one line and 130. The next call trains what was interrupted, and nothing else."""
    calls: list[str] = []

    def count(name: str, function: Callable[..., Any], interrupt: bool = False) -> None:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if interrupt:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        monkeypatch.setattr(networks, name, call)

    train_voice = networks.train_voice
    count("train_face", networks.train_face)
    count("train_voice", train_voice, interrupt=True)
    command = ["train", str(root / "recipe.yaml"), "--set", "voice.num_epochs=1"]
    assert main(command) == 130
    count("train_voice", train_voice)
    assert main(command) == 0
    assert calls == ["train_voice"] * 2
    assert main(command) == 0
    assert calls == ["train_voice"] * 2
    assert "Traceback" not in capsys.readouterr().err


def test_ravdess_with_films(tmp_path: Path) -> None:
    """Three commands and no flag but the place of the files, from RAVDESS's layout to the device:
    faces, voices and fusion of the same recordings."""
    write_ravdess(tmp_path / "ravdess", [1, 3, 6, 11, 12, 2])
    settings = {"precision": (), "people": PeopleSection("split", hash=True)}
    file = write_new_recipe(tmp_path / "ravdess", tmp_path / "recipe.yaml", **settings)
    assert main(["all", str(file)]) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.fusion is not None
    assert set(manifest.models) == {"face", "voice"}
    assert any("RAVDESS" in str(row) for row in manifest.provenance["data_sets"])
    assert len(manifest.provenance["people"]["voice"]["training"]) == 2
    for name in ("bundle.json", "MODEL_CARD.md"):
        assert "ravdess:" not in (tmp_path / "bundle" / name).read_text()

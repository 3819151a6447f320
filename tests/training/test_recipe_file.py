"""The recipe of a bundle: defaults, paths, and mistakes that are named in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from emotion_edge.engines.config_file import ConfigError
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.config import FaceConfig, FusionConfig, VoiceConfig, load_config
from emotion_edge.training.recipe_file import (
    COMMENTS,
    LEVELS,
    DataSection,
    FaceSection,
    FusionSection,
    Recipe,
    VoiceSection,
    dump_recipe,
    load_recipe,
)

DATA = "data: [{kind: folder, root: mine}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recipe's folder, with data and noise."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "noise").mkdir()
    (tmp_path / "units.csv").touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_defaults_are_the_bundle_that_ships(folder: Path) -> None:
    """Only the data has no default; the networks' settings are those of the presets."""
    recipe = load_recipe(write(folder, DATA))
    assert recipe.data == (DataSection(kind="folder", root=str(folder / "mine")),)
    assert (recipe.levels, recipe.mel, recipe.seeds) == (LEVELS, MelSpec(), 1)
    face, voice, fusion = (
        load_config(name) for name in ("face-default", "voice-default", "fusion-attention")
    )
    assert isinstance(recipe.face, FaceSection)
    assert isinstance(recipe.voice, VoiceSection)
    assert isinstance(recipe.fusion, FusionSection)
    for section, config in ((recipe.face, face), (recipe.voice, voice), (recipe.fusion, fusion)):
        for name in ("learning", "network", "rounds", "augmentation", "num_epochs", "kind"):
            left, right = getattr(section, name, None), getattr(config, name, None)
            assert _values(left) == _values(right)
    assert isinstance(face, FaceConfig)
    assert isinstance(voice, VoiceConfig)
    assert isinstance(fusion, FusionConfig)
    assert recipe.face.rare_label_share == face.rare_label_share
    assert recipe.fusion.modality_dropout == fusion.modality_dropout


def _values(section: Any) -> Any:
    fields = getattr(section, "__struct_fields__", None)
    return {name: getattr(section, name) for name in fields} if fields else section


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    """Those of the data, the noise, the weights and the results; absolute ones stay."""
    text = (
        f"data: [{{kind: folder, root: mine}}, {{kind: action_units, root: {folder}/units.csv}}]\n"
        "noise: noise\nout: ../bundle/\nvoice: {init_from: voice.pt}\n"
    )
    (folder / "voice.pt").touch()
    recipe = load_recipe(write(folder, text))
    assert [Path(section.root) for section in recipe.data] == [
        folder / "mine",
        folder / "units.csv",
    ]
    assert Path(recipe.noise) == folder / "noise"
    assert (Path(recipe.out), recipe.cache) == (folder.parent / "bundle", folder / "work/cache")
    assert recipe.voice is not None
    assert Path(recipe.voice.init_from) == folder / "voice.pt"
    assert recipe.face is not None
    assert recipe.face.init_from == ""


@pytest.mark.parametrize(
    "text",
    [
        DATA,
        DATA + "labels: [on, 'null', 1e3]\nface: null\nfusion:\nprecision: []\n",
        (
            "data: [{kind: folder, root: mine, map: {bored: '', Bjørn: happy}}]\nvoice: null\n"
            "people: {protocol: folds, hash: true}\nlevels: [{name: only, face_px: 96}]\n"
            "mel: {num_mels: 40, preemphasis: 0}\nnoise: noise\n"
        ),
    ],
)
def test_dump_is_read_back(folder: Path, text: str) -> None:
    """Nothing is lost, and every key has a comment."""
    recipe = load_recipe(write(folder, text))
    dumped = dump_recipe(recipe)
    assert load_recipe(write(folder, dumped)) == recipe
    assert list(yaml.safe_load(dumped)) == list(COMMENTS)
    assert set(COMMENTS) == set(Recipe.__struct_fields__)
    lines = dumped.splitlines()
    assert all(lines[lines.index(line) - 1].startswith("#") for line in lines if line[:1].isalpha())


def test_parts_may_be_null(folder: Path) -> None:
    """In both of YAML's ways."""
    recipe = load_recipe(write(folder, DATA + "face:\nfusion: null\nnoise: null\n"))
    assert (recipe.face, recipe.fusion, recipe.noise) == (None, None, "")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "data is missing"),
        ("data: []", "data is []"),
        ("data: [{kind: folder}]", "data[0].root is missing"),
        ("data: [{root: mine}]", "data[0].kind is missing"),
        ("data: [{kind: film, root: mine}]", "data[0].kind is 'film', allowed: folder, ravdess"),
        ("data: [{kind: folder, root: none}]", "/none': no such"),
        ("data: [{kind: folder, root: units.csv}]", "units.csv': a folder"),
        ("data: [{kind: folder, root: mine, maps: {}}]", "data[0].maps, allowed: kind, root, map"),
        (
            "data: [{kind: folder, root: mine, map: {bored: dull}}]",
            "data[0].map.bored is 'dull', allowed: angry, disgust",
        ),
        (
            "data: [{kind: folder, root: mine, map: {Bored: happy, bored: sad}}]",
            "data[0].map has Bored and bored, allowed: each name once",
        ),
        ("data: [{kind: folder, root: mine, map: {bored: [happy]}}]", "data[0].map"),
        ("data: {kind: folder, root: mine}", "data is {"),
        (DATA + "labels: happy", "labels is 'happy'"),
        (DATA + "voice: {init_from: voice.pt}", "voice.init_from is "),
        (DATA + "people: {hash: perhaps}", "people.hash is 'perhaps'"),
        (DATA + "lables: [a, b]", "lables, allowed: name, labels, data"),
        (DATA + "labels: [one]", "labels are 1, allowed: 2 to 32"),
        (DATA + f"labels: {[f'l{n}' for n in range(33)]}", "labels are 33, allowed: 2 to 32"),
        (DATA + "labels: [happy, sad, Happy]", "'Happy' twice"),
        (DATA + "labels: [happy, '']", "labels has ''"),
        (DATA + f"labels: [happy, {'x' * 33}]", f"'{'x' * 33}'"),
        (DATA + 'labels: [happy, "s\\ad"]', "labels has 's\\x07d'"),
        (DATA + "noise: silence", "noise is "),
        (DATA + "people: {protocol: random}", "people.protocol is 'random', allowed: split, folds"),
        (DATA + "levels: []", "levels is []"),
        (DATA + "levels: [{name: a, face_px: 63}]", "levels[0].face_px is '63'"),
        (
            DATA + "levels: [{name: a, face_px: 64, fps: 2}]",
            "levels[0].fps, allowed: name, face_px",
        ),
        (DATA + "mel: {hop: 0}", "mel"),
        (DATA + "mel: {sample_rate_hz: 44100}", "mel.sample_rate_hz is 44100, allowed: 16000"),
        (DATA + "version: -1", "version is '-1'"),
        (DATA + "face: {learning: {peak_lr: 2}}", "face.learning.peak_lr is '2'"),
        (DATA + "voice: {learning: {lr: 2}}", "voice.learning.lr, allowed: batch_size"),
        (DATA + "fusion: {kind: sum}", "fusion.kind is 'sum', allowed: attention, channel"),
        (DATA + "face: null\nvoice: null", "face and voice are null"),
        (DATA + "precision: [int4]", "int4"),
        (DATA + "seeds: 0", "seeds is '0'"),
    ],
)
def test_mistakes(folder: Path, text: str, named: str) -> None:
    """One line names the file, the key, the value and what is allowed."""
    with pytest.raises(ConfigError) as error:
        load_recipe(write(folder, text))
    message = str(error.value)
    assert message.startswith(f"{folder / 'recipe.yaml'}: ")
    assert named in message
    assert "\n" not in message

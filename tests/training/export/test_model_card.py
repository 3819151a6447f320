"""The model card: licences first, uses, metrics, and no number of its own."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import (
    DEFAULT_BUNDLE,
    FusionEntry,
    Level,
    Manifest,
    ModelEntry,
    load_bundle,
)
from emotion_edge.kernels.spec import ImageSpec, MelSpec, Pcen, Root
from emotion_edge.training.export.model_card import render_model_card
from emotion_edge.training.export.provenance import (
    ESC,
    FERPLUS,
    OWN,
    RAVDESS,
    DataSet,
    describe_data_sets,
    describe_people,
)

BOTH = describe_data_sets({FERPLUS: ["face"], RAVDESS: ["voice", "fusion"]})
MINE = DataSet("mine", OWN, "a folder with a manifest")


def make_manifest(**changes: Any) -> Manifest:
    models = {
        name: ModelEntry(f"{name}.onnx", 1.0, weight, [0.0] * 7)
        for name, weight in (("face", 0.625), ("voice", 0.375))
    }
    manifest = Manifest(
        format=1,
        name="mine",
        labels=list(LABELS),
        image=ImageSpec(),
        mel=MelSpec(),
        levels=[Level("high", 64), Level("low", 48)],
        models=models,
        abstain_below=0.3,
        files={},
        metrics={},
        provenance={"data_sets": BOTH},
        fusion=FusionEntry("fusion.onnx", 8, 1.0, [0.0] * 7, [0.5, 0.5]),
    )
    return msgspec.structs.replace(manifest, **changes)


def section(card: str, title: str) -> str:
    """Return the text under a heading of the second level."""
    return card.split(f"\n## {title}\n", maxsplit=1)[1].split("\n## ", maxsplit=1)[0]


def test_licences_stand_on_top() -> None:
    """Training data and its licences are in bold below the title."""
    lines = render_model_card(make_manifest()).splitlines()
    assert lines[0] == "# Model card: mine"
    bold = lines[2].split("**")[1]
    for words in ("No commercial use", "RAVDESS", "CC BY-NC-SA 4.0", "FER+", "research use only"):
        assert words in bold


@pytest.mark.parametrize(
    ("data_sets", "forbids", "states_all"),
    [([MINE], False, False), ([RAVDESS, MINE], True, False), ([RAVDESS, ESC], True, True)],
)
def test_terms_of_own_data(data_sets: list[DataSet], forbids: bool, states_all: bool) -> None:
    """No licence is made up for data whose owner has not stated one."""
    rows = describe_data_sets({data_set: ["voice"] for data_set in data_sets})
    line = render_model_card(make_manifest(provenance={"data_sets": rows})).splitlines()[2]
    assert ("No commercial use" in line) == forbids
    assert ("under the same terms" in line) == states_all
    assert (OWN in line) != states_all


def test_unknown_data_sets() -> None:
    """Without data sets, no use is allowed."""
    for provenance in ({}, {"data_sets": []}, {"data_sets": None}, {"data_sets": ["RAVDESS"]}):
        card = render_model_card(make_manifest(provenance=provenance))
        assert "**No commercial use" in card.splitlines()[2]
        assert section(card, "Training data").strip() == "Not stated."


def test_what_it_is() -> None:
    """Every network with its input and output; the emotion is apparent."""
    text = section(render_model_card(make_manifest()), "What it is")
    assert "apparent" in text
    assert "| face | face.onnx | a face, 64 × 64 or 48 × 48 px | embedding, 7 logits |" in text
    assert "| voice | voice.onnx | log-mel of 3 s, 64 × 300 |" in text
    assert "| fusion | fusion.onnx | embeddings of 8 faces and of the voice |" in text
    assert ", ".join(LABELS) in text
    assert "fixed weights" not in text


def test_compression_is_named() -> None:
    """In the input of the voice."""
    for compression, words in ((Pcen(), "PCEN) of 3 s"), (Root(exponent=0.25), "power of 0.25 of")):
        card = render_model_card(make_manifest(mel=MelSpec(compression=compression)))
        assert words in section(card, "What it is")


def test_without_a_fusion_network() -> None:
    """The weights of late fusion, unless there is one network only."""
    text = section(render_model_card(make_manifest(fusion=None)), "What it is")
    assert "fusion.onnx" not in text
    assert "face 0.625, voice 0.375" in text
    face = {"face": make_manifest().models["face"]}
    text = section(render_model_card(make_manifest(fusion=None, models=face)), "What it is")
    assert "voice" not in text.split("| face |")[1]


def test_uses() -> None:
    """The use that is forbidden by law comes first."""
    card = render_model_card(make_manifest())
    forbidden = section(card, "Forbidden uses")
    first = " ".join(forbidden.strip().split("\n- ")[0].split())
    assert "at work or in education" in first
    assert "Art. 5(1)(f)" in first
    for word in ("hiring", "Police", "credit", "diagnosis", "Covert"):
        assert word in forbidden
    assert section(card, "Intended uses").count("- ") >= 2


def test_limits_are_those_of_the_data() -> None:
    """Limits of each data set, and of the product."""
    limits = section(render_model_card(make_manifest()), "Known failures and limits")
    for words in ("acted: 24", "two sentences", "subject-independent", "fear and disgust", "noise"):
        assert words in " ".join(limits.split())
    voice = {"data_sets": describe_data_sets({RAVDESS: ["voice"]})}
    limits = section(
        render_model_card(make_manifest(provenance=voice)), "Known failures and limits"
    )
    assert "FER+" not in limits
    assert "RAVDESS" in limits


def test_metrics_are_shown() -> None:
    """Every entry of the metrics, per label, and the sizes of the networks."""
    metrics = {
        "voice_ravdess_folds": {"uar_mean": 0.59, "uar_std": 0.04, "confusion": [[1] * 7] * 7},
        "folds": {"eight": {"voice": {"confusion": [[2] * 8] * 8}}},
        "robustness": {"noise": {"0 dB": {"accuracy": 0.31}}},
        "export": {
            "face": {
                "parameters": 4337283,
                "bytes": 8754693,
                "real_inputs": 40,
                "onnx_difference": {"embedding": 5e-6, "logits": 2e-6},
                "rounding_difference": {"logits": 0.004},
            },
            "voice": {"real_inputs": 0},
        },
    }
    card = render_model_card(make_manifest(metrics=metrics))
    text = section(card, "How good it is")
    assert "| UAR | 0.590 ± 0.040 |" in text
    assert "| disgust | 0.143 | 0.143 | 7 |" in text
    assert "| calm | 0.125 | 0.125 | 16 |" in text
    assert "| 0 dB | 0.310 |" in text
    assert "| face | 2.0e-06 | 0.004 | 40 real inputs |" in text
    assert "| voice | – | – | a synthetic input |" in text
    assert "| 4337283 | 8754693 |" in section(card, "What it is")


def test_people() -> None:
    """How many each network has seen, by role; no name."""
    people = {"face": {"training": ["mine:ann", "mine:bob"], "calibration": ["mine:ann"]}}
    for salt in ("", "salt"):
        provenance = {"data_sets": BOTH, **describe_people(people, salt)}
        card = render_model_card(make_manifest(provenance=provenance))
        assert "| face | 2 | – | 1 |" in section(card, "Training data")
        assert not any(word in card for word in ("mine:ann", "sha256:", "people_salt"))
    assert "People" not in section(render_model_card(make_manifest()), "Training data")


def test_calibration() -> None:
    """The temperatures, how the threshold was chosen, and what nobody has calibrated."""
    text = section(render_model_card(make_manifest()), "What it is")
    assert "temperature: face 1, voice 1, fusion 1." in text
    provenance = {"not_calibrated": ["voice"], "abstain_below": "2% of the right answers"}
    card = render_model_card(make_manifest(provenance=provenance))
    text = section(card, "What it is")
    assert "temperature: face 1, fusion 1." in text
    assert "Not calibrated: voice." in text
    assert "(2% of the right answers)" in text
    assert "not_calibrated" not in card
    provenance = {"not_calibrated": ["face", "voice", "fusion"]}
    card = render_model_card(make_manifest(provenance=provenance))
    assert "temperature:" not in card


def test_without_metrics() -> None:
    """The section of the metrics has no number, and does not say that nobody has measured."""
    text = section(render_model_card(make_manifest()), "How good it is")
    assert "ot measured" not in text
    assert "emotion-train evaluate" in text
    assert not re.search(r"\d", text)
    assert "4337283" not in render_model_card(make_manifest())


@pytest.mark.parametrize(
    "metrics",
    [{"a": None}, {"a": []}, {"export": None}, {"export": {}}, {"a": {"confusion": [[1]]}}],
)
def test_unusual_metrics(metrics: dict[str, Any]) -> None:
    """Metrics of any shape do not fail."""
    assert "## Privacy" in render_model_card(make_manifest(metrics=metrics))


def test_how_to_reproduce() -> None:
    """Recipe, settings, versions and commit in one line each, and the commands."""
    provenance = {
        "recipe": "training/recipes/default.py",
        "commit": "abc-dirty",
        "versions": {"torch": "2.13"},
        "voice": {"seed": 3, "actors": [2, 5], "peak_lr": 0.003, "note": "a\nb"},
    }
    text = section(render_model_card(make_manifest(provenance=provenance)), "How to reproduce")
    assert "- commit: abc-dirty\n" in text
    assert "- versions: torch 2.13\n" in text
    assert "- voice: seed 3, actors [2, 5], peak_lr 0.003, note a b\n" in text
    assert "emotion-train evaluate" in text


@pytest.mark.parametrize(
    ("recipe", "names", "command"),
    [
        ("emotion-train all", "emotion-train all RECIPE.yaml", True),
        ("emotion-train export", "one by one", False),
        ("training/default.py", "as far as it stands above", False),
    ],
)
def test_only_what_can_be_repeated_has_a_command(recipe: str, names: str, command: bool) -> None:
    """The bundle of a recipe can be made again; one of single networks cannot."""
    card = render_model_card(make_manifest(provenance={"recipe": recipe}))
    text = section(card, "How to reproduce")
    assert names in text
    assert ("\nTrain: `" in text) == command


def test_card_of_the_shipped_bundle() -> None:
    """It can be rendered from the manifest and ends with one newline."""
    card = render_model_card(load_bundle(DEFAULT_BUNDLE).manifest)
    assert card.endswith("\n")
    assert not card.endswith("\n\n")

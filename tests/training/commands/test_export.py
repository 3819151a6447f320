"""`emotion-train export`: files of weights in, a bundle out, or one line of error."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from emotion_edge.engines.bundles.manifest import load_bundle
from emotion_edge.kernels.spec import MelSpec
from emotion_edge.training.__main__ import main
from emotion_edge.training.commands.export import (
    choose_levels,
    choose_threshold,
    named_size,
    named_temperature,
)
from emotion_edge.training.export import RAVDESS, find_overlap
from emotion_edge.training.loop.checkpoint import load_initial_weights, save_weights
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.fusion import ChannelFusion
from emotion_edge.training.models.voice import VoiceNet
from emotion_edge.training.recipes.fusion import build_fusion
from emotion_edge.training.stored_network import (
    NetworkDescription,
    build_network,
    load_network,
    save_network,
)

THREE = ("calm", "tense", "bored")
DESCRIBED = {
    "face3": NetworkDescription("face", THREE, settings={"dropout": 0.1}, sizes_px=(96,)),
    "voice3": NetworkDescription(
        "voice",
        THREE,
        outputs=("quiet", "tense", "bored", "asleep"),
        groups=(0, 1, 2, 0),
        settings={"num_members": 2, "channels": [4, 4, 8], "lstm_size": 8, "dropout": 0.0},
        mel=MelSpec(low_hz=40.0),
    ),
    "fusion3": NetworkDescription("fusion", THREE, settings={"kind": "attention"}),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of all networks, which are untrained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    networks: dict[str, nn.Module] = {
        "face": FaceNet(),
        "voice": VoiceNet(),
        "emotions": VoiceNet(num_labels=8),
        "attention": build_fusion("attention", 7),
        "channel": ChannelFusion(),
    }
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / f"{name}.pt")
    odd = {"task": "face", "labels": ["a", "b"], "settings": {"arms": 2}}
    save_weights(folder / "odd.pt", networks["channel"], odd)
    for name, description in DESCRIBED.items():
        save_network(folder / f"{name}.pt", build_network(description), description)
    return folder


def test_any_network(weights: Path, tmp_path: Path) -> None:
    """Labels, groups, members, channels, mel and image sizes come from the files of weights."""
    out = tmp_path / "bundle"
    command = ["export", "--face", str(weights / "face3.pt"), "--voice", str(weights / "voice3.pt")]
    command += ["--fusion", str(weights / "fusion3.pt"), "--level", "low=96", "--out", str(out)]
    assert main(command) == 0
    manifest = load_bundle(out).manifest
    assert manifest.labels == list(THREE)
    sizes = {level.name: level.face_px for level in manifest.levels}
    assert sizes == {"high": 96, "medium": 96, "low": 96, "minimal": 96}
    assert manifest.mel == DESCRIBED["voice3"].mel
    assert {len(each.golden_logits) for each in manifest.networks.values()} == {3}
    assert 1 / 3 < manifest.abstain_below < 0.5


@pytest.mark.parametrize(
    ("trained_px", "wanted_px", "sizes_px"),
    [
        ((), {}, [64, 56, 56, 56]),
        ((48, 64, 112), {}, [64, 56, 56, 56]),
        ((112,), {}, [112, 112, 112, 112]),
        ((64, 112), {"high": 112}, [112, 64, 64, 64]),
        ((48,), {}, [48, 48, 48, 48]),
        ((50,), {}, [48, 48, 48, 48]),
    ],
)
def test_sizes_of_the_levels(
    trained_px: tuple[int, ...], wanted_px: dict[str, int], sizes_px: list[int]
) -> None:
    """No level is smaller or larger than what the network was trained on."""
    assert [level.face_px for level in choose_levels(trained_px, wanted_px)] == sizes_px


@pytest.mark.parametrize("num_labels", [2, 3, 7, 12, 32])
def test_threshold_is_above_chance(num_labels: int) -> None:
    threshold = choose_threshold(num_labels)
    assert 1.1 / num_labels < threshold < 0.6
    assert num_labels != 7 or threshold == 0.3


def test_all_three(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks, given temperatures, and the list of networks that are not calibrated."""
    out = tmp_path / "bundle"
    command = ["export", "--face", str(weights / "face.pt"), "--voice", str(weights / "voice.pt")]
    command += ["--fusion", str(weights / "channel.pt")]
    command += ["--temperature", "face=0.5", "--temperature", "fusion=2", "--out", str(out)]
    assert main(command) == 0
    bundle = load_bundle(out)
    assert capsys.readouterr().out.strip() == f"{out}: {bundle.sha256}"
    networks = bundle.manifest.networks
    assert {name: entry.temperature for name, entry in networks.items()} == {
        "face": 0.5,
        "voice": 1.0,
        "fusion": 2.0,
    }
    assert bundle.manifest.provenance["not_calibrated"] == ["voice"]
    rows = {row["name"]: row["networks"] for row in bundle.manifest.provenance["data_sets"]}
    assert rows.pop("unknown data") == ["face", "voice", "fusion"]
    assert {name.split(" (")[0] for names in rows.values() for name in names} == {
        "face detector",
        "voice activity",
    }
    assert set(bundle.manifest.metrics) == {"export"}
    assert bundle.manifest.version == 1


def test_origin_of_the_weights(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What training wrote beside the weights goes into the bundle, without paths; what is missing
    there is not made up. One line names what is not calibrated."""
    voice, face = (shutil.copy(weights / f"{name}.pt", tmp_path) for name in ("voice", "face"))
    origin = {
        "config": {"task": "voice", "seed": 3, "root": "/data/RAVDESS", "out": "runs"},
        "people": {"training": ["ravdess:02", "ravdess:05"], "validation": ["ravdess:03"]},
        "data_sets": [asdict(RAVDESS)],
    }
    (tmp_path / "voice.json").write_text(json.dumps(origin))
    command = ["export", "--voice", str(voice), "--face", str(face), "--temperature", "face=1.5"]
    assert main([*command, "--out", str(tmp_path / "bundle")]) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.provenance["people"] == {"voice": origin["people"]}
    assert manifest.provenance["voice"] == {"task": "voice", "seed": 3}
    rows = {row["name"]: row for row in manifest.provenance["data_sets"]}
    assert rows["RAVDESS"]["networks"][0] == "voice"
    assert rows["unknown data"]["networks"] == ["face"]
    assert find_overlap(manifest, ["ravdess:03"], "voice") == {"validation": ["ravdess:03"]}
    (line,) = [each.getMessage() for each in caplog.records if "calibrated" in each.getMessage()]
    assert "voice" in line
    assert "face" not in line
    assert "emotion-train all" in line
    for text in ("no JSON", "[]"):
        (tmp_path / "voice.json").write_text(text)
        assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("file", ["voice.pt", "emotions.pt"])
def test_voice_alone(weights: Path, tmp_path: Path, file: str) -> None:
    """Seven labels, or the eight emotions of RAVDESS, which are merged into seven."""
    out = tmp_path / "bundle"
    assert main(["export", "--voice", str(weights / file), "--out", str(out)]) == 0
    manifest = load_bundle(out).manifest
    assert set(manifest.networks) == {"voice"}
    assert len(manifest.models["voice"].golden_logits) == 7
    for options, version in (([], 2), (["--version", "40"], 40), ([], 41)):
        command = ["export", "--voice", str(weights / file), "--out", str(out), *options]
        assert main(command) == 0
        assert load_bundle(out).manifest.version == version


@pytest.mark.parametrize("voice", ["voice.pt", "emotions.pt"])
def test_attention(weights: Path, tmp_path: Path, voice: str) -> None:
    """The attention network gets the heads of the networks that are exported with it."""
    out = tmp_path / "bundle"
    command = ["export", "--face", str(weights / "face.pt"), "--voice", str(weights / voice)]
    command += ["--fusion", str(weights / "attention.pt"), "--out", str(out)]
    assert main(command) == 0
    assert load_bundle(out).manifest.fusion is not None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--face or --voice"),
        (["--fusion", "attention.pt"], "--face or --voice"),
        (["--face", "face.pt", "--fusion", "attention.pt"], "--face and --voice"),
        (["--face", "voice.pt"], "voice.pt"),
        (["--voice", "face.pt"], "face.pt"),
        (["--face", "none.pt"], "none.pt"),
        (["--face", "face.pt", "--voice", "face.pt", "--fusion", "channel.pt"], "face.pt"),
        (["--face", "voice3.pt"], "voice3.pt: weights of a voice network"),
        (["--face", "face3.pt", "--voice", "voice.pt"], "angry"),
        (["--face", "face3.pt", "--level", "high=64"], "--level high=64"),
        (["--voice", "voice3.pt", "--level", "high=64"], "--level"),
        (["--face", "odd.pt"], "odd.pt"),
    ],
)
def test_what_cannot_be_exported(
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    """Exit code 2, one line that names the file or option, and nothing is written."""
    given = [str(weights / a) if a.endswith(".pt") else a for a in arguments]
    assert main(["export", *given, "--out", str(tmp_path / "bundle")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["voice", "voice=", "voice=0", "voice=nan", "voice=x", "ear=1"])
def test_invalid_temperatures(text: str) -> None:
    """The error names the value."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}'"):
        named_temperature(text)
    assert named_temperature("voice=1.5") == ("voice", 1.5)


@pytest.mark.parametrize("text", ["high", "high=", "high=0", "high=66", "huge=64", "high=4096"])
def test_invalid_sizes(text: str) -> None:
    """The error names the value."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}'"):
        named_size(text)
    assert named_size("high=112") == ("high", 112)


def test_stored_network(weights: Path) -> None:
    """It is rebuilt with its description, and a training may start from it."""
    network, description = load_network(weights / "voice3.pt", "voice")
    assert description.groups == (0, 1, 2, 0)
    again, _ = load_network(weights / "voice3.pt", "voice")
    for name, value in again.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    other = build_network(DESCRIBED["voice3"])
    load_initial_weights(weights / "voice3.pt", other)
    assert torch.equal(other.classifier.weight, network.classifier.weight)  # type: ignore[arg-type]

"""`emotion-train export`: files of weights in, a bundle out, or one line of error."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from torch import nn

from emotion_edge.engines.bundles.manifest import load_bundle
from emotion_edge.training.__main__ import main
from emotion_edge.training.commands.export import named_temperature
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.models.fusion import ChannelFusion
from emotion_edge.training.models.voice import VoiceNet
from emotion_edge.training.recipes.fusion import build_fusion


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
    return folder


def test_all_three(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks, given temperatures, and the list of networks that are not calibrated."""
    out = tmp_path / "bundle"
    command = ["export", "--face", str(weights / "face.pt"), "--voice", str(weights / "voice.pt")]
    command += ["--fusion", str(weights / "channel.pt"), "--fusion-network", "channel"]
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
    assert set(bundle.manifest.metrics) == {"export"}


@pytest.mark.parametrize("file", ["voice.pt", "emotions.pt"])
def test_voice_alone(weights: Path, tmp_path: Path, file: str) -> None:
    """Seven labels, or the eight emotions of RAVDESS, which are merged into seven."""
    out = tmp_path / "bundle"
    assert main(["export", "--voice", str(weights / file), "--out", str(out)]) == 0
    manifest = load_bundle(out).manifest
    assert set(manifest.networks) == {"voice"}
    assert len(manifest.models["voice"].golden_logits) == 7


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
        (["--face", "face.pt", "--voice", "voice.pt", "--fusion", "channel.pt"], "channel.pt"),
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

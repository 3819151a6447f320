"""Networks to a bundle: complete, verified, and replaced atomically."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emotion_edge.engines import open_engine
from emotion_edge.engines.base import EngineError
from emotion_edge.engines.bundles.manifest import (
    MANIFEST,
    Bundle,
    BundleError,
    Level,
    extend_bundle,
    load_bundle,
)
from emotion_edge.engines.bundles.schema import VoiceActivityEntry
from emotion_edge.engines.detection_network import describe_detection_network
from emotion_edge.engines.golden import check_golden_output, golden_input
from emotion_edge.kernels.spec import ImageSpec, MelSpec, Pcen
from emotion_edge.training.export import bundle as export
from emotion_edge.training.export.bundle import FusionNetwork, write_bundle
from emotion_edge.training.export.onnx import ExportError
from emotion_edge.training.models.face import EMBEDDING_SIZE
from emotion_edge.training.models.fusion import AttentionFusion, ChannelFusion

from ...engines.detecting import write_spot_detector

BATCHES = (1, 2, 5)
FUSION_INPUTS = ("faces", "face_mask", "voice", "voice_mask")


class TinyFace(nn.Module):
    """A face network with the right inputs and outputs only."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, EMBEDDING_SIZE)
        self.classifier = nn.Linear(EMBEDDING_SIZE, 7)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.embedding(image.mean(dim=(2, 3))).tanh()
        return embedding, self.classifier(embedding)


class TinyVoice(nn.Module):
    """A voice network with the right inputs and outputs only."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(64, EMBEDDING_SIZE)
        self.classifier = nn.Linear(EMBEDDING_SIZE, 7)

    def forward(self, mel: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.embedding((mel * mask.unsqueeze(1)).mean(dim=2)).tanh()
        return embedding, self.classifier(embedding)


Write = Callable[..., Bundle]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function (changed arguments) -> the bundle of two tiny networks, in a program that ships
    no bundle."""
    monkeypatch.setattr(export, "DEFAULT_BUNDLE", tmp_path / "shipped")

    def run(folder: Path = tmp_path / "tiny", **changes: Any) -> Bundle:
        torch.manual_seed(0)
        given: dict[str, Any] = {
            "models": {"face": TinyFace(), "voice": TinyVoice()},
            "temperatures": {"face": 1.2, "voice": 0.8},
            "fusion_weights": {"face": 0.6, "voice": 0.4},
            "levels": [Level("high", 64), Level("low", 32)],
            "image": ImageSpec(),
            "mel": MelSpec(),
            "abstain_below": 0.3,
            "metrics": {"voice": {"uar": 0.5}},
            "provenance": {"recipe": "none", "voice": {"seed": 7}},
        }
        return write_bundle(folder, **{**given, **changes})

    return run


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_bundle_is_complete(write: Write) -> None:
    """It loads, has the given values, and lists every file in it."""
    bundle = write()
    assert load_bundle(bundle.path) == bundle
    manifest = bundle.manifest
    assert manifest.name == "tiny"
    assert manifest.models["face"].temperature == 1.2
    assert manifest.models["voice"].fusion_weight == 0.4
    assert [level.name for level in manifest.levels] == ["high", "low"]
    assert manifest.fusion is None
    assert set(manifest.files) == {"face.onnx", "voice.onnx", "MODEL_CARD.md"}
    assert {path.name for path in bundle.path.iterdir()} == {MANIFEST, *manifest.files}
    assert [path.name for path in bundle.path.parent.iterdir()] == ["tiny"]


def test_shared_networks_of_the_shipped_bundle(write: Write, tmp_path: Path) -> None:
    """A new bundle has the same ones. For another log-mel the voice activity stays behind, and
    another sample rate is refused."""
    shipped = write(tmp_path / "shipped")
    assert shipped.manifest.face_detector is None
    detector = write_spot_detector(shipped.path / "face_detector.onnx")
    (shipped.path / "speech.onnx").write_bytes(b"speech")
    entry = describe_detection_network(detector, 0.4)
    speech = VoiceActivityEntry("speech.onnx", 10, 0.6, 0.5)
    extend_bundle(shipped.path, face_detector=entry, voice_activity=speech)
    bundle = write()
    assert bundle.manifest.face_detector == entry
    assert bundle.manifest.voice_activity == speech
    assert (bundle.path / entry.file).read_bytes() == detector.read_bytes()
    other = write(tmp_path / "other", mel=MelSpec(compression=Pcen()))
    assert other.manifest.face_detector == entry
    assert other.manifest.voice_activity is None
    assert other.manifest.mel == MelSpec(compression=Pcen())
    assert not (other.path / "speech.onnx").exists()
    with pytest.raises(ExportError, match=r"sample_rate_hz is 32000.*16000"):
        write(tmp_path / "fast", mel=MelSpec(sample_rate_hz=32_000))


def test_provenance_and_metrics(write: Write) -> None:
    """The given entries, completed by data sets, versions and sizes."""
    manifest = write().manifest
    assert manifest.provenance["recipe"] == "none"
    assert manifest.provenance["voice"] == {"seed": 7}
    assert "data_sets" not in manifest.provenance
    assert "torch" in manifest.provenance["versions"]
    assert manifest.metrics["voice"] == {"uar": 0.5}
    assert set(manifest.metrics["export"]) == {"face", "voice"}
    assert manifest.metrics["export"]["face"]["parameters"] == 4 * 256 + 257 * 7


def test_no_local_path(write: Write) -> None:
    """Neither manifest, card nor networks contain a path of this machine."""
    bundle = write(fusion=FusionNetwork(AttentionFusion()))
    paths = [str(bundle.path.parent), str(Path(export.__file__).parent.parent), str(Path.home())]
    for data in list_files(bundle.path).values():
        assert not any(path.encode() in data for path in paths)


@pytest.mark.parametrize("network", [AttentionFusion, ChannelFusion])
def test_bundle_with_fusion(
    write: Write, settle: Callable[..., None], network: type[nn.Module]
) -> None:
    """All three pass their golden check; fusion equals torch with either modality missing."""
    fusion = network()
    noise = torch.randn(8, 8, 256), torch.ones(8, 8), torch.randn(8, 256), torch.ones(8, 1)
    settle(fusion, *noise)
    real = {"fusion": [dict(zip(FUSION_INPUTS, (a.numpy() for a in noise), strict=True))]}
    bundle = write(fusion=FusionNetwork(fusion, temperature=1.7), real_inputs=real)
    entry = bundle.manifest.fusion
    assert entry is not None
    assert (entry.file, entry.num_faces, entry.temperature) == ("fusion.onnx", 8, 1.7)
    assert set(bundle.manifest.files) == {"face.onnx", "voice.onnx", "fusion.onnx", "MODEL_CARD.md"}
    assert bundle.manifest.metrics["export"]["fusion"]["real_inputs"] == 8
    for name in bundle.manifest.networks:
        with open_engine("onnx", bundle, name) as engine:
            check_golden_output(engine, bundle, name)
            one = golden_input(bundle.manifest, name)
            for batch in BATCHES:
                many = {key: np.repeat(array, batch, axis=0) for key, array in one.items()}
                np.testing.assert_allclose(
                    engine.infer(many)["logits"],
                    np.repeat([bundle.manifest.networks[name].golden_logits], batch, axis=0),
                    atol=1e-3,
                )
    with open_engine("onnx", bundle, "fusion") as engine, torch.no_grad():
        for face, voice in ((1, 1), (1, 0), (0, 1)):
            masked = (noise[0], noise[1] * face, noise[2], noise[3] * voice)
            outputs = engine.infer(
                dict(zip(FUSION_INPUTS, (a.numpy() for a in masked), strict=True))
            )
            for name, want in zip(("logits", "weights"), fusion(*masked), strict=True):
                np.testing.assert_allclose(outputs[name], want.numpy(), atol=5e-3)
            assert (outputs["weights"][:, 0] > 0).all() == bool(face)
            assert (outputs["weights"][:, 1] > 0).all() == bool(voice)


def test_one_network_alone(write: Write) -> None:
    """A bundle may have no face network."""
    bundle = write(models={"voice": TinyVoice()})
    assert set(bundle.manifest.models) == {"voice"}


def test_card_is_in_the_bundle(write: Write) -> None:
    """The card is of this bundle, and a changed card is refused."""
    bundle = write()
    card = bundle.path / "MODEL_CARD.md"
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# Model card: tiny\n")
    assert f"| {bundle.manifest.metrics['export']['face']['parameters']} |" in text
    card.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md"):
        load_bundle(bundle.path)


def test_bundle_replaces_the_old_one(write: Write) -> None:
    """Completely: files that the new one lacks are gone."""
    old = write(fusion=FusionNetwork(AttentionFusion()))
    new = write(old.path, models={"voice": TinyVoice()})
    assert new.path == old.path
    assert load_bundle(old.path) == new
    assert {path.name for path in new.path.iterdir()} == {MANIFEST, *new.manifest.files}
    assert "face.onnx" not in new.manifest.files


class RandomVoice(TinyVoice):
    """A network with random outputs, which no file reproduces."""

    def forward(self, mel: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding, logits = super().forward(mel, mask)
        return embedding, logits + torch.rand(1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"models": {"face": TinyFace(), "voice": RandomVoice()}}, ExportError),
        ({"temperatures": {"face": 1.0, "voice": 0.0}}, BundleError),
        ({"levels": []}, IndexError),
        (
            {"models": {"voice": TinyVoice()}, "fusion": FusionNetwork(AttentionFusion())},
            BundleError,
        ),
    ],
)
def test_failure_leaves_the_old_bundle(
    write: Write, changes: dict[str, Any], error: type[Exception]
) -> None:
    """The bundle is unchanged to the byte, and no draft is left."""
    old = write()
    before = list_files(old.path.parent)
    with pytest.raises(error):
        write(**changes)
    assert list_files(old.path.parent) == before
    assert [path.name for path in old.path.parent.iterdir()] == ["tiny"]


def test_export_that_fails_its_golden_check_keeps_the_old_bundle(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The golden output is checked before the bundle is replaced."""
    old = write()
    before = list_files(old.path)
    real = export.export_onnx

    def export_wrong_golden(*args: Any) -> Any:
        result = real(*args)
        return replace(result, golden={**result.golden, "logits": [9.0] * 7})

    monkeypatch.setattr(export, "export_onnx", export_wrong_golden)
    with pytest.raises(EngineError, match="golden"):
        write()
    assert list_files(old.path) == before


def test_move_that_fails_puts_the_old_one_back(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the last step."""
    old = write()
    before = list_files(old.path)
    rename = Path.rename

    def fail_in_place(self: Path, target: Path) -> Path:
        if self.parent.name == "new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_in_place)
    with pytest.raises(OSError, match="no space left"):
        write()
    assert list_files(old.path) == before


def test_too_large(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The flash of the device is small: 16 MB are allowed."""
    assert export.MAX_BUNDLE_BYTES == 16_000_000
    monkeypatch.setattr(export, "MAX_BUNDLE_BYTES", 10_000)
    with pytest.raises(ExportError, match=r"tiny: \d+ bytes.* 10000"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_not_replaced(write: Write, tmp_path: Path) -> None:
    """Folders with other files and files are refused; an empty or a new folder is used."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"/mine: .*bundle\.json"):
        write(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(ExportError, match=r"thesis\.txt"):
        write(tmp_path / "mine" / "thesis.txt")
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty").manifest.name == "empty"
    assert write(tmp_path / "deep" / "er").manifest.name == "er"

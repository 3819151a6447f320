"""From a configuration to a recipe and a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotion_edge.engines.bundles import LABELS
from emotion_edge.kernels.spec import ImageSpec, MelSpec
from emotion_edge.training.config import (
    AnyConfig,
    FaceConfig,
    FusionConfig,
    VoiceConfig,
    list_presets,
    load_config,
)
from emotion_edge.training.data.ferplus import FaceSet, hold_out
from emotion_edge.training.data.ravdess import EMOTIONS8
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.launch import (
    TrainingResult,
    VoiceData,
    describe_network,
    face_recipe,
    fusion_recipe,
    list_labels,
    make_network,
    prepare_data,
    save_result,
    train_network,
    voice_recipe,
)
from emotion_edge.training.loop import load_weights
from emotion_edge.training.loop.schedule import Schedule
from emotion_edge.training.recipes.face import (
    FaceRecipe,
    Round,
    face_logits,
    held_out_accuracy,
)
from emotion_edge.training.recipes.fusion import FusionRecipe, Pairs
from emotion_edge.training.recipes.voice import (
    HeldOutSpeech,
    Speech,
    VoiceRecipe,
    held_out_voice_accuracy,
)
from emotion_edge.training.stored_network import build_network, load_network

from .event_files import read_images


def test_default_presets_are_the_recipes() -> None:
    """The networks that ship can be trained by the name of a preset."""
    face, voice = load_config("face-default"), load_config("voice-default")
    assert isinstance(face, FaceConfig)
    assert isinstance(voice, VoiceConfig)
    assert face_recipe(face) == FaceRecipe()
    assert voice_recipe(voice) == VoiceRecipe()
    for kind in ("attention", "channel"):
        fusion = load_config(f"fusion-{kind}")
        assert isinstance(fusion, FusionConfig)
        assert fusion_recipe(fusion) == FusionRecipe(preset=kind)


def change_all(preset: str) -> AnyConfig:
    """Load a preset with every optimizer setting changed."""
    settings = {
        "batch_size": 5,
        "peak_lr": 0.11,
        "weight_decay": 0.12,
        "betas": [0.7, 0.8],
        "warmup": 0.13,
        "ema_decay": 0.14,
        "clip_norm": 1.5,
        "label_smoothing": 0.16,
        "patience": 17,
        "checkpoint_every": 18,
    }
    assignments = [f"learning.{key}={value}" for key, value in settings.items()]
    return load_config(preset, None, [*assignments, "seed=19"])


CHANGED = Schedule(
    7, 6, 0.11, 0.12, 0.13, 0.14, 1.5, 0.16, (0.7, 0.8), 19, patience=17, checkpoint_every=18
)


def test_every_setting_reaches_the_schedule() -> None:
    """No setting is ignored."""
    voice, fusion = change_all("toy-voice"), change_all("fusion-channel")
    assert isinstance(voice, VoiceConfig)
    assert isinstance(fusion, FusionConfig)
    for recipe in (voice_recipe(voice), fusion_recipe(fusion)):
        assert recipe.make_schedule(7, 33, recipe.peak_lr, recipe.ema_decay) == CHANGED
    face = change_all("face-default")
    assert isinstance(face, FaceConfig)
    faces = face_recipe(face)
    first, second, _ = faces.rounds
    assert faces.make_schedule(7, 33, first.peak_lr, first.ema_decay) == replace(
        CHANGED, ema_decay=0.14
    )
    assert (second.peak_lr, second.ema_decay) == (0.75 * 0.11, 0.999)


def test_stages_are_epochs() -> None:
    """Stages are in order, each with its sizes."""
    rounds = (
        "[{stages: [{num_epochs: 2, sizes_px: [48]}, {num_epochs: 1, sizes_px: [64, 96]}]},"
        " {rate: 0.5, stages: [{num_epochs: 1, sizes_px: [64]}]}]"
    )
    config = load_config("face-default", None, [f"rounds={rounds}", "learning.peak_lr=0.1"])
    assert isinstance(config, FaceConfig)
    assert face_recipe(config).rounds == (
        Round(((48,), (48,), (64, 96)), 0.1, 0.998),
        Round(((64,),), 0.05, 0.998),
    )


@pytest.mark.parametrize("preset", list_presets())
def test_networks_take_their_inputs(preset: str) -> None:
    """One example in, a logit of every label out."""
    config = load_config(preset)
    model, inputs = make_network(config)
    outputs = model.eval()(*inputs)
    logits = outputs[0] if preset.startswith("fusion") else outputs[1]
    assert logits.shape == (1, len(list_labels(config)))


def test_labels() -> None:
    """The voice network distinguishes calm and neutral."""
    assert list_labels(load_config("toy-face")) == tuple(LABELS)
    assert list_labels(load_config("toy-voice")) == EMOTIONS8


def draw_face_data() -> FaceSet:
    """Faces of two labels, one three times as frequent."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 0, 0, 3], 20)
    images = (rng.integers(0, 80, (80, 48, 48)) + 20 * labels[:, None, None]).astype(np.uint8)
    return FaceSet(images, np.eye(7, dtype=np.float32)[labels], labels, skipped=0)


def draw_voice_data() -> VoiceData:
    """Log-mels of two emotions, and recordings of noise for validation."""
    rng = np.random.default_rng(2)
    targets = np.arange(16) % 2
    mels = [rng.normal(target, 1, (64, 120)).astype(np.float16) for target in targets]
    clips = [rng.normal(0, 0.1 ** (1 + i % 2), 20_000).astype(np.float32) for i in range(10)]
    return VoiceData(
        Speech([[mel] for mel in mels], np.eye(8, dtype=np.float32)[targets], []),
        HeldOutSpeech(clips, np.arange(10) % 2),
        {"training": ["ravdess:02"], "validation": ["ravdess:03"]},
    )


ROUND = "rounds=[{stages: [{num_epochs: 1, sizes_px: [32]}]}]"


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        # A strong label prior changes the score after the last epoch.
        ("toy-face", ["learning.batch_size=16", "rare_label_share=1", ROUND]),
        ("toy-voice", ["num_epochs=2"]),
        ("toy-voice", ["num_epochs=4", "learning.patience=1", "learning.peak_lr=0.1"]),
    ],
    ids=["face", "voice", "voice with patience"],
)
def test_score_is_that_of_the_saved_weights(
    preset: str, settings: list[str], tmp_path: Path
) -> None:
    """The weights, loaded again, score what the file beside them says; people stand there too."""
    config = load_config(preset, None, [*settings, f"out={tmp_path}"])
    data = draw_face_data() if isinstance(config, FaceConfig) else draw_voice_data()
    path = save_result(config, train_network(config, data))
    origin = json.loads(path.with_suffix(".json").read_text())
    model, _ = make_network(config)
    load_weights(path, model)
    if isinstance(data, FaceSet):
        assert isinstance(config, FaceConfig)
        _, held_out = hold_out(len(data.labels), config.seed)
        score = held_out_accuracy(model, data, held_out, face_recipe(config), ImageSpec())
        logits = face_logits(model, data.images[held_out], 32, ImageSpec())
        assert score == (logits.argmax(axis=1) == data.labels[held_out]).mean()
    else:
        assert data.validation is not None
        score = held_out_voice_accuracy(model, data.validation, MelSpec())
    assert origin["validation"] == score
    assert origin["people"] == ({} if isinstance(data, FaceSet) else dict(data.people))
    assert [each["name"] for each in origin["data_sets"]] == [
        "FER+" if isinstance(data, FaceSet) else "RAVDESS"
    ]


def test_no_score_without_validation(tmp_path: Path) -> None:
    """Voices of all actors, and fusion."""
    voice = load_config("toy-voice", None, ["num_epochs=1", f"out={tmp_path}"])
    assert train_network(voice, replace(draw_voice_data(), validation=None)).score is None
    fusion = load_config("fusion-attention", None, ["num_epochs=1", f"out={tmp_path}"])
    values = np.zeros((64, 1, 7), np.float32)
    pairs = Pairs(values, values[:, 0], np.zeros(64, np.int64))
    assert train_network(fusion, pairs).score is None


def test_data_that_is_too_little(
    write_ferplus: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fewer examples than a batch are refused, a label without an example is named, before anything
    is trained."""
    root = write_ferplus({f"{i}.png": {"happiness": 10} for i in range(12)})
    settings = [f"root={root}", f"out={tmp_path / 'out'}"]
    with pytest.raises(DatasetError, match=r" 10 .*learning\.batch_size is 11"):
        prepare_data(load_config("toy-face", None, [*settings, "learning.batch_size=11"]))
    prepare_data(load_config("toy-face", None, [*settings, "learning.batch_size=10"]))
    for purpose in ("training", "validation"):
        assert f"{purpose} of angry, disgust, fear, sad, surprise, neutral" in caplog.text
    np.savez(root / "pairs.npz", faces=np.zeros((3, 1, 7)), voices=np.zeros((3, 7)), labels=[0] * 3)
    with pytest.raises(DatasetError, match=r" 3 .*batch_size is 64"):
        prepare_data(load_config("fusion-attention", None, settings))


def test_faces_of_each_round_are_drawn(tmp_path: Path) -> None:
    """Beside the curves, as augmentation leaves them."""
    config = load_config("toy-face", None, ["learning.batch_size=16", ROUND, f"out={tmp_path}"])
    train_network(config, draw_face_data(), tmp_path / "logs", num_samples=4)
    ((_, drawn),) = read_images(tmp_path / "logs" / "round1").items()
    assert drawn[0][1].shape == (32, 4 * 32, 3)
    assert drawn[0][1].std() > 10


def test_data_of_another_network() -> None:
    """A programming error."""
    pairs = Pairs(np.zeros((1, 1, 7)), np.zeros((1, 7)), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match=r"Pairs.*FaceConfig"):
        train_network(load_config("toy-face"), pairs)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"PK\x03\x04",
        b"",
        b"rubbish",
        {"faces": np.zeros(3)},
        dict.fromkeys(("faces", "voices", "labels"), np.array([{}])),
    ],
    ids=["missing", "truncated", "empty", "rubbish", "incomplete", "pickle"],
)
def test_pairs_that_cannot_be_read(tmp_path: Path, content: Any) -> None:
    """The error names the file; a pickle is not loaded."""
    if isinstance(content, dict):
        np.savez(tmp_path / "pairs.npz", **content)
    elif content is not None:
        (tmp_path / "pairs.npz").write_bytes(content)
    config = load_config("fusion-channel", None, [f"root={tmp_path}", "out=x"])
    with pytest.raises(DatasetError, match=r"pairs\.npz"):
        prepare_data(config)


def test_result_is_written_atomically(tmp_path: Path) -> None:
    """The weights load into the network of the configuration; no other file is left."""
    config = load_config("toy-voice", None, [f"out={tmp_path / 'new'}"])
    model, inputs = make_network(config)
    path = save_result(config, TrainingResult(model, 0.5, 2))
    again, _ = load_network(path, "voice")
    assert torch.equal(again.eval()(*inputs)[1], model.eval()(*inputs)[1])
    assert sorted(file.name for file in path.parent.iterdir()) == ["voice.json", "voice.pt"]


@pytest.mark.parametrize("preset", list_presets())
def test_description_rebuilds_the_network(preset: str) -> None:
    """The network of every preset, with as many outputs as it has labels."""
    config = load_config(preset)
    description = describe_network(config)
    model, _ = make_network(config)
    if description.task != "fusion":
        rebuilt = build_network(description)
        assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }
    assert len(description.outputs or description.labels) == len(list_labels(config))


def test_cache_is_used(write_ferplus: Callable[..., Path], tmp_path: Path) -> None:
    """Decoded faces are cached, and a changed file is decoded again."""
    root = write_ferplus({f"{i}.png": {"happiness": 10} for i in range(4)})
    cache = tmp_path / "cache"
    settings = [f"root={root}", f"out={tmp_path}", f"cache={cache}", "learning.batch_size=4"]
    config = load_config("toy-face", None, settings)
    first = prepare_data(config)
    assert list(cache.rglob("*.npz"))
    (root / "train.zip").touch()  # another modification time
    assert isinstance(first, FaceSet)
    assert len(first.images) == 4
    before = len(list(cache.rglob("*.npz")))
    prepare_data(config)
    assert len(list(cache.rglob("*.npz"))) == before + 1

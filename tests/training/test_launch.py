"""From a configuration to a recipe and a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from emotion_edge.engines.bundles.manifest import LABELS
from emotion_edge.kernels.spec import ImageSpec
from emotion_edge.training.config import (
    AnyConfig,
    FaceConfig,
    FusionConfig,
    VoiceConfig,
    list_presets,
    load_config,
)
from emotion_edge.training.data.ferplus import FaceSet
from emotion_edge.training.data.ravdess import EMOTIONS8
from emotion_edge.training.errors import DatasetError
from emotion_edge.training.launch import (
    TrainingResult,
    VoiceData,
    face_recipe,
    fusion_recipe,
    list_labels,
    make_network,
    prepare_data,
    save_result,
    train_network,
    voice_recipe,
)
from emotion_edge.training.loop.schedule import Schedule
from emotion_edge.training.models.face import FaceNet
from emotion_edge.training.recipes.face import (
    FaceRecipe,
    Round,
    face_logits,
    held_out_accuracy,
    split_held_out,
)
from emotion_edge.training.recipes.fusion import FusionRecipe, Pairs
from emotion_edge.training.recipes.voice import Speech, VoiceRecipe

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


@pytest.mark.parametrize(
    ("patience", "scores", "final"),
    [(0, [0.2, 0.7, 0.3], 0.3), (5, [0.2, 0.7, 0.3], 0.7), (5, [0.2, math.nan], 0.2), (0, [], 0.9)],
)
def test_score_is_that_of_the_epoch_kept(
    patience: int, scores: list[float], final: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score of the best epoch with patience, else of the last one, in the last round."""
    model = nn.Linear(1, 1)

    def train_voice(*args: Any) -> nn.Module:
        options = args[-1]
        for number in (1, 2):
            options.on_epoch(number, 0.9)
        for epoch, score in enumerate(scores, start=1):
            options.on_epoch(epoch, score)
        return model

    monkeypatch.setattr("emotion_edge.training.launch.train_voice", train_voice)
    config = load_config("toy-voice", None, [f"learning.patience={patience}"])
    data = VoiceData(cast("Speech", None), None)
    reported: list[tuple[int, float | None]] = []
    trained = train_network(config, data, on_epoch=lambda *report: reported.append(report))
    assert trained == TrainingResult(model, final, 2 + len(scores))
    assert reported == list(enumerate([0.9, 0.9, *scores], start=1))


def test_face_score_is_that_of_the_weights(tmp_path: Path) -> None:
    """The label prior changes the logits after the last epoch, so a strong one changes the score
    too. What is reported is the score of what is returned. Faces of each round are drawn."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 0, 0, 3], 20)
    images = (rng.integers(0, 80, (80, 48, 48)) + 20 * labels[:, None, None]).astype(np.uint8)
    faces = FaceSet(images, np.eye(7, dtype=np.float32)[labels], labels, skipped=0)
    settings = ["learning.batch_size=16", "rare_label_share=1", "compile_model=false"]
    settings.append("rounds=[{stages: [{num_epochs: 1, sizes_px: [32]}]}]")
    config = load_config("toy-face", None, [*settings, f"out={tmp_path}"])
    assert isinstance(config, FaceConfig)
    trained = train_network(config, faces, tmp_path / "logs", num_samples=4)
    ((_, drawn),) = read_images(tmp_path / "logs" / "round1").items()
    assert drawn[0][1].shape == (32, 4 * 32, 3)
    assert drawn[0][1].std() > 10
    recipe = face_recipe(config)
    assert isinstance(trained.model, FaceNet)
    _, held_out = split_held_out(len(faces.labels), recipe.seed)
    assert trained.score == held_out_accuracy(trained.model, faces, held_out, recipe, ImageSpec())
    logits = face_logits(trained.model, images[held_out], 32, ImageSpec())
    assert trained.score == (logits.argmax(axis=1) == labels[held_out]).mean()


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
    again, _ = make_network(config)
    again.load_state_dict(torch.load(path, weights_only=True))
    assert torch.equal(again.eval()(*inputs)[1], model.eval()(*inputs)[1])
    assert sorted(file.name for file in path.parent.iterdir()) == ["voice.json", "voice.pt"]


def test_cache_is_used(write_ferplus: Callable[..., Path], tmp_path: Path) -> None:
    """Decoded faces are cached, and a changed file is decoded again."""
    root = write_ferplus({f"{i}.png": {"happiness": 10} for i in range(4)})
    cache = tmp_path / "cache"
    config = load_config("toy-face", None, [f"root={root}", f"out={tmp_path}", f"cache={cache}"])
    first = prepare_data(config)
    assert list(cache.rglob("*.npz"))
    (root / "train.zip").touch()  # another modification time
    assert isinstance(first, FaceSet)
    assert len(first.images) == 4
    before = len(list(cache.rglob("*.npz")))
    prepare_data(config)
    assert len(list(cache.rglob("*.npz"))) == before + 1

"""The recipe of the bundle that ships: face network, voice network, late fusion.

In: the folders of FER+ and RAVDESS. Out: a bundle with its metrics and where it comes from.
Every step is kept in the work folder; started again, it goes on where it was.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..engines.bundle import LABELS, Bundle, Level
from ..engines.fusion import calibrate
from ..kernels.spec import ImageSpec, MelSpec
from .data.ferplus import load_ferplus
from .data.ravdess import TEST_FOLDS, find_voice_clips, split_actors
from .evaluate import evaluate_bundle
from .export import write_bundle
from .face import FaceRecipe, face_logits, split_held_out, train_face
from .metrics import fit_temperature, score
from .models.face import FaceNet
from .models.voice import VoiceNet
from .voice import VoiceRecipe, VoiceSet, load_voices, train_voice, voice_logits

log = logging.getLogger(__name__)

LEVELS = [
    Level("high", face_px=64, voice_hop_ms=200, face_find_hz=8),
    Level("medium", face_px=64, voice_hop_ms=400, face_find_hz=4),
    Level("low", face_px=64, voice=False, face_find_hz=2),
]
"""The network ends on the size it is used at: on others it loses ten points and more. FER+ faces
are 48 px, so larger pictures of them show nothing new."""
ABSTAIN_BELOW = 0.3
"""Twice chance."""


def train_default(
    ferplus: Path,
    ravdess: Path,
    work: Path,
    out: Path,
    face_recipe: FaceRecipe,
    voice_recipe: VoiceRecipe,
    voice_seeds: int = 1,
) -> Bundle:
    """Train, judge and write the bundle; `work` holds checkpoints and may be deleted after."""
    image, mel = ImageSpec(), MelSpec()
    work.mkdir(parents=True, exist_ok=True)
    face = _face(ferplus, work, face_recipe, image)
    face_temperature = _face_temperature(face, ferplus, face_recipe, image)
    actors = [actor for fold in TEST_FOLDS for actor in fold]
    voices = load_voices(find_voice_clips(ravdess, actors), mel)
    folds = [
        judge_fold(voices, fold, mel, voice_recipe, seed, work)
        for seed in range(voice_seeds)
        for fold in range(len(TEST_FOLDS))
    ]
    voice = _voice(voices, mel, voice_recipe, work)
    metrics: dict[str, Any] = {"voice_ravdess_folds": summarise_folds(folds)}
    temperatures = {
        "face": face_temperature,
        "voice": float(np.exp(np.mean([np.log(fold["temperature"]) for fold in folds]))),
    }
    draft = out.with_name(out.name + ".draft")
    provenance = {
        "recipe": "training/default.py",
        "face": {"data": "FER+ train (labels MIT; pictures: research use)", **asdict(face_recipe)},
        "voice": {
            "data": "RAVDESS speech, audio only (CC BY-NC-SA 4.0: no commercial use)",
            "actors": actors,
            **asdict(voice_recipe),
        },
        "torch": str(torch.__version__),
    }
    networks: dict[str, nn.Module] = {"face": face, "voice": voice}

    def write(folder: Path, weights: dict[str, float], found: dict[str, Any]) -> Bundle:
        return write_bundle(
            folder,
            networks,
            temperatures,
            weights,
            LEVELS,
            image,
            mel,
            ABSTAIN_BELOW,
            found,
            provenance,
        )

    bundle = write(draft, {"face": 0.5, "voice": 0.5}, {})
    for level in LEVELS:
        figures = evaluate_bundle(bundle, "ferplus", ferplus, "valid", level=level.name)
        metrics[f"face_ferplus_valid_{level.face_px}px"] = _brief(figures)
    best = metrics[f"face_ferplus_valid_{LEVELS[0].face_px}px"]["uar"]
    weights = fusion_weights(best, metrics["voice_ravdess_folds"]["uar_mean"])
    bundle = write(out, weights, metrics)
    shutil.rmtree(draft)
    return bundle


def fusion_weights(face_uar: float, voice_uar: float) -> dict[str, float]:
    """By how far each is above chance; no real pairs of face and voice are at hand to tune on."""
    chance = 1.0 / len(LABELS)
    gain = {"face": max(face_uar - chance, 0.01), "voice": max(voice_uar - chance, 0.01)}
    return {name: round(value / sum(gain.values()), 3) for name, value in gain.items()}


def _face(ferplus: Path, work: Path, recipe: FaceRecipe, image: ImageSpec) -> FaceNet:
    done = work / "face.pt"
    if not done.exists():
        torch.save(train_face(ferplus, work, recipe, image).state_dict(), done)
    face = FaceNet()
    face.load_state_dict(torch.load(done, weights_only=True))
    return face


def _face_temperature(face: FaceNet, ferplus: Path, recipe: FaceRecipe, image: ImageSpec) -> float:
    """From training faces that were held out."""
    faces = load_ferplus(ferplus, "train")
    _, held_out = split_held_out(faces, recipe.seed)
    known = held_out[faces.labels[held_out] >= 0]
    logits = face_logits(face, faces.images[known], LEVELS[0].face_px, image)
    return fit_temperature(logits, faces.labels[known])


def _voice(voices: VoiceSet, mel: MelSpec, recipe: VoiceRecipe, work: Path) -> VoiceNet:
    """The network that ships learns from everybody; the folds have said what to expect of it."""
    done = work / "voice.pt"
    if not done.exists():
        torch.save(train_voice(voices, mel, recipe, work / "voice.ckpt").state_dict(), done)
    voice = VoiceNet(num_mels=mel.num_mels)
    voice.load_state_dict(torch.load(done, weights_only=True))
    return voice


def judge_fold(
    voices: VoiceSet, fold: int, mel: MelSpec, recipe: VoiceRecipe, seed: int, work: Path
) -> dict[str, Any]:
    """Train on a fold's training people -> figures on its test people, whom nothing was chosen
    by; the temperature comes from its validation people."""
    done = work / f"voice-fold{fold}-seed{seed}.json"
    if done.exists():
        figures: dict[str, Any] = json.loads(done.read_text())
        return figures
    learn, validation, test = (voices.of(actors) for actors in split_actors(fold))
    fold_recipe = VoiceRecipe(**{**asdict(recipe), "seed": seed})
    model = train_voice(learn, mel, fold_recipe, done.with_suffix(".ckpt"))
    temperature = fit_temperature(voice_logits(model, validation, mel), validation.labels)
    probabilities = calibrate(voice_logits(model, test, mel), temperature)
    figures = {"temperature": temperature, **score(probabilities, test.labels, LABELS)}
    done.write_text(json.dumps(figures))
    log.info("fold %d seed %d: accuracy %.3f", fold, seed, figures["accuracy"])
    return figures


def summarise_folds(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over folds (and seeds), and the summed confusion matrix."""
    names = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece")
    figures = {name: [fold[name] for fold in folds] for name in names}
    return {
        **{f"{name}_mean": round(float(np.mean(values)), 4) for name, values in figures.items()},
        **{f"{name}_std": round(float(np.std(values)), 4) for name, values in figures.items()},
        "runs": len(folds),
        "confusion": np.sum([fold["confusion"] for fold in folds], axis=0).tolist(),
        "protocol": "subject-independent folds of training/data/ravdess.py, calm counts as"
        " neutral, window probabilities averaged over each recording",
    }


def _brief(figures: dict[str, Any]) -> dict[str, Any]:
    kept = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece", "n", "confusion")
    return {k: round(figures[k], 4) if isinstance(figures[k], float) else figures[k] for k in kept}

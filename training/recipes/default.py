"""The recipe of the bundle that ships: face, voice and fusion network.

In: the folders of the data sets. Out: a bundle with its metrics and provenance. The result of
every step is stored in the work folder, from which an interrupted run resumes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...engines.bundles import LABELS, Bundle, Level
from ...engines.probabilities import calibrate
from ...kernels.spec import ImageSpec, MelSpec
from ..data import (
    EMOTION_GROUPS,
    TEST_FOLDS,
    FaceSet,
    FeatureCache,
    find_video_clips,
    find_voice_clips,
    load_action_units,
    load_crops,
    load_ferplus,
    load_noises,
    load_voices,
    mel_windows,
    open_mel,
)
from ..errors import DatasetError
from ..evaluation import evaluate_bundle
from ..export import ESC, FERPLUS, RAVDESS, FusionNetwork, describe_data_sets, write_bundle
from ..loop import load_weights, save_weights
from ..metrics import fit_temperature
from ..models import NUM_FACES, AttentionFusion, FaceNet, MergedLabels, MirrorAveraged, VoiceNet
from .face import (
    FaceRecipe,
    VideoPredictions,
    face_logits,
    predict_videos,
    prepare_faces,
    split_held_out,
    train_face,
)
from .fusion import PAIRS, FusionRecipe, Pairs, attach_heads, train_fusion
from .ravdess_folds import (
    SOURCES,
    FoldData,
    Recipes,
    evaluate_folds,
    predictions_file,
    summarize_folds,
)
from .voice import VoiceRecipe, build_voice, make_targets, train_voice

log = logging.getLogger(__name__)

LEVELS = [
    Level("high", face_px=64, voice_hop_ms=200, face_find_hz=8),
    Level("medium", face_px=56, voice_hop_ms=400, face_find_hz=4),
    Level("low", face_px=56, voice_hop_ms=800, face_find_hz=2, faces=2, camera_fps=15),
    Level("minimal", face_px=56, voice=False, face_find_hz=1, faces=1, camera_fps=8),
]
"""FER+ faces have 48 px, so larger images add no detail: 96 px cost twice as much and scored 2.5
points less than 64 after the same training."""
ABSTAIN_BELOW = 0.3
"""Twice the confidence of chance."""
ACTORS = [actor for fold in TEST_FOLDS for actor in fold]
NUM_REAL = 64
"""Faces and voices for the comparison of the exported files with torch."""
FACE_DOUBT = 3.0
"""Factor of the face's temperature when a voice is present. A talking face looks neutral most of
the time, unlike FER+'s images of expressions: on 26 recordings of RAVDESS's actor 1, who is in no
fold, the log loss was lowest between 3 and 4."""


@dataclass(frozen=True, slots=True)
class DatasetPaths:
    """Folders of the data sets."""

    ferplus: Path
    ravdess: Path
    action_units: Path | None = None
    """OpenFace's table of the same recordings; without it, fusion with action units is not
    evaluated."""
    noise: Path | None = None
    """Noise recordings, half for training, half for evaluation; without it, noise is synthetic."""
    cache: Path | None = None
    """Folder filled by `emotion-train prepare`."""


def train_default(
    sources: DatasetPaths,
    work: Path,
    out: Path,
    face_recipe: FaceRecipe,
    recipes: Recipes,
    num_seeds: int = 1,
) -> Bundle:
    """Train, evaluate and write the bundle; `work` holds checkpoints and may be deleted after."""
    image, mel = ImageSpec(), MelSpec()
    work.mkdir(parents=True, exist_ok=True)
    cache = FeatureCache(sources.cache) if sources.cache else None
    fold_data = _prepare(sources, mel, recipes.voice, cache)
    faces = load_ferplus(sources.ferplus, "train", cache)
    face = _train_face(faces, work, face_recipe, image)
    held_out, held_out_labels = _held_out_logits(face, faces, face_recipe, image)
    videos = _predict_videos(sources.ravdess, MirrorAveraged(face), image, cache)
    fold_data = replace(fold_data, videos=videos)
    folds = evaluate_folds(fold_data, recipes, num_seeds, work / "folds")
    voice = _train_voice(fold_data, recipes.voice, work)
    temperatures = {
        "face": fit_temperature(held_out, held_out_labels),
        "voice": float(np.exp(np.mean([np.log(fold["temperature"]) for fold in folds]))),
    }
    fusion = _train_fusion(
        np.log(calibrate(held_out, temperatures["face"])),
        held_out_labels,
        [work / "folds" / predictions_file(fold["fold"], fold["seed"]) for fold in folds],
        recipes.fusion,
        work,
    )
    emotions = voice.classifier.out_features == len(EMOTION_GROUPS)
    groups = EMOTION_GROUPS if emotions else tuple(range(len(LABELS)))
    network = attach_heads(
        fusion,
        face.classifier,
        voice.classifier,
        temperatures["face"],
        temperatures["voice"],
        FACE_DOUBT,
        voice_groups=groups,
    )
    metrics: dict[str, Any] = {"ravdess_folds": summarize_folds(folds)}
    networks = {"face": MirrorAveraged(face), "voice": MergedLabels(voice, groups)}
    provenance = _describe_recipes(face_recipe, recipes, num_seeds, sources)
    real_inputs = _real_inputs(face, faces, face_recipe, voice, fold_data)

    def write(folder: Path, weights: Mapping[str, float], metrics: Mapping[str, Any]) -> Bundle:
        return write_bundle(
            folder,
            networks,
            temperatures,
            weights,
            LEVELS,
            image,
            mel,
            ABSTAIN_BELOW,
            metrics,
            provenance,
            fusion=FusionNetwork(network),
            real_inputs=real_inputs,
        )

    draft = write(work / "draft", {"face": 0.5, "voice": 0.5}, {})
    for level in LEVELS:
        results = evaluate_bundle(draft, "ferplus", sources.ferplus, level=level.name)
        metrics[f"face_ferplus_valid_{level.face_px}px"] = _select_metrics(results)
    best = metrics[f"face_ferplus_valid_{LEVELS[0].face_px}px"]["uar"]
    weights = fusion_weights(best, metrics["ravdess_folds"]["seven"]["voice"]["uar_mean"])
    return write(out, weights, metrics)


def fusion_weights(face_uar: float, voice_uar: float) -> dict[str, float]:
    """Return the weights of late fusion, proportional to the gain of each modality over chance."""
    chance = 1.0 / len(LABELS)
    gain = {"face": max(face_uar - chance, 0.01), "voice": max(voice_uar - chance, 0.01)}
    return {name: round(value / sum(gain.values()), 3) for name, value in gain.items()}


def _prepare(
    sources: DatasetPaths, mel: MelSpec, recipe: VoiceRecipe, cache: FeatureCache | None
) -> FoldData:
    """Load recordings, action units and noise. This comes first, so that an invalid file is
    reported before the hours of training the face."""
    voices = load_voices(find_voice_clips(sources.ravdess, ACTORS), mel, cache)
    training_noises, heldout_noises = (
        load_noises(sources.noise, training, mel.sample_rate_hz) if sources.noise else []
        for training in (True, False)
    )
    units = load_action_units(sources.action_units) if sources.action_units else None
    return FoldData(voices, units, None, training_noises, heldout_noises, mel, recipe)


def _predict_videos(
    root: Path, face: nn.Module, image: ImageSpec, cache: FeatureCache | None
) -> VideoPredictions | None:
    """Run the face network on the videos of RAVDESS, if there are any."""
    try:
        videos = load_crops(find_video_clips(root, ACTORS), cache)
    except DatasetError as error:
        log.info("fusion is not evaluated on videos: %s", error)
        return None
    return predict_videos(face, videos, LEVELS[0].face_px, image)


def _train_face(faces: FaceSet, work: Path, recipe: FaceRecipe, image: ImageSpec) -> FaceNet:
    done = work / "face.pt"
    if not done.exists():
        save_weights(done, train_face(faces, work, recipe, image))
    face = FaceNet(dropout=recipe.dropout, max_drop=recipe.max_drop)
    load_weights(done, face)
    return face


def _held_out_logits(
    face: FaceNet, faces: FaceSet, recipe: FaceRecipe, image: ImageSpec
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits (N, 7) and labels (N,) of the held-out faces."""
    _, held_out = split_held_out(faces, recipe.seed)
    known = held_out[faces.labels[held_out] >= 0]
    logits = face_logits(MirrorAveraged(face), faces.images[known], LEVELS[0].face_px, image)
    return logits, faces.labels[known]


def _train_voice(fold_data: FoldData, recipe: VoiceRecipe, work: Path) -> VoiceNet:
    """Train the network that ships, on all actors; the folds estimate its accuracy."""
    done = work / "voice.pt"
    if not done.exists():
        model = train_voice(fold_data.speech, fold_data.mel, recipe, work / "voice.ckpt")
        save_weights(done, model)
    voice = build_voice(recipe, make_targets(fold_data.voices).shape[1], fold_data.mel)
    load_weights(done, voice)
    return voice.eval()


def _train_fusion(
    face_log_probabilities: NDArray[np.float64],
    face_labels: NDArray[np.int64],
    files: Sequence[Path],
    recipe: FusionRecipe,
    work: Path,
) -> AttentionFusion:
    """Train on the predictions for the held-out speakers of the folds: on their faces and voices,
    or without their faces on their voices and random FER+ faces of the same label. The pairs stay
    in `work` for further runs."""
    folds = []
    for file in files:
        with np.load(file) as arrays:
            folds.append(dict(arrays))
    voices, labels = (
        np.concatenate([fold[name] for fold in folds]) for name in ("voice", "labels")
    )
    source = next((name for name in SOURCES if all(name in fold for fold in folds)), None)
    if source is not None:
        faces = np.concatenate([fold[source] for fold in folds])
    else:
        shared = np.isin(labels, face_labels)
        voices, labels = voices[shared], labels[shared]
        rng = np.random.default_rng(recipe.seed)
        faces = face_log_probabilities[
            [rng.choice(np.flatnonzero(face_labels == label)) for label in labels]
        ].astype(np.float32)
    pairs = Pairs(faces[:, None], voices, labels)
    np.savez(work / PAIRS, faces=pairs.faces, voices=pairs.voices, labels=pairs.labels)
    model = train_fusion(pairs, len(LABELS), recipe)
    assert isinstance(model, AttentionFusion)
    return model


@torch.no_grad()
def _real_inputs(
    face: FaceNet, faces: FaceSet, recipe: FaceRecipe, voice: VoiceNet, fold_data: FoldData
) -> dict[str, list[dict[str, NDArray[np.float32]]]]:
    """Return inputs of all networks for the comparison of the exported files with torch."""
    _, held_out = split_held_out(faces, recipe.seed)
    images = prepare_faces(faces.images[held_out[:NUM_REAL]], LEVELS[0].face_px, ImageSpec())
    mel = open_mel(fold_data.mel)
    pairs = [
        mel_windows(audio, [len(audio)], mel) for audio in fold_data.voices.audio_clips[:NUM_REAL]
    ]
    windows = np.concatenate([window for window, _ in pairs])
    masks = np.concatenate([mask for _, mask in pairs])
    face_embeddings = MirrorAveraged(face).eval()(images)[0].numpy()
    voice_embeddings = voice.eval()(torch.from_numpy(windows), torch.from_numpy(masks))[0].numpy()
    num = min(len(face_embeddings), len(voice_embeddings))
    return {
        "face": [{"image": images.numpy()}],
        "voice": [{"mel": windows, "mask": masks}],
        "fusion": [
            {
                "faces": np.repeat(face_embeddings[:num, None], NUM_FACES, axis=1),
                "face_mask": np.ones((num, NUM_FACES), np.float32),
                "voice": voice_embeddings[:num],
                "voice_mask": np.ones((num, 1), np.float32),
            }
        ],
    }


def _select_metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    names = ("accuracy", "uar", "macro_f1", "weighted_f1", "ece", "n", "confusion", "per_class")
    return {k: round(results[k], 4) if isinstance(results[k], float) else results[k] for k in names}


def _describe_recipes(
    face: FaceRecipe, recipes: Recipes, num_seeds: int, sources: DatasetPaths
) -> dict[str, Any]:
    """Return the provenance of the bundle: all settings and data sets."""
    data_sets = {FERPLUS: ["face"], RAVDESS: ["voice", "fusion"]}
    if sources.noise is not None:
        data_sets[ESC] = ["voice"]
    return {
        "recipe": "training/recipes/default.py",
        "face": asdict(face),
        "voice": {**asdict(recipes.voice), "actors": ACTORS},
        "units": asdict(recipes.units),
        "fusion": asdict(recipes.fusion),
        "seeds": num_seeds,
        "data_sets": describe_data_sets(data_sets),
    }

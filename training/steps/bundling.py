"""The bundle of a recipe: trained networks and what is known about them in, a scored bundle out.

Everything that is chosen (temperatures, weights of the modalities, the abstention threshold) comes
from validation people, and every metric from test people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...engines.bundles import Bundle, Manifest, load_bundle
from ..data import mel_windows, open_mel
from ..export import NOT_CALIBRATED, FusionNetwork, rewrite_bundle, write_bundle
from ..models import NUM_FACES, FaceNet, MergedLabels, MirrorAveraged, VoiceNet
from ..recipes import prepare_faces
from .device_scores import score_bundle, select_metrics
from .fusing import TrainedFusion
from .judging import Judgement
from .material import Division, Material
from .networks import TrainedNetwork
from .opinions import FACE, VOICE
from .origin import describe_recipe
from .summary import summarize_divisions
from .work_folder import hash_content, keep_result, name_result

NUM_REAL = 64
"""Faces and voices for the comparison of the exported files with torch."""
LOST_SHARE = 0.02
"""Share of the right answers that the abstention threshold may cost."""
MAX_THRESHOLD = 0.5

RealInputs = dict[str, list[dict[str, NDArray[np.float32]]]]


@dataclass(frozen=True, slots=True)
class Choices:
    """What is chosen on the validation people."""

    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    """Of late fusion, by modality."""
    abstain_below: float
    rule: str
    """How the threshold was chosen."""
    not_calibrated: Sequence[str] = ()
    """Networks without validation people, whose temperature is 1."""


def choose(material: Material, names: Sequence[str], judgements: Sequence[Judgement]) -> Choices:
    """Choose temperatures, weights and threshold for the networks `names` of the bundle.

    `judgements` are those of all divisions, that of the networks that ship last. A modality whose
    people all train gets the geometric mean of the folds' temperatures.
    """
    own = judgements[-1]
    temperatures, gains, confidences = {}, {}, []
    raw: list[str] = []
    chance = 1 / len(material.recipe.labels)
    for name in names:
        chosen = [own] if name in own.temperatures else judgements[:-1]
        found = [each for each in chosen if name in each.temperatures]
        logs = [np.log(each.temperatures[name]) for each in found]
        temperatures[name] = float(np.exp(np.mean(logs))) if logs else 1.0
        raw += [] if logs else [name]
        recalls = [each.facts["validation"][name]["uar"] for each in found]
        gains[name] = max(float(np.mean(recalls)) - chance, 0.01) if recalls else 0.01
        confidences += [value for each in found for value in each.facts["confidences"][name]]
    weights = {name: round(gain / sum(gains.values()), 3) for name, gain in gains.items()}
    if material.recipe.abstain_below is not None:
        threshold = material.recipe.abstain_below
        return Choices(temperatures, weights, threshold, "set in the recipe", raw)
    rule = f"{LOST_SHARE:.0%} of the right answers about the validation people are below it"
    return Choices(temperatures, weights, choose_threshold(confidences, chance), rule, raw)


def choose_threshold(confidences: Sequence[float], chance: float) -> float:
    """Return the confidence below which `LOST_SHARE` of the right answers are, at least that of
    chance and at most `MAX_THRESHOLD`; twice that of chance without any answer."""
    if not confidences:
        return round(min(2 * chance, MAX_THRESHOLD), 2)
    value = float(np.quantile(np.asarray(confidences), LOST_SHARE, method="lower"))
    return round(float(np.clip(value, chance, MAX_THRESHOLD)), 2)


def export_draft(
    material: Material,
    networks: Mapping[str, TrainedNetwork],
    fusion: TrainedFusion | None,
    choices: Choices,
    work: Path,
) -> Bundle:
    """Write the bundle without metrics, or return the stored one."""
    recipe = material.recipe
    key = hash_content(
        "draft",
        recipe.name,
        recipe.labels,
        recipe.image,
        recipe.mel,
        list(recipe.levels),
        [network.key for network in networks.values()],
        fusion.folder.name if fusion else "",
        fusion.facts if fusion else "",
        choices.temperatures,
        choices.weights,
        choices.abstain_below,
    )
    folder = name_result(work, "draft", key)

    def make() -> dict[str, Any]:
        models: dict[str, nn.Module] = {}
        for name, network in networks.items():
            if isinstance(network.model, FaceNet):
                models[name] = MirrorAveraged(network.model)
            else:
                models[name] = MergedLabels(network.model, material.voices.groups)
        bundle = write_bundle(
            folder / recipe.name,
            models,
            choices.temperatures,
            choices.weights,
            list(recipe.levels),
            recipe.image,
            recipe.mel,
            choices.abstain_below,
            {},
            {},
            labels=recipe.labels,
            fusion=FusionNetwork(fusion.model) if fusion else None,
            real_inputs=list_real_inputs(material, networks),
        )
        return {"bundle": bundle.sha256}

    keep_result(folder, make)
    return load_bundle(folder / recipe.name)


def score_draft(
    draft: Bundle, material: Material, division: Division, work: Path
) -> dict[str, dict[str, Any]]:
    """Score the bundle on the test people by the device's code, or return the stored figures."""
    key = hash_content("scores", draft.sha256, material.digest)
    folder = name_result(work, "scores", key)
    return keep_result(
        folder, lambda: score_bundle(draft, material, division.faces, division.voices)
    )


def finish_draft(
    draft: Bundle,
    material: Material,
    divisions: Sequence[Division],
    networks: Mapping[str, TrainedNetwork],
    fusion: TrainedFusion | None,
    judgements: Sequence[Judgement],
    choices: Choices,
    scores: Mapping[str, Mapping[str, Any]],
    work: Path,
) -> Bundle:
    """Add metrics and provenance to the bundle, or return the stored one."""
    metrics = {name: select_metrics(figures) for name, figures in scores.items()}
    metrics |= summarize_divisions(material, judgements)
    provenance = describe_recipe(material, divisions[-1], networks, fusion, choices.rule)
    if choices.not_calibrated:
        provenance[NOT_CALIBRATED] = list(choices.not_calibrated)
    key = hash_content("bundle", draft.sha256, metrics, provenance)
    folder = name_result(work, "bundle", key)

    def add(manifest: Manifest, _: Path) -> Manifest:
        return msgspec.structs.replace(
            manifest,
            metrics={**metrics, **manifest.metrics},
            provenance={**manifest.provenance, **provenance},
        )

    def make() -> dict[str, Any]:
        return {"bundle": rewrite_bundle(draft, folder / material.recipe.name, add).sha256}

    keep_result(folder, make)
    return load_bundle(folder / material.recipe.name)


@torch.no_grad()
def list_real_inputs(material: Material, networks: Mapping[str, TrainedNetwork]) -> RealInputs:
    """Return inputs of all networks for the comparison of the exported files with torch."""
    recipe, inputs, embeddings = material.recipe, {}, {}
    rng = np.random.default_rng(0)
    for name, network in networks.items():
        if isinstance(network.model, FaceNet):
            index = _draw(len(material.faces.labels), rng)
            size_px = recipe.levels[0].face_px
            images = prepare_faces(material.faces.images[index], size_px, recipe.image)
            embeddings[name] = MirrorAveraged(network.model).eval()(images)[0].numpy()
            inputs[name] = [{"image": images.numpy()}]
        else:
            inputs[name] = [_draw_windows(material, rng)]
            window = [torch.from_numpy(inputs[name][0][key]) for key in ("mel", "mask")]
            assert isinstance(network.model, VoiceNet)
            embeddings[name] = network.model.eval()(*window)[0].numpy()
    if {FACE, VOICE} <= set(embeddings):
        num = min(map(len, embeddings.values()))
        inputs["fusion"] = [
            {
                "faces": np.repeat(embeddings[FACE][:num, None], NUM_FACES, axis=1),
                "face_mask": np.ones((num, NUM_FACES), np.float32),
                "voice": embeddings[VOICE][:num],
                "voice_mask": np.ones((num, 1), np.float32),
            }
        ]
    return inputs


def _draw(num: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.sort(rng.permutation(num)[:NUM_REAL])


def _draw_windows(material: Material, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    clips = [material.voices.audio_clips[i] for i in _draw(len(material.voices.labels), rng)]
    mel = open_mel(material.recipe.mel)
    pairs = [mel_windows(audio, [len(audio)], mel) for audio in clips]
    windows, masks = zip(*pairs, strict=True)
    return {"mel": np.concatenate(windows), "mask": np.concatenate(masks)}

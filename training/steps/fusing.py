"""The fusion network of the bundle: pairs of held-out people in, a network out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..loop import RunOptions, load_weights, read_curves
from ..models import AttentionFusion
from ..recipes import Pairs, attach_heads, build_fusion, train_fusion
from ..stored_network import NetworkDescription, save_network
from .judging import Judgement
from .material import Material
from .networks import TrainedNetwork
from .opinions import FACE, UNITS, VOICE
from .settings import make_fusion_recipe
from .work_folder import hash_content, keep_result, name_result

log = logging.getLogger(__name__)

MIN_PAIRS = 2
"""Batch normalization needs two."""
SOURCES = {
    FACE: "faces and voices of the same recordings",
    UNITS: "action units and voices of the same recordings",
    "": "voices with random faces of the same label, not of the same people",
}
"""What the pairs are."""
STILL_DOUBT = 3.0
"""A talking face looks neutral most of the time, unlike the pictures that most faces are trained
on: on 26 recordings of RAVDESS's actor 1, who is in no fold, the log loss was lowest between 3 and
4."""


@dataclass(frozen=True, slots=True)
class TrainedFusion:
    """A fusion network with the heads of the face and the voice network."""

    model: nn.Module
    folder: Path
    facts: dict[str, Any]
    """network, pairs, num_examples, face_doubt, curves."""


def get_fusion(
    material: Material,
    networks: Mapping[str, TrainedNetwork],
    judgements: Sequence[Judgement],
    temperatures: Mapping[str, float],
    work: Path,
) -> TrainedFusion | None:
    """Train the network, or load it. None without a fusion section, without one of the modalities,
    and without people held out to train it on."""
    section = material.recipe.fusion
    if section is None or {FACE, VOICE} - set(networks):
        return None
    pairs, source = collect_pairs(judgements)
    if pairs is None or len(pairs.labels) < MIN_PAIRS:
        log.warning("no fusion network: no pair of a face and a voice to train it on")
        return None
    num_labels = len(material.recipe.labels)
    settings = make_fusion_recipe(section, 0, len(pairs.labels))
    key = hash_content("fusion", asdict(settings), pairs.faces, pairs.voices, pairs.labels)
    folder = name_result(work, "fusion", key)

    def make() -> dict[str, Any]:
        checkpoint = folder / "fusion.ckpt"
        options = RunOptions({"labels": material.recipe.labels})
        model = train_fusion(pairs, num_labels, settings, checkpoint, options)
        description = NetworkDescription(
            "fusion", material.recipe.labels, settings={"kind": section.kind}
        )
        save_network(folder / "fusion.pt", model, description)
        curves = read_curves(checkpoint)
        checkpoint.unlink()
        return {
            "network": "fusion",
            "validation": None,
            "curves": curves,
            "settings": asdict(settings),
            "num_examples": len(pairs.labels),
            "pairs": SOURCES[source],
        }

    facts = keep_result(folder, make)
    model = build_fusion(section.kind, num_labels)
    load_weights(folder / "fusion.pt", model)
    if not isinstance(model, AttentionFusion):
        return TrainedFusion(model.eval(), folder, facts)
    doubt = section.face_doubt
    if doubt is None:
        doubt = 1.0 if source == FACE else STILL_DOUBT
    with_heads = attach_heads(
        model,
        networks[FACE].model.classifier,
        networks[VOICE].model.classifier,
        temperatures[FACE],
        temperatures[VOICE],
        doubt,
        voice_groups=material.voices.groups,
    )
    return TrainedFusion(with_heads, folder, {**facts, "face_doubt": doubt})


def collect_pairs(judgements: Sequence[Judgement]) -> tuple[Pairs | None, str]:
    """Join the pairs of all judgements, and name their source. Those of the same recordings are
    taken alone where every judgement has them."""
    found = [judgement.load_pairs() for judgement in judgements]
    known = [(each, source) for each, source in found if each is not None and len(each.labels)]
    if not known:
        return None, ""
    sources = {source for _, source in known}
    source = sources.pop() if len(sources) == 1 else ""
    pairs = [each for each, _ in known]
    joined = Pairs(
        np.concatenate([each.faces for each in pairs]),
        np.concatenate([each.voices for each in pairs]),
        np.concatenate([each.labels for each in pairs]),
    )
    return joined, source

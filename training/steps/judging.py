"""How good the networks of a division are for people they were not trained on.

In: the networks of a division. Out: `Judgement`: temperatures from the validation people, metrics
of the test people, and pairs for the fusion network. It is kept in the work folder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import name_actor
from ..models import FaceNet, VoiceNet
from ..recipes import Pairs
from .fold_scores import refine, score_all, score_fusions, score_noise
from .material import Division, Indices, Material
from .networks import TrainedNetwork
from .opinions import (
    FACE,
    UNITS,
    VOICE,
    Opinions,
    Split,
    judge_faces,
    judge_units,
    judge_voices,
)
from .pairing import describe_faces, describe_voices, pair_labels, pair_recordings
from .work_folder import hash_content, keep_result, name_result

log = logging.getLogger(__name__)

LABELS, FINE = "labels", "fine"
"""Sets of labels: the recipe's, and the data's own names where those are finer."""
PAIRS = "pairs.npz"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known about the networks of a division."""

    facts: dict[str, Any]
    """division, seed, temperatures, validation and test (metrics by label set and source)."""
    folder: Path

    @property
    def temperatures(self) -> dict[str, float]:
        return dict(self.facts["temperatures"])

    def load_pairs(self) -> tuple[Pairs | None, str]:
        """Return pairs of people held out from the networks, and the source of their faces: "face"
        and "units" are of the same recordings, "" are random faces of the same label. None without
        a voice or without a face."""
        file = self.folder / PAIRS
        if not file.is_file():
            return None, ""
        with np.load(file) as stored:
            arrays = dict(stored)
        if "voice" not in arrays:
            return None, ""
        if "faces" in arrays:
            own = Pairs(arrays["faces"], arrays["voice"], arrays["labels"])
            return own, str(arrays["source"])
        if "other_faces" not in arrays:
            return None, ""
        return pair_labels(arrays, self.facts["seed"]), ""


def judge_division(
    material: Material, division: Division, networks: Mapping[str, TrainedNetwork], work: Path
) -> Judgement:
    """Judge the networks, or return the stored judgement."""
    key = hash_content(
        "judgement",
        [network.key for network in networks.values()],
        division.name,
        material.digest,
        material.recipe.labels,
        material.recipe.fusion,
        material.recipe.levels[0].face_px,
        material.recipe.image,
        material.heldout_noises,
    )
    folder = name_result(work, f"judgement-{division.name}", key)
    facts = keep_result(folder, lambda: _judge(material, division, networks, folder))
    return Judgement(facts, folder)


def _judge(
    material: Material, division: Division, networks: Mapping[str, TrainedNetwork], folder: Path
) -> dict[str, Any]:
    num_labels = len(material.recipe.labels)
    valid, test = (_ask(material, division, networks, part) for part in ("valid", "test"))
    temperatures = {source: each.fit(num_labels) for source, each in valid.items()}
    facts: dict[str, Any] = {
        "division": division.name,
        "seed": division.seed,
        "temperatures": temperatures,
        "validation": score_all(material, valid, temperatures),
        "confidences": _list_confidences(valid, temperatures, num_labels),
        "test": {LABELS: score_all(material, test, temperatures)},
    }
    is_fold = division.fold is not None
    if is_fold:
        facts["test"][LABELS] |= score_fusions(material, division, valid, test, temperatures)
        fine_valid, fine_test = refine(material, valid), refine(material, test)
        if fine_valid is not None and fine_test is not None:
            own = {source: each.fit(each.logits.shape[1]) for source, each in fine_valid.items()}
            facts["test"][FINE] = score_all(material, fine_test, own)
            facts["test"][FINE] |= score_fusions(material, division, fine_valid, fine_test, own)
        if material.heldout_noises and VOICE in test:
            model = networks[VOICE].model
            assert isinstance(model, VoiceNet)
            facts["noise"] = score_noise(material, division, model, temperatures[VOICE])
    if material.recipe.fusion is not None:
        arrays = _list_pairs(material, valid, test if is_fold else valid, temperatures)
        np.savez(folder / PAIRS, **arrays)  # type: ignore[arg-type]  # no array is allow_pickle
    return facts


def _ask(
    material: Material, division: Division, networks: Mapping[str, TrainedNetwork], part: str
) -> Split:
    """Return the opinions of all sources on the people of a part, without those that have none."""
    split: Split = {}
    if FACE in networks and division.faces is not None:
        index = getattr(division.faces, part)
        if part == "test" and division.fold is not None:
            # Faces of nobody known are in no fold: the networks that ship are scored on them.
            index = np.array([i for i in index if material.faces.people[i]], np.intp)
        split[FACE] = _ask_about_faces(material, networks[FACE], index)
    if VOICE in networks and division.voices is not None:
        split[VOICE] = judge_voices(networks[VOICE].model, material, getattr(division.voices, part))
    if (
        division.fold is not None
        and material.corpus.units is not None
        and _are_complete(material, division)
    ):
        people = division.fold.people
        split[UNITS] = judge_units(material, people("train"), people(part), division.seed)
    return {source: each for source, each in split.items() if len(each.targets)}


def _ask_about_faces(material: Material, network: TrainedNetwork, index: Indices) -> Opinions:
    """Return the opinions on faces. Divisions that share a network ask it once."""
    assert isinstance(network.model, FaceNet)
    key = hash_content("opinions", network.key, index)
    if key not in material.memory:
        material.memory[key] = judge_faces(network.model, material, index)
    opinions: Opinions = material.memory[key]
    return opinions


def _are_complete(material: Material, division: Division) -> bool:
    """Whether the people who train have action units of every label."""
    units, fold = material.corpus.units, division.fold
    assert units is not None
    assert fold is not None
    people = fold.people("train")
    labels = {
        label
        for label, actor in zip(units.labels.tolist(), units.actors.tolist(), strict=True)
        if name_actor(actor) in people
    }
    return labels == set(range(len(material.recipe.labels)))


def _list_pairs(
    material: Material, valid: Split, held_out: Split, temperatures: Mapping[str, float]
) -> dict[str, NDArray[Any]]:
    """Return the arrays for `Judgement.load_pairs`, of the people `held_out`; faces of other
    recordings are those of the validation."""
    section, num_labels = material.recipe.fusion, len(material.recipe.labels)
    assert section is not None
    voice = held_out.get(VOICE)
    if voice is None or VOICE not in temperatures:
        return {}
    for source in (FACE, UNITS):
        if source in held_out and source in temperatures:
            both = {FACE: temperatures[source], VOICE: temperatures[VOICE]}
            found = pair_recordings(held_out[source], voice, section.kind, both, num_labels)
            if found is not None:
                pairs, _ = found
                return {
                    "faces": pairs.faces,
                    "voice": pairs.voices,
                    "labels": pairs.labels,
                    "source": np.array(source),
                }
    described = describe_voices(voice, section.kind, temperatures[VOICE], num_labels)
    arrays: dict[str, NDArray[Any]] = {
        "voice": described,
        "labels": voice.targets[voice.example_of],
    }
    if FACE in valid:
        face = describe_faces(valid[FACE], section.kind, temperatures[FACE], num_labels)
        arrays |= {"other_faces": face, "other_labels": valid[FACE].targets}
    return arrays


def _list_confidences(
    split: Split, temperatures: Mapping[str, float], num_labels: int
) -> dict[str, list[float]]:
    """Return the confidence of every right answer about the validation people, by modality."""
    found: dict[str, list[float]] = {}
    for source in (FACE, VOICE):
        if source in split:
            each = split[source]
            rows = each.mean(each.probabilities(temperatures[source], num_labels))
            right = rows.max(axis=1)[rows.argmax(axis=1) == each.targets]
            found[source] = [round(value, 4) for value in right.tolist()]
    return found

"""What a bundle says about its making: settings, data sets with their licences, and people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..export import (
    FERPLUS,
    OWN,
    RAVDESS,
    DataSet,
    describe_data_sets,
    describe_noise,
    describe_people,
)
from ..recipe_file import DataSection, Recipe
from .fusing import TrainedFusion
from .material import Division, Material, Parts
from .networks import TrainedNetwork
from .opinions import FACE, VOICE
from .work_folder import hash_content


def describe_recipe(
    material: Material,
    division: Division,
    networks: Mapping[str, TrainedNetwork],
    fusion: TrainedFusion | None,
    rule: str,
) -> dict[str, Any]:
    """Return the provenance of the bundle, for `write_bundle` to complete."""
    recipe = material.recipe
    settings = {name: network.facts["settings"] for name, network in networks.items()}
    if fusion is not None:
        facts = fusion.facts
        settings["fusion"] = {
            **facts["settings"],
            "pairs": facts["pairs"],
            **({"face_doubt": facts["face_doubt"]} if "face_doubt" in facts else {}),
        }
    salt = hash_content("salt", material.digest) if recipe.people.hash else ""
    return {
        "recipe": "emotion-train all",
        "protocol": recipe.people.protocol,
        "seeds": recipe.seeds,
        "abstain_below": rule,
        **settings,
        "data_sets": _list_data_sets(recipe, list(settings)),
        **describe_people(_list_people(material, division, networks, fusion), salt),
    }


def _list_people(
    material: Material,
    division: Division,
    networks: Mapping[str, TrainedNetwork],
    fusion: TrainedFusion | None,
) -> dict[str, dict[str, set[str]]]:
    """Return the people of each network by role. With folds the networks that ship have no
    validation people of their own: all of the folds train them."""
    people: dict[str, dict[str, set[str]]] = {}
    for name in networks:
        examples = material.faces if name == FACE else material.voices
        parts = division.faces if name == FACE else division.voices
        assert parts is not None
        people[name] = _by_role(parts, examples.people)
    if fusion is not None:
        of_folds = {person for fold in material.corpus.folds for person in fold.splits}
        people["fusion"] = {"training": of_folds or people[VOICE]["validation"]}
    return people


def _by_role(parts: Parts, people: tuple[str, ...]) -> dict[str, set[str]]:
    roles = {"training": parts.train, "validation": parts.valid}
    return {role: {people[i] for i in index} - {""} for role, index in roles.items()}


def _list_data_sets(recipe: Recipe, names: list[str]) -> list[dict[str, Any]]:
    used: dict[DataSet, list[str]] = {}
    for section in recipe.data:
        if section.kind != "action_units":
            used[_describe_data(section)] = _list_uses(section, names)
    if recipe.noise and VOICE in names:
        used[describe_noise(Path(recipe.noise))] = [VOICE]
    return describe_data_sets({data: uses for data, uses in used.items() if uses})


def _list_uses(section: DataSection, names: list[str]) -> list[str]:
    return [name for name in names if section.kind != "ferplus" or name == FACE]


def _describe_data(section: DataSection) -> DataSet:
    if section.kind == "ferplus":
        return FERPLUS
    if section.kind == "ravdess":
        return RAVDESS
    return DataSet(Path(section.root).name, OWN, "a folder with a manifest")

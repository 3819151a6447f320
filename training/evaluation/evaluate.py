"""Scores a bundle on a data set with the code that the device runs, not the code that trained it.

In: a bundle and a data set. Out: metrics, and how they were measured.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...engines.bundles import FUSION, Bundle, Level
from ..errors import DatasetError
from ..metrics import bootstrap_accuracy, score, score_groups, score_subjects
from .acoustics import AcousticConditions, load_acoustic_conditions
from .examples import find_examples
from .known_people import note_images, note_people
from .material import Example, ExampleMedia
from .networks import BATCH_SIZE, Networks, open_networks
from .robustness import CLEAN, Condition, evaluate_noise, list_conditions
from .scorers import SCORERS
from .selection import ExampleSet, Selection

log = logging.getLogger(__name__)

SUMMARY_METRICS = ("accuracy", "uar", "ece", "n")
"""Metrics reported for each condition."""


@dataclass(frozen=True, slots=True)
class RobustnessOptions:
    """Noises and rooms to measure robustness with, see `load_acoustic_conditions`."""

    noise_dir: Path | None = None
    response_dir: Path | None = None
    seed: int = 0


@dataclass(slots=True)
class ConditionResult:
    """Class probabilities under one condition, and the examples they belong to."""

    probabilities: list[NDArray[np.float64]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    def add(self, example: Example, probabilities: NDArray[np.float64] | None) -> None:
        """Add one example, unless it has no probabilities."""
        if probabilities is not None:
            self.probabilities.append(probabilities)
            self.examples.append(example)

    def score(self, labels: Sequence[str]) -> dict[str, Any]:
        """Compute the metrics; at least one example is needed."""
        probabilities = np.stack(self.probabilities)
        targets = np.array([example.label for example in self.examples])
        subjects = [example.subject for example in self.examples]
        return {
            **score(probabilities, targets, labels),
            **score_subjects(probabilities, targets, subjects),
            **score_groups(probabilities, targets, [example.groups for example in self.examples]),
            **bootstrap_accuracy(probabilities, targets, subjects),
        }


def evaluate_bundle(
    bundle: Bundle,
    dataset: str,
    root: Path,
    split: str = "valid",
    actors: Sequence[int] | None = None,
    engine: str = "auto",
    level: str = "",
    modality: str = "",
    yunet: str = "",
    robustness: RobustnessOptions | None = None,
    precision: str = "auto",
    label_map: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the metrics of `training.metrics`, and how they were measured.

    `label_map` gives names of the data a label of the bundle, as `map` of a recipe. `modality` ""
    chooses the one with most examples in `root`. With `robustness` the result also has
    "robustness", `SUMMARY_METRICS` under each condition with "clean" first, and "noise_only", see
    `evaluate_noise`. Raises DatasetError.
    """
    choose_level(bundle, level)  # an unknown one is named before the examples are searched for
    selection = Selection(dataset, root, split, actors, modality, yunet, label_map or {})
    chosen = find_examples(selection, bundle)
    chosen = replace(chosen, origin=f"{root}: ")
    figures = score_examples(bundle, chosen, level, engine, robustness, precision)
    notes = note_images(bundle.manifest, dataset, split) + figures["notes"]
    return {**figures, "dataset": dataset, "notes": notes}


def score_examples(
    bundle: Bundle,
    chosen: ExampleSet,
    level: str = "",
    engine: str = "auto",
    robustness: RobustnessOptions | None = None,
    precision: str = "auto",
) -> dict[str, Any]:
    """Return what `evaluate_bundle` does, for examples that have been found. Raises
    DatasetError."""
    chosen_level = choose_level(bundle, level)
    labels = bundle.manifest.labels
    sample_rate_hz = bundle.manifest.mel.sample_rate_hz
    conditions, acoustics = [CLEAN], None
    if robustness is not None:
        acoustics = load_acoustic_conditions(
            robustness.noise_dir, robustness.response_dir, sample_rate_hz, robustness.seed
        )
        conditions += list_conditions(chosen.modality, acoustics, sample_rate_hz)
    with open_networks(bundle, chosen.modality, engine, chosen_level, precision) as networks:
        seed = 0 if robustness is None else robustness.seed
        results = evaluate_examples(networks, chosen, conditions, seed)
        noise_only = _evaluate_noise_only(networks, chosen.modality, acoustics)
        engine_names = {name: opened.name for name, opened in networks.engines.items()}
        precisions = {name: opened.precision for name, opened in networks.engines.items()}
    num_skipped = len(chosen.examples) - len(results[0].examples)
    if not results[0].examples:
        raise DatasetError(f"{chosen.origin}no face or voice in all {num_skipped} examples")
    metrics = results[0].score(labels)
    per_class = metrics["per_class"].items()
    absent = [label for label, values in per_class if not values["support"]]
    if absent:
        log.warning("no example of %s: left out of the means", ", ".join(absent))
    return {
        **metrics,
        "modality": chosen.modality,
        **chosen.scope,
        "level": chosen_level.name,
        "face_px": chosen_level.face_px,
        "skipped": chosen.skipped + num_skipped,
        "bundle": bundle.sha256,
        "bundle_name": bundle.manifest.name,
        "engines": engine_names,
        "precisions": precisions,
        "protocol": chosen.protocol,
        "notes": note_people(bundle.manifest, chosen.modality, results[0].examples),
        **(
            {}
            if robustness is None
            else {"robustness": _list_rows(conditions, results, labels), **noise_only}
        ),
    }


def choose_level(bundle: Bundle, name: str) -> Level:
    """Return the level of that name, or the best one for "". Raises DatasetError."""
    levels = bundle.manifest.levels
    chosen = next((level for level in levels if name in ("", level.name)), None)
    if chosen is None:
        known = ", ".join(level.name for level in levels)
        raise DatasetError(f"level {name!r} is not in the bundle, allowed: {known}")
    return chosen


def evaluate_examples(
    networks: Networks, chosen: ExampleSet, conditions: Sequence[Condition], seed: int
) -> list[ConditionResult]:
    """Score every example under every condition. Return the results by condition.

    Examples that are unreadable or without the modality are logged and left out. Random numbers
    depend on the example's name, the condition's name and `seed` alone, so each strength of a
    condition gets the same noise at the same place.
    """
    scorer = SCORERS[chosen.modality]
    results = [ConditionResult() for _ in conditions]
    for batch in _load_batches(chosen.examples):
        examples = [example for example, _ in batch]
        for condition, result in zip(conditions, results, strict=True):
            corrupted = [
                condition.corrupt(media, _make_rng(seed, condition, example))
                for example, media in batch
            ]
            rows = scorer(networks, corrupted)
            for example, probabilities in zip(examples, rows, strict=True):
                result.add(example, probabilities)
                if condition is CLEAN and probabilities is None:
                    log.warning("left out: %s: no %s in it", example.name, chosen.modality)
    return results


def _load_batches(examples: Sequence[Example]) -> Iterator[list[tuple[Example, ExampleMedia]]]:
    """Yield loaded examples, in groups that fill the networks' batches."""
    batch: list[tuple[Example, ExampleMedia]] = []
    num_faces = 0
    for example in tqdm(examples, "examples", leave=False, disable=None):
        try:
            media = example.load()
        except DatasetError as error:
            log.warning("left out: %s", error)
            continue
        batch.append((example, media))
        # A recording is a batch of windows by itself.
        num_faces += len(media.faces) if media.audio is None else BATCH_SIZE
        if num_faces >= BATCH_SIZE:
            yield batch
            batch, num_faces = [], 0
    if batch:
        yield batch


def _make_rng(seed: int, condition: Condition, example: Example) -> np.random.Generator:
    names = (condition.name, Path(example.name).name)  # independent of the data set's folder
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def _evaluate_noise_only(
    networks: Networks, modality: str, acoustics: AcousticConditions | None
) -> dict[str, Any]:
    if acoustics is None or modality not in ("voice", FUSION):
        return {}
    return {"noise_only": evaluate_noise(networks, acoustics)}


def _list_rows(
    conditions: Sequence[Condition], results: Sequence[ConditionResult], labels: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for condition, result in zip(conditions, results, strict=True):
        if not result.examples:
            log.warning("%s %g: no example left", condition.name, condition.strength)
            continue
        metrics = result.score(labels)
        rows.append(
            {
                "condition": condition.name,
                "strength": condition.strength,
                "unit": condition.unit,
                **{name: metrics[name] for name in SUMMARY_METRICS},
            }
        )
    return rows

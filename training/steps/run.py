"""A recipe from its data to the bundle, step by step.

In: a recipe file. Out: the bundle and a report. Every step leaves its result in the work folder, so
that a second call goes on where the first one ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tqdm.contrib.logging import logging_redirect_tqdm

from ...engines.bundles import MANIFEST, Bundle, load_bundle
from ...engines.storage import atomic_write
from ..errors import TrainingError
from ..export import find_next_version, rewrite_bundle
from ..launch import check_writable
from ..recipe_file import Recipe, dump_recipe
from .bundling import choose, export_draft, finish_draft, score_draft
from .fusing import get_fusion
from .judging import Judgement, judge_division
from .material import SHIPS, Division, Material, list_divisions, prepare_material
from .networks import TrainedNetwork, train_division
from .progress import Progress
from .report import ReportContent, write_report
from .work_folder import hash_content, keep_result, name_result

STEPS = ("prepare", "train", "evaluate", "export")
"""Where a run may end; the last one writes the bundle."""
NUM_OTHER_STEPS = 5
"""Data, fusion, export, evaluation, bundle."""
REPORT = "report.html"
FOLDS = "folds.json"
EXIT_REFUSED = 1


@dataclass(slots=True)
class Outcome:
    """What a run has come to."""

    material: Material
    bundle: Bundle | None = None
    report: Path | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    int8: Mapping[str, Any] = field(default_factory=dict)


def run_recipe(recipe: Recipe, until: str = STEPS[-1]) -> Outcome:
    """Do the steps up to `until`. Raises ConfigError, DatasetError, TrainingError, BundleError and
    EngineError, and leaves what is done in the work folder."""
    work = Path(recipe.work)
    check_writable(work, "work")
    progress = Progress()
    try:
        with logging_redirect_tqdm():  # lines of the log go above the bar
            return _run_steps(recipe, work, progress, until)
    finally:
        progress.close()


def _run_steps(recipe: Recipe, work: Path, progress: Progress, until: str) -> Outcome:
    progress.begin("data")
    material = prepare_material(recipe)
    divisions = list_divisions(material)
    outcome = Outcome(material)
    if until == "prepare":
        return outcome
    progress.plan(_count_steps(recipe, divisions))
    networks = {each.name: train_division(material, each, work, progress) for each in divisions}
    if until != "train":
        _finish(outcome, divisions, networks, work, progress, until)
    return outcome


def _count_steps(recipe: Recipe, divisions: Sequence[Division]) -> int:
    per_division = (recipe.face is not None) + (recipe.voice is not None) + 1
    return per_division * len(divisions) + NUM_OTHER_STEPS + ("int8" in recipe.precision)


def _finish(
    outcome: Outcome,
    divisions: Sequence[Division],
    networks: Mapping[str, Mapping[str, TrainedNetwork]],
    work: Path,
    progress: Progress,
    until: str,
) -> None:
    material = outcome.material
    recipe, ships = material.recipe, networks[SHIPS]
    judgements = []
    for division in divisions:
        progress.begin(f"judge {division.name}")
        judgements.append(judge_division(material, division, networks[division.name], work))
    _list_folds(work, divisions, networks, judgements)
    progress.begin("fusion network")
    held_out = judgements[:-1] if material.corpus.folds else judgements[-1:]
    choices = choose(material, list(ships), judgements)
    fusion = get_fusion(material, ships, held_out, choices.temperatures, work)
    progress.begin("export")
    draft = export_draft(material, ships, fusion, choices, work)
    progress.begin("evaluate")
    outcome.scores = score_draft(draft, material, divisions[-1], work)
    progress.begin("bundle")
    finished = finish_draft(
        draft,
        material,
        divisions,
        ships,
        fusion,
        judgements,
        choices,
        outcome.scores,
        work,
    )
    if until == STEPS[-1] and "int8" in recipe.precision:
        progress.begin("INT8 and its accuracy gate")
        finished, outcome.int8 = quantize(finished, recipe, material, work)
    if until == STEPS[-1]:
        outcome.bundle = _deliver(finished, Path(recipe.out), recipe.version)
    progress.end()
    trained = [network for own in networks.values() for network in own.values()]
    content = ReportContent(
        material,
        finished,
        trained,
        fusion,
        judgements,
        choices,
        outcome.scores,
        outcome.int8,
        progress.timings,
    )
    outcome.report = write_report(content, work / REPORT)


def _list_folds(
    work: Path,
    divisions: Sequence[Division],
    networks: Mapping[str, Mapping[str, TrainedNetwork]],
    judgements: Sequence[Judgement],
) -> None:
    """Write the networks of the folds and their temperatures, for `emotion-calibrate folds`."""
    rows = [
        {
            "fold": number,
            "seed": division.seed,
            "weights": f"{networks[division.name]['voice'].folder.name}/voice.pt",
            "temperature": judgement.temperatures["voice"],
        }
        for division, judgement in zip(divisions, judgements, strict=True)
        if division.fold is not None and "voice" in networks[division.name]
        for number in [int(division.name.partition("-")[0].removeprefix("fold"))]
    ]
    if rows:
        atomic_write(work / FOLDS, json.dumps({"voice": rows}, indent=1).encode())


def quantize(
    bundle: Bundle, recipe: Recipe, material: Material, work: Path
) -> tuple[Bundle, Mapping[str, Any]]:
    """Write the bundle with INT8 networks, if the accuracy gate allows it, else return it as it is.

    Return the gate's results too. `emotion-calibrate` does it: calibration is a floor above
    training. Raises TrainingError.
    """
    key = hash_content("int8", bundle.sha256, material.digest, recipe.int8)
    folder = name_result(work, "int8", key)
    target, results = folder / recipe.name, folder / "gate.json"

    def make() -> dict[str, Any]:
        file = folder / "recipe.yaml"
        atomic_write(file, dump_recipe(recipe).encode())
        package = (__package__ or "").rpartition(".training")[0]
        command = [sys.executable, "-m", f"{package}.calibration", "recipe", str(file)]
        command += ["--bundle", str(bundle.path), "--out", str(target), "--json", str(results)]
        command += ["--tables", str(folder / "tables"), "--method", recipe.int8.method]
        command += ["--min-agreement", str(recipe.int8.min_agreement)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        problems = done.stderr.strip().splitlines()
        if done.returncode not in (0, EXIT_REFUSED) or not results.is_file():
            raise TrainingError(f"INT8: {problems[-1] if problems else done.returncode}")
        refused = done.returncode == EXIT_REFUSED
        return {"refused": refused, "gate": json.loads(results.read_bytes())}

    facts = keep_result(folder, make)
    return (bundle if facts["refused"] else load_bundle(target)), facts


def _deliver(bundle: Bundle, out: Path, version: int | None) -> Bundle:
    """Put the bundle in its place with its version, unless it is there."""
    number = find_next_version(out) if version is None else version
    if (out / MANIFEST).is_file():
        current = load_bundle(out)
        its = current.manifest.version
        same = msgspec.structs.replace(current.manifest, version=bundle.manifest.version)
        if same == bundle.manifest and version in (None, its):
            return current
    return rewrite_bundle(
        bundle, out, lambda manifest, _: msgspec.structs.replace(manifest, version=number)
    )

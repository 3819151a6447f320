"""The accuracy gate: a bundle and a data set in, each precision's accuracy and the violations out.

The data set holds people that calibration has not seen. Preprocessing and engines are the device's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engines.bundles import LABELS, Bundle
from ..training.evaluation import (
    CLEAN,
    ExampleSet,
    Selection,
    choose_level,
    evaluate_examples,
    find_examples,
    note_people,
    open_networks,
)
from ..training.metrics import score
from .errors import CalibrationError
from .options import Limits

PRECISIONS = ("fp32", "fp16", "int8")
ROUNDING = 1e-9
"""A difference that is exactly at a limit may be rounded to more."""


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one network at one precision."""

    network: str
    precision: str
    accuracy: float
    uar: float
    ece: float
    agreement: float
    """Share of examples with the same predicted label as FP32."""
    n: int
    bytes: int
    """Size of the file. FP16 uses FP32's file: the device converts it."""

    def describe(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the accuracy gate has found."""

    rows: list[Row]
    violations: list[str]
    """One line for each violated limit; empty: INT8 may ship."""
    notes: list[str]
    """What the rows do not show."""


def run_gate(
    bundle: Bundle, example_sets: Sequence[ExampleSet], limits: Limits, level: str = ""
) -> GateResult:
    """Compare FP32, FP16 and INT8 on each set of examples.

    Raises CalibrationError, DatasetError, EngineError.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for examples in example_sets:
        rows += compare_examples(bundle, examples, PRECISIONS, level)
        known = note_people(bundle.manifest, examples.modality, examples.examples)
        notes += [f"{examples.modality}: {note}" for note in known]
    return GateResult(rows, list(find_violations(rows, limits)), notes)


def compare_precisions(
    bundle: Bundle, selection: Selection, precisions: Sequence[str] = PRECISIONS, level: str = ""
) -> list[Row]:
    """Evaluate a network at each precision on one data set, FP32 first.

    Raises CalibrationError, DatasetError, EngineError.
    """
    return compare_examples(bundle, find_examples(selection, bundle), precisions, level)


def compare_examples(
    bundle: Bundle, examples: ExampleSet, precisions: Sequence[str] = PRECISIONS, level: str = ""
) -> list[Row]:
    """Evaluate a network at each precision on examples, FP32 first. Raises as above."""
    rows: list[Row] = []
    baseline = None
    labels = bundle.manifest.labels
    for precision in precisions:
        with open_networks(
            bundle, examples.modality, "onnx", choose_level(bundle, level), precision
        ) as networks:
            (results,) = evaluate_examples(networks, examples, [CLEAN], seed=0)
        if not results.examples:
            names = ", ".join(example.name for example in examples.examples[:1])
            raise CalibrationError(f"{names or examples.protocol}: no example can be evaluated")
        predictions = dict(
            zip((e.name for e in results.examples), results.probabilities, strict=True)
        )
        baseline = predictions if baseline is None else baseline
        common = [name for name in predictions if name in baseline]
        agreement = np.mean([predictions[n].argmax() == baseline[n].argmax() for n in common])
        targets = np.array([example.label for example in results.examples])
        num_bytes = bundle.model_path(examples.modality, precision).stat().st_size
        probabilities = np.stack(results.probabilities)
        rows.append(
            make_row(
                examples.modality,
                precision,
                probabilities,
                targets,
                float(agreement),
                num_bytes,
                labels,
            )
        )
    return rows


def make_row(
    network: str,
    precision: str,
    probabilities: NDArray[np.float64],
    targets: NDArray[np.int64],
    agreement: float,
    num_bytes: int,
    labels: Sequence[str] = LABELS,
) -> Row:
    """Score class probabilities (N, L) against the labels `targets` (N,)."""
    metrics = score(probabilities, targets, labels)
    return Row(
        network,
        precision,
        metrics["accuracy"],
        metrics["uar"],
        metrics["ece"],
        agreement,
        len(targets),
        num_bytes,
    )


def find_violations(rows: Sequence[Row], limits: Limits) -> Iterator[str]:
    """Yield one line for each limit that a precision violates.

    Among few examples a single one weighs more than a limit: it may change in any case. The
    calibration error may rise by the standard error of a share of so many examples.
    """
    by_network: dict[str, Row] = {}
    for row in rows:
        fp32_row = by_network.setdefault(row.network, row)
        where = f"{row.network} {row.precision}"
        one = 1 / row.n
        drop = max(limits.accuracy_drop, one)
        if fp32_row.accuracy - row.accuracy > drop + ROUNDING:
            yield (
                f"{where}: accuracy {row.accuracy:.4f}, {fp32_row.precision} has"
                f" {fp32_row.accuracy:.4f}: the drop must be at most {drop:.4g}"
            )
        agreement = min(limits.agreement, 1 - one)
        if row.agreement < agreement - ROUNDING:
            yield f"{where}: agreement {row.agreement:.4f} must be at least {agreement:.4g}"
        rise = max(limits.ece_rise, 0.5 * one**0.5)
        if row.ece - fp32_row.ece > rise + ROUNDING:
            yield (
                f"{where}: calibration error {row.ece:.4f}, {fp32_row.precision} has"
                f" {fp32_row.ece:.4f}: the rise must be at most {rise:.4g}"
            )


def count_bytes(bundle: Bundle, precision: str) -> int:
    """Sum up the sizes of all network files that a run at `precision` reads."""
    networks = bundle.manifest.networks
    files = {bundle.model_path(name, precision).name for name in networks}
    return sum(bundle.manifest.files[name].bytes for name in files)

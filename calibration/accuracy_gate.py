"""The gate: a bundle's precisions side by side on people the calibration has not seen, through the
preprocessing and engines of the device, and whether 8 bits lost more than is allowed.
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
    Selection,
    choose_level,
    evaluate_examples,
    find_examples,
    open_networks,
)
from ..training.metrics import score
from .errors import CalibrationError

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a lower precision may lose against 32 bits."""

    accuracy_drop: float = 0.005
    agreement: float = 0.98
    """Least share of examples with the same answer."""
    ece_rise: float = 0.02
    bytes: int = 8_000_000
    """Of all that a run at 8 bits reads."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network at one precision."""

    network: str
    precision: str
    accuracy: float
    uar: float
    ece: float
    agreement: float
    """With 32 bits."""
    n: int
    bytes: int
    """Of the file; the device makes 16 bits of the one for 32."""

    def describe(self) -> dict[str, Any]:
        return asdict(self)


def compare_precisions(
    bundle: Bundle, selection: Selection, precisions: Sequence[str] = PRECISIONS, level: str = ""
) -> list[Row]:
    """On one data set, 32 bits first. Raises DatasetError, EngineError."""
    chosen = find_examples(selection, bundle)
    rows: list[Row] = []
    first = None
    for precision in precisions:
        with open_networks(
            bundle, chosen.modality, "onnx", choose_level(bundle, level), precision
        ) as networks:
            (results,) = evaluate_examples(networks, chosen, [CLEAN], seed=0)
        if not results.examples:
            raise CalibrationError(f"{selection.root}: nothing to judge")
        predictions = dict(
            zip((e.name for e in results.examples), results.probabilities, strict=True)
        )
        first = predictions if first is None else first
        both = [name for name in predictions if name in first]
        agreement = np.mean([predictions[n].argmax() == first[n].argmax() for n in both])
        targets = np.array([example.label for example in results.examples])
        num_bytes = bundle.model_path(chosen.modality, precision).stat().st_size
        modality_probabilities = np.stack(results.probabilities)
        rows.append(
            make_row(
                chosen.modality,
                precision,
                modality_probabilities,
                targets,
                float(agreement),
                num_bytes,
            )
        )
    return rows


def make_row(
    network: str,
    precision: str,
    modality_probabilities: NDArray[np.float64],
    targets: NDArray[np.int64],
    agreement: float,
    num_bytes: int,
) -> Row:
    """Score `modality_probabilities` (N, 7) of examples whose labels are `targets` (N,)."""
    metrics = score(modality_probabilities, targets, LABELS)
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
    """A line for each limit that a precision breaks."""
    by_network: dict[str, Row] = {}
    for row in rows:
        fp32_row = by_network.setdefault(row.network, row)
        where = f"{row.network} {row.precision}"
        if fp32_row.accuracy - row.accuracy > limits.accuracy_drop:
            yield (
                f"{where}: accuracy {row.accuracy:.4f}, {fp32_row.precision} has"
                f" {fp32_row.accuracy:.4f}; at most {limits.accuracy_drop:g} less allowed"
            )
        if row.agreement < limits.agreement:
            yield f"{where}: agreement {row.agreement:.4f}, at least {limits.agreement:g} wanted"
        if row.ece - fp32_row.ece > limits.ece_rise:
            yield (
                f"{where}: calibration error {row.ece:.4f}, {fp32_row.precision} has"
                f" {fp32_row.ece:.4f}; at most {limits.ece_rise:g} more allowed"
            )


def count_bytes(bundle: Bundle, precision: str) -> int:
    """Of every file that a run at `precision` reads."""
    networks = bundle.manifest.networks
    files = {bundle.model_path(name, precision).name for name in networks}
    return sum(bundle.manifest.files[name].bytes for name in files)

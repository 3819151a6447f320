"""INT8 variants of a bundle: a bundle and quantized networks in, a verified bundle out.

The variants stand beside the FP32 networks. The new bundle replaces the old folder only when it is
complete and its golden outputs are verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..engines.bundles import Bundle, Manifest, ModelEntry, Variant
from ..engines.golden import golden_input
from ..engines.onnx_runtime import OnnxEngine
from ..training.export import GOLDEN_PLACES, add_people, rewrite_bundle
from .accuracy_gate import Row

INT8 = "int8"


@dataclass(frozen=True, slots=True)
class QuantizedNetwork:
    """An INT8 network with its description for the bundle."""

    data: bytes
    """The ONNX file."""
    origin: str
    """How it was quantized, for the bundle's provenance."""
    metrics: Mapping[str, Any]
    """How it compares with FP32, for the bundle's metrics."""
    people: Sequence[str] = ()
    """Who the samples show, for the bundle's provenance."""


def write_variants(
    bundle: Bundle, folder: Path, networks: Mapping[str, QuantizedNetwork]
) -> Bundle:
    """Write `bundle` with INT8 variants to `folder`, which may be the bundle's own.

    Raises ExportError, BundleError or EngineError; `folder` is then unchanged.
    """

    def add(manifest: Manifest, new: Path) -> Manifest:
        models = dict(manifest.models)
        for name, quantized in networks.items():
            file = new / f"{name}_{INT8}.onnx"
            file.write_bytes(quantized.data)
            models[name] = _add_variant(models[name], bundle, name, file)
        origins = {name: network.origin for name, network in networks.items()}
        metrics = {
            name: {"bytes": len(network.data), **network.metrics}
            for name, network in networks.items()
        }
        provenance = {
            **manifest.provenance,
            INT8: {**manifest.provenance.get(INT8, {}), **origins},
        }
        people = {name: network.people for name, network in networks.items() if network.people}
        return msgspec.structs.replace(
            manifest,
            models=models,
            provenance=add_people(provenance, "calibration", people) if people else provenance,
            metrics={**manifest.metrics, INT8: {**manifest.metrics.get(INT8, {}), **metrics}},
        )

    return rewrite_bundle(bundle, folder, add)


def record_precisions(
    bundle: Bundle,
    rows: Sequence[Row],
    protocol: str,
    notes: Sequence[str] = (),
    folder: Path | None = None,
) -> Bundle:
    """Record the rows of the accuracy gate, and `notes` on them, in metrics and model card.

    The bundle is written to `folder`, without one in its own place.

    Raises as `write_variants`.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for row in rows:
        values = {"accuracy": row.accuracy, "uar": row.uar, "ece": row.ece}
        values |= {"agreement": row.agreement, "n": row.n}
        rounded = {key: round(value, 4) for key, value in values.items()}
        metrics.setdefault(row.network, {})[row.precision] = rounded
    precisions = {"protocol": protocol, **({"notes": list(notes)} if notes else {}), **metrics}

    def add(manifest: Manifest, _: Path) -> Manifest:
        return msgspec.structs.replace(
            manifest, metrics={**manifest.metrics, "precisions": precisions}
        )

    return rewrite_bundle(bundle, folder or bundle.path, add)


def _add_variant(entry: ModelEntry, bundle: Bundle, name: str, file: Path) -> ModelEntry:
    with OnnxEngine(file) as engine:
        logits = engine.infer(golden_input(bundle.manifest, name))["logits"][0]
    golden = [round(float(value), GOLDEN_PLACES) for value in logits]
    variants = {**entry.variants, INT8: Variant(file.name, golden)}
    return msgspec.structs.replace(entry, variants=variants)

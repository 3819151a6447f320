"""A bundle with its networks at 8 bits beside those at 32, or in their place.

In: a bundle and quantised networks. Out: another bundle, whole and proven, or the old one as it
was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..engines.bundles import Bundle, Manifest, ModelEntry, Variant
from ..engines.golden import golden_input
from ..engines.onnx_runtime import OnnxEngine
from ..training.export import GOLDEN_PLACES, check_replaceable, finish_bundle, put_in_place
from .accuracy_gate import Row
from .errors import CalibrationError

INT8 = "int8"


@dataclass(frozen=True, slots=True)
class QuantizedNetwork:
    """One network."""

    data: bytes
    """The ONNX file."""
    origin: str
    """How it was made, for the bundle's provenance."""
    metrics: Mapping[str, Any]
    """How it compares, for the bundle's metrics."""


def write_variants(
    bundle: Bundle, folder: Path, networks: Mapping[str, QuantizedNetwork]
) -> Bundle:
    """`folder` may be that of `bundle`. Raises ExportError, BundleError or EngineError; then
    `folder` is as it was."""

    def add(manifest: Manifest, new: Path) -> Manifest:
        models = dict(manifest.models)
        for name, quantized in networks.items():
            file = new / f"{name}_{INT8}.onnx"
            file.write_bytes(quantized.data)
            models[name] = _add(models[name], bundle, name, file)
        origins = {name: one.origin for name, one in networks.items()}
        metrics = {name: {"bytes": len(one.data), **one.metrics} for name, one in networks.items()}
        return msgspec.structs.replace(
            manifest,
            models=models,
            provenance={
                **manifest.provenance,
                INT8: {**manifest.provenance.get(INT8, {}), **origins},
            },
            metrics={**manifest.metrics, INT8: {**manifest.metrics.get(INT8, {}), **metrics}},
        )

    return _rewrite(bundle, folder, add)


def record_precisions(bundle: Bundle, rows: Sequence[Row], protocol: str) -> Bundle:
    """Put what `compare` found into the bundle itself: its metrics and its model card. Raises as
    `write_variants` does."""
    metrics: dict[str, dict[str, Any]] = {}
    for row in rows:
        brief = {"accuracy": row.accuracy, "uar": row.uar, "ece": row.ece}
        brief |= {"agreement": row.agreement, "n": row.n}
        rounded = {key: round(value, 4) for key, value in brief.items()}
        metrics.setdefault(row.network, {})[row.precision] = rounded
    found = {"protocol": protocol, **metrics}

    def add(manifest: Manifest, _: Path) -> Manifest:
        return msgspec.structs.replace(manifest, metrics={**manifest.metrics, "precisions": found})

    return _rewrite(bundle, bundle.path, add)


def _rewrite(bundle: Bundle, folder: Path, change: Callable[[Manifest, Path], Manifest]) -> Bundle:
    """All files of `bundle`, and a manifest changed by `change`, which may add files to the folder
    it is given; proven, then put in place of `folder`."""
    folder = folder.resolve()
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
            new = Path(work) / "new" / folder.name
            new.mkdir(parents=True)
            for name in bundle.manifest.files:
                shutil.copy(bundle.path / name, new)
            written = finish_bundle(change(bundle.manifest, new), new)
            put_in_place(new, folder, Path(work) / "old")
    except OSError as error:
        raise CalibrationError(f"{folder}: cannot be written: {error.strerror}") from error
    return replace(written, path=folder)


def _add(entry: ModelEntry, bundle: Bundle, name: str, file: Path) -> ModelEntry:
    with OnnxEngine(file) as engine:
        logits = engine.infer(golden_input(bundle.manifest, name))["logits"][0]
    golden = [round(float(value), GOLDEN_PLACES) for value in logits]
    variants = {**entry.variants, INT8: Variant(file.name, golden)}
    return msgspec.structs.replace(entry, variants=variants)

"""Writes a bundle: networks, metrics and provenance in, a verified bundle out.

The bundle is written to a temporary folder, verified, and then moved to its place.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from ...engines import open_engine
from ...engines.bundles import (
    DEFAULT_BUNDLE,
    FUSION,
    LABELS,
    MANIFEST,
    SHARED_NETWORKS,
    Bundle,
    FusionEntry,
    Level,
    Manifest,
    ModelEntry,
    load_bundle,
    write_manifest,
)
from ...engines.detection_network import open_detection_network
from ...engines.golden import check_golden_output, golden_input
from ...kernels.spec import ImageSpec, MelSpec
from ..models import NUM_FACES
from .model_card import render_model_card
from .onnx import Arrays, ExportError, export_onnx
from .provenance import add_shared_data, describe_origin

log = logging.getLogger(__name__)

MAX_BUNDLE_BYTES = 16_000_000
MODEL_CARD = "MODEL_CARD.md"
GOLDEN_PLACES = 5


@dataclass(frozen=True, slots=True)
class FusionNetwork:
    """A network of `training/models/fusion.py` and its settings on the device."""

    model: nn.Module
    temperature: float = 1.0
    num_faces: int = NUM_FACES


def write_bundle(
    folder: Path,
    models: Mapping[str, nn.Module],
    temperatures: Mapping[str, float],
    fusion_weights: Mapping[str, float],
    levels: list[Level],
    image: ImageSpec,
    mel: MelSpec,
    abstain_below: float,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    labels: Sequence[str] = LABELS,
    fusion: FusionNetwork | None = None,
    real_inputs: Mapping[str, Iterable[Arrays]] | None = None,
    version: int = 0,
) -> Bundle:
    """Export every network, write card and manifest, verify the bundle, and replace `folder` by it.

    `models`, `temperatures` and `fusion_weights` are by modality, `labels` those of their logits.
    `real_inputs` are by network ("fusion" as well), for the comparison with torch. `provenance` is
    completed by `describe_origin`, `metrics` by "export", see `Exported`. Raises ExportError,
    BundleError or EngineError; `folder` is then unchanged.
    """
    folder = folder.resolve()
    check_replaceable(folder)
    real = real_inputs or {}
    draft = Manifest(
        format=1,
        name=folder.name,
        labels=list(labels),
        image=image,
        mel=mel,
        levels=levels,
        models={},
        abstain_below=abstain_below,
        files={},
        metrics=dict(metrics),
        provenance=describe_origin(provenance),
        version=version,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        new = Path(work) / "new" / folder.name
        new.mkdir(parents=True)
        exported = {}
        for name, model in models.items():
            example = golden_input(draft, name)
            result = export_onnx(model, example, new / f"{name}.onnx", real.get(name, ()))
            exported[name] = result.describe()
            draft.models[name] = ModelEntry(
                f"{name}.onnx",
                temperatures[name],
                fusion_weights[name],
                _round(result.golden["logits"]),
            )
        if fusion is not None:
            entry, exported[FUSION] = _export_fusion(draft, fusion, new, real.get(FUSION, ()))
            draft = msgspec.structs.replace(draft, fusion=entry)
        draft.metrics["export"] = exported
        draft = add_shared_networks(draft, new)
        bundle = finish_bundle(draft, new)
        put_in_place(new, folder, Path(work) / "old")
    log.info("%s: %d bytes", folder, sum(entry.bytes for entry in bundle.manifest.files.values()))
    return replace(bundle, path=folder)


def find_next_version(folder: Path) -> int:
    """Return the version of the bundle that replaces the one in `folder`: one more, 1 without one.
    Raises BundleError for a bundle that cannot be read."""
    if not (folder / MANIFEST).is_file():
        return 1
    return load_bundle(folder).manifest.version + 1


def check_replaceable(folder: Path) -> None:
    """Raise ExportError if `folder` holds files other than a bundle."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file, expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ExportError(f"{folder}: has files but no {MANIFEST}; choose an empty folder")


def _export_fusion(
    draft: Manifest, fusion: FusionNetwork, folder: Path, real: Iterable[Arrays]
) -> tuple[FusionEntry, dict[str, Any]]:
    file = f"{FUSION}.onnx"
    entry = FusionEntry(file, fusion.num_faces, fusion.temperature, [], [])
    example = golden_input(msgspec.structs.replace(draft, fusion=entry), FUSION)
    result = export_onnx(fusion.model, example, folder / file, real, ("logits", "weights"))
    golden = {name: _round(values) for name, values in result.golden.items()}
    entry = msgspec.structs.replace(
        entry, golden_logits=golden["logits"], golden_weights=golden["weights"]
    )
    return entry, result.describe()


def _round(values: Iterable[float]) -> list[float]:
    return [round(value, GOLDEN_PLACES) for value in values]


def add_shared_networks(manifest: Manifest, folder: Path) -> Manifest:
    """Copy the shared networks of the bundle that ships to `folder`, and return `manifest` with
    their entries.

    A voice-activity network for another log-mel is left out: the device then takes that of the
    bundle that ships, and computes its log-mel beside this bundle's. Raises ExportError for a
    sample rate that only this bundle has.
    """
    if not (DEFAULT_BUNDLE / MANIFEST).is_file():
        return manifest
    shipped = load_bundle(DEFAULT_BUNDLE)
    entries = {field: getattr(shipped.manifest, field) for field in SHARED_NETWORKS}
    if shipped.manifest.mel != manifest.mel:
        rate_hz, shared_hz = manifest.mel.sample_rate_hz, shipped.manifest.mel.sample_rate_hz
        if "voice" in manifest.models and rate_hz != shared_hz:
            raise ExportError(
                f"{manifest.name}: mel.sample_rate_hz is {rate_hz}, allowed: {shared_hz}, which the"
                " voice-activity network of the bundle that ships hears"
            )
        entries["voice_activity"] = None
    for entry in entries.values():
        if entry is not None:
            shutil.copyfile(shipped.path / entry.file, folder / entry.file)
    return msgspec.structs.replace(manifest, **entries)


def state_shared_data(manifest: Manifest) -> Manifest:
    """Return `manifest` with what its networks of the bundle that ships were trained on."""
    if not (DEFAULT_BUNDLE / MANIFEST).is_file():
        return manifest
    shipped = load_bundle(DEFAULT_BUNDLE).manifest
    shared = [
        name.replace("_", " ")
        for name in SHARED_NETWORKS
        if getattr(manifest, name) is not None and getattr(manifest, name) == getattr(shipped, name)
    ]
    if not shared:
        return manifest
    rows = shipped.provenance.get("data_sets") or ()
    provenance = add_shared_data(manifest.provenance, list(manifest.networks), shared, rows)
    return msgspec.structs.replace(manifest, provenance=provenance)


def finish_bundle(manifest: Manifest, folder: Path) -> Bundle:
    """Write card and manifest, and verify size and golden output of every network."""
    manifest = state_shared_data(manifest)
    (folder / MODEL_CARD).write_text(render_model_card(manifest), encoding="utf-8")
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del fields["format"], fields["files"]
    bundle = write_manifest(folder, fields, [MODEL_CARD])
    total = sum(path.stat().st_size for path in folder.iterdir())
    if total > MAX_BUNDLE_BYTES:
        raise ExportError(f"{manifest.name}: {total} bytes, at most {MAX_BUNDLE_BYTES} allowed")
    if bundle.manifest.face_detector is not None:
        open_detection_network(folder, bundle.manifest.face_detector)
    for name, network in bundle.manifest.networks.items():
        variants = network.variants if isinstance(network, ModelEntry) else {}
        for precision in ("fp32", *variants):
            with open_engine("onnx", bundle, name, precision=precision) as engine:
                check_golden_output(engine, bundle, name)
    return bundle


def put_in_place(new: Path, folder: Path, aside: Path) -> None:
    """Replace `folder` by `new`. The old folder moves to `aside`, and back if that fails."""
    aside.mkdir()
    old = aside / folder.name
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise

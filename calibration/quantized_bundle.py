"""Quantization of a whole bundle: an FP32 bundle and samples in, the bundle with INT8 out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..engines.bundles import Bundle
from ..training.export import check_replaceable
from .errors import CalibrationError
from .options import CalibrationOptions
from .recipe import calibrate
from .samples import INPUTS, Samples
from .variants import QuantizedNetwork, write_variants


def quantize_bundle(
    bundle: Bundle,
    samples: Mapping[str, Samples],
    folder: Path,
    options: CalibrationOptions,
    report: Callable[[str], None] = print,
) -> Bundle:
    """Quantize each face and voice network of `bundle` on its samples and write `folder`, which may
    be the bundle's own. One line for each network goes to `report`.

    Raises CalibrationError, ExportError, BundleError or EngineError; `folder` is then unchanged.
    """
    check_replaceable(folder.resolve())  # before minutes of calibration, not after
    names = list_quantizable(bundle)
    missing = [name for name in names if name not in samples]
    if missing:
        raise CalibrationError(f"{bundle.path}: no samples for its {missing[0]} network")
    networks = {}
    for name in names:
        data = bundle.read_model(name)
        temperature = bundle.manifest.models[name].temperature
        quantized, table = calibrate(data, name, samples[name], temperature, options)
        origin = (
            f"{len(samples[name].ids)} samples of training people (sha256 {table.key.samples}),"
            f" ranges by {table.used}, {len(table.excluded)} layers kept in FP16"
        )
        metrics = {
            "agreement_on_samples": round(table.agreement, 4),
            "divergence_on_samples": round(table.divergence, 5),
            "spared_layers": table.excluded,
        }
        networks[name] = QuantizedNetwork(quantized, origin, metrics, samples[name].people)
        report(
            f"{name}: {len(data)} -> {len(quantized)} bytes, ranges by {table.used},"
            f" {len(table.excluded)} layers kept in FP16,"
            f" agreement {table.agreement:.4f} on the samples"
        )
    return write_variants(bundle, folder, networks)


def list_quantizable(bundle: Bundle) -> list[str]:
    """Return the networks of a bundle that calibration quantizes."""
    return [name for name in INPUTS if name in bundle.manifest.models]

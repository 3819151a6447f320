"""The calibration recipe: a network and its samples in, the INT8 network and its table out.

The steps run in the order of their cost, each only if the network does not agree enough yet: ranges
from histograms, then ranges by the network's output, then excluding the most sensitive layers.
"""

from __future__ import annotations

import hashlib
import logging

import onnx

from .divergence import LogitDifference
from .options import PLAIN_METHODS, CalibrationOptions
from .quantize import quantize, read_network, serialize
from .ranges import Histogram, choose_range, collect_histograms, find_weighted
from .samples import Samples
from .sensitivity import (
    LayerSensitivity,
    SensitivityProbe,
    exclude_sensitive_layers,
    open_probe,
    rank_layers,
    search_ranges,
)
from .table import CalibrationKey, CalibrationTable, load_table, save_table

log = logging.getLogger(__name__)

BATCH = 32
NUM_SEARCHED = 256
"""Samples for the search over ranges and layers. Decisions are measured on all samples."""


def calibrate(
    data: bytes, name: str, samples: Samples, temperature: float, options: CalibrationOptions
) -> tuple[bytes, CalibrationTable]:
    """Quantize an ONNX file -> the INT8 file, and the table of the decisions.

    `temperature` is the network's in its bundle. A table in the folder with the same key is
    followed without running the network. Raises CalibrationError.
    """
    model = read_network(data, name)
    key = CalibrationKey(
        hashlib.sha256(data).hexdigest(),
        samples.sha256,
        temperature,
        options.method,
        options.min_agreement,
    )
    file = None if options.folder is None else options.folder / f"{name}.json"
    table = None if file is None else load_table(file)
    if table is None or table.key != key:
        table = _calibrate_network(model, samples, key)
        if file is not None:
            save_table(file, table)
    layers = [layer for layer in find_weighted(model) if layer not in table.excluded]
    return serialize(quantize(model, table.ranges, layers)), table


def _calibrate_network(
    model: onnx.ModelProto, samples: Samples, key: CalibrationKey
) -> CalibrationTable:
    """Choose ranges and the layers to exclude."""
    layers = find_weighted(model)
    all_feeds = samples.batches(BATCH)
    full_probe = open_probe(model, all_feeds, key.temperature)
    subset_probe = open_probe(model, samples.batches(BATCH, NUM_SEARCHED), key.temperature)
    histograms = collect_histograms(model, sorted(set(layers.values())), all_feeds)
    used, ranges, difference = _choose_ranges(full_probe, subset_probe, histograms, key)
    ranking: list[LayerSensitivity] = []
    excluded: list[str] = []
    if difference.agreement < key.min_agreement:
        ranking = rank_layers(subset_probe, ranges)
        excluded, difference = exclude_sensitive_layers(
            ranking, lambda names: full_probe.measure(ranges, names), key.min_agreement
        )
    return CalibrationTable(
        key,
        used,
        ranges,
        {layer.name: layer.divergence for layer in ranking},
        excluded,
        difference.agreement,
        difference.divergence,
    )


def _choose_ranges(
    full_probe: SensitivityProbe,
    subset_probe: SensitivityProbe,
    histograms: dict[str, Histogram],
    key: CalibrationKey,
) -> tuple[str, dict[str, float], LogitDifference]:
    """Return the method in use, its ranges, and the difference they make on all samples."""
    layers = find_weighted(full_probe.model)
    plain = PLAIN_METHODS if key.method == "auto" else (key.method,)
    tried = []
    for method in plain:
        if method == "answer":
            ranges = search_ranges(subset_probe, histograms)
        else:
            ranges = {
                name: choose_range(histogram, method) for name, histogram in histograms.items()
            }
        tried.append((method, ranges, full_probe.measure(ranges, layers)))
        log.info("%s: agreement %.4f, divergence %.5f", method, *_summarize(tried[-1][2]))
    best = min(tried, key=lambda each: each[2].divergence)
    if key.method != "auto" or best[2].agreement >= key.min_agreement:
        return best
    ranges = search_ranges(subset_probe, histograms)
    difference = full_probe.measure(ranges, layers)
    log.info("answer: agreement %.4f, divergence %.5f", *_summarize(difference))
    return min(best, ("answer", ranges, difference), key=lambda each: each[2].divergence)


def _summarize(difference: LogitDifference) -> tuple[float, float]:
    return difference.agreement, difference.divergence

"""From a network and its samples to the same network at 8 bits, in the order that costs least:
ranges that look at tensors alone, then ranges that ask the network, then the worst layers spared.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import onnx

from .divergence import LogitDifference
from .quantize import quantize, read_network, serialize
from .ranges import PLAIN_METHODS, Histogram, choose_range, collect_histograms, find_weighted
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
"""Samples that ranges and layers are tried on; what is decided on is tried on all."""
MIN_AGREEMENT = 0.985
"""With 32 bits, on the calibration samples. They are harder than what comes: spoilt, and as many
of rare labels as of others."""


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    method: str = "auto"
    """One of `ranges.METHODS`: "auto" takes the plain one that changes the answers least, and
    "answer" where that is too much."""
    min_agreement: float = MIN_AGREEMENT
    folder: Path | None = None
    """Where tables are kept; without it everything is asked anew."""


def calibrate(
    data: bytes, name: str, samples: Samples, temperature: float, options: CalibrationOptions
) -> tuple[bytes, CalibrationTable]:
    """An ONNX file -> the quantised file, and what was decided. `temperature` is the network's in
    its bundle. Raises CalibrationError."""
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
    layers = [layer for layer in find_weighted(model) if layer not in table.spared]
    return serialize(quantize(model, table.ranges, layers)), table


def _calibrate_network(
    model: onnx.ModelProto, samples: Samples, key: CalibrationKey
) -> CalibrationTable:
    layers = find_weighted(model)
    all_feeds = samples.batches(BATCH)
    full_probe = open_probe(model, all_feeds, key.temperature)
    subset_probe = open_probe(model, samples.batches(BATCH, NUM_SEARCHED), key.temperature)
    histograms = collect_histograms(model, sorted(set(layers.values())), all_feeds)
    used, ranges, found = _choose_ranges(full_probe, subset_probe, histograms, key)
    ranking: list[LayerSensitivity] = []
    spared: list[str] = []
    if found.agreement < key.min_agreement:
        ranking = rank_layers(subset_probe, ranges)
        spared, found = exclude_sensitive_layers(
            ranking, lambda names: full_probe.measure(ranges, names), key.min_agreement
        )
    return CalibrationTable(
        key,
        used,
        ranges,
        {layer.name: layer.divergence for layer in ranking},
        spared,
        found.agreement,
        found.divergence,
    )


def _choose_ranges(
    full_probe: SensitivityProbe,
    subset_probe: SensitivityProbe,
    histograms: dict[str, Histogram],
    key: CalibrationKey,
) -> tuple[str, dict[str, float], LogitDifference]:
    """The method used, its ranges, and what difference they make to all samples."""
    layers = find_weighted(full_probe.model)
    plain = PLAIN_METHODS if key.method == "auto" else (key.method,)
    tried = []
    for method in plain:
        if method == "answer":
            ranges = search_ranges(subset_probe, histograms)
        else:
            ranges = {name: choose_range(one, method) for name, one in histograms.items()}
        tried.append((method, ranges, full_probe.measure(ranges, layers)))
        log.info("%s: agreement %.4f, divergence %.5f", method, *_summarize(tried[-1][2]))
    best = min(tried, key=lambda each: each[2].divergence)
    if key.method != "auto" or best[2].agreement >= key.min_agreement:
        return best
    ranges = search_ranges(subset_probe, histograms)
    found = full_probe.measure(ranges, layers)
    log.info("answer: agreement %.4f, divergence %.5f", *_summarize(found))
    return min(best, ("answer", ranges, found), key=lambda each: each[2].divergence)


def _summarize(found: LogitDifference) -> tuple[float, float]:
    return found.agreement, found.divergence

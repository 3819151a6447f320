"""Cross-validation of the INT8 voice network: the fold networks in, accuracy at FP32 and INT8 out.

Each fold's network is calibrated on its training speakers and evaluated on its validation speakers,
whom neither training nor calibration has used. The network that ships is trained on all speakers,
so it cannot be evaluated on any of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engines.bundles import Manifest
from ..engines.golden import golden_input
from ..engines.probabilities import calibrate as calibrate_logits
from ..training.data import (
    TEST_FOLDS,
    FeatureCache,
    VoiceSet,
    find_voice_clips,
    load_voices,
    mel_windows,
    open_mel,
    split_actors,
    window_ends,
)
from ..training.export import export_onnx
from ..training.models import MergedLabels
from ..training.stored_network import load_network
from .accuracy_gate import Row, make_row
from .divergence import compute_logits
from .errors import CalibrationError
from .options import CalibrationOptions
from .recipe import calibrate
from .sample_lists import name_voice
from .samples import Samples, check_samples

ALL = "all folds"
FOLDS = "folds.json"
"""Where `emotion-train all` lists the networks of its folds."""


def compare_folds(
    root: Path,
    work: Path,
    samples: Samples,
    manifest: Manifest,
    options: CalibrationOptions,
    cache: Path | None = None,
) -> list[Row]:
    """Evaluate each fold's first seed, which `work`/folds.json names, at FP32 and INT8.

    Returns two rows for each fold, then two for all folds together. Raises CalibrationError,
    DatasetError.
    """
    networks = _list_networks(work / FOLDS)
    decoded = FeatureCache(cache) if cache else None
    predictions = []
    for fold, network in networks.items():
        training, validation, _ = split_actors(fold)
        speakers = load_voices(find_voice_clips(root, validation), manifest.mel, decoded)
        training_samples = samples.select(
            [*(name_voice(actor, "") for actor in training), "noise/", "silence/"]
        )
        check_samples(training_samples, "voice", network.name)
        predictions.append(_evaluate_fold(network, speakers, training_samples, manifest, options))
    rows = [row for fold in predictions for row in _make_rows(fold.name, [fold])]
    return [*rows, *_make_rows(ALL, predictions)]


@dataclass(frozen=True, slots=True)
class _FoldPredictions:
    """A fold network's results on its validation speakers, by precision."""

    name: str
    targets: NDArray[np.int64]
    probabilities: dict[str, NDArray[np.float64]]
    """Class probabilities (N, 7)."""
    sizes: dict[str, int]
    """Size of the network in bytes."""


@dataclass(frozen=True, slots=True)
class _FoldNetwork:
    """The voice network of a fold."""

    name: str
    weights: Path
    temperature: float
    """As fitted on the validation speakers."""


def _list_networks(file: Path) -> dict[int, _FoldNetwork]:
    """Return the network of each fold's lowest seed. Raises CalibrationError."""
    try:
        rows = json.loads(file.read_text())["voice"]
        found = {
            int(row["fold"]): _FoldNetwork(
                f"voice-fold{int(row['fold'])}",
                file.parent / row["weights"],
                float(row["temperature"]),
            )
            for row in sorted(rows, key=lambda row: -int(row["seed"]))
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CalibrationError(f"{file}: lists no networks of folds: {error}") from error
    known = {fold: found[fold] for fold in sorted(found) if fold < len(TEST_FOLDS)}
    if not known:
        raise CalibrationError(f"{file}: lists no networks of folds")
    return known


def _evaluate_fold(
    fold: _FoldNetwork,
    speakers: VoiceSet,
    samples: Samples,
    manifest: Manifest,
    options: CalibrationOptions,
) -> _FoldPredictions:
    network, description = load_network(fold.weights, "voice")
    model = MergedLabels(network, description.groups) if description.merges else network
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{fold.name}.onnx"
        export_onnx(model, golden_input(manifest, "voice"), file)
        fp32 = file.read_bytes()
    int8, _ = calibrate(fp32, fold.name, samples, fold.temperature, options)
    feeds, recording_index = _list_windows(speakers, manifest)
    files = {"fp32": fp32, "int8": int8}
    probabilities = {}
    for precision, data in files.items():
        of_windows = calibrate_logits(
            compute_logits(data, feeds).astype(np.float32), fold.temperature
        )
        total = np.zeros((len(speakers.labels), of_windows.shape[1]))
        np.add.at(total, recording_index, of_windows)
        probabilities[precision] = total / np.bincount(recording_index)[:, None]
    sizes = {precision: len(data) for precision, data in files.items()}
    return _FoldPredictions(fold.name, speakers.labels, probabilities, sizes)


def _make_rows(name: str, folds: Sequence[_FoldPredictions]) -> list[Row]:
    targets = np.concatenate([fold.targets for fold in folds])
    fp32 = np.concatenate([fold.probabilities["fp32"] for fold in folds])
    rows = []
    for precision in ("fp32", "int8"):
        probabilities = np.concatenate([fold.probabilities[precision] for fold in folds])
        agreement = float((probabilities.argmax(axis=1) == fp32.argmax(axis=1)).mean())
        num_bytes = max(fold.sizes[precision] for fold in folds)
        rows.append(make_row(name, precision, probabilities, targets, agreement, num_bytes))
    return rows


def _list_windows(
    speakers: VoiceSet, manifest: Manifest
) -> tuple[list[dict[str, NDArray[np.float32]]], NDArray[np.int64]]:
    """Return one batch of windows for each recording, and the recording of each window."""
    mel = open_mel(manifest.mel)
    feeds, recording_index = [], []
    for number, audio in enumerate(speakers.audio_clips):
        windows, masks = mel_windows(audio, window_ends(len(audio), manifest.mel), mel)
        feeds.append({"mel": windows, "mask": masks})
        recording_index += [number] * len(windows)
    return feeds, np.array(recording_index)

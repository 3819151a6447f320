"""Cross-validation of the INT8 voice network: the fold networks in, accuracy at FP32 and INT8 out.

Each fold's network is calibrated on its training speakers and evaluated on its validation speakers,
whom neither training nor calibration has used. The network that ships is trained on all speakers,
so it cannot be evaluated on any of them.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engines.bundles import Manifest
from ..engines.golden import golden_input
from ..engines.probabilities import calibrate as calibrate_logits
from ..training.data import (
    EMOTION_GROUPS,
    EMOTIONS8,
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
from ..training.loop import load_weights
from ..training.models import MergedLabels
from ..training.recipes import VoiceRecipe, build_voice
from .accuracy_gate import Row, make_row
from .divergence import compute_logits
from .errors import CalibrationError
from .options import CalibrationOptions
from .recipe import calibrate
from .sample_lists import name_voice
from .samples import Samples, check_samples

ALL = "all folds"
_NAME = re.compile(r"voice-fold(\d+)-seed(\d+)\.ckpt")


def compare_folds(
    root: Path,
    work: Path,
    samples: Samples,
    manifest: Manifest,
    options: CalibrationOptions,
    cache: Path | None = None,
) -> list[Row]:
    """Evaluate each fold's first seed in `work`/folds at FP32 and INT8.

    Returns two rows for each fold, then two for all folds together. Raises CalibrationError,
    DatasetError.
    """
    checkpoints = dict(_find_checkpoints(work / "folds"))
    if not checkpoints:
        raise CalibrationError(
            f"{work / 'folds'}: no voice-foldN-seedN.ckpt, train the folds first"
        )
    decoded = FeatureCache(cache) if cache else None
    predictions = []
    for fold, checkpoint in checkpoints.items():
        training, validation, _ = split_actors(fold)
        speakers = load_voices(find_voice_clips(root, validation), manifest.mel, decoded)
        training_samples = samples.select(
            [*(name_voice(actor, "") for actor in training), "noise/", "silence/"]
        )
        check_samples(training_samples, "voice", checkpoint.stem)
        predictions.append(
            _evaluate_fold(checkpoint, speakers, training_samples, manifest, options)
        )
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


def _find_checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield each fold and the checkpoint of its lowest seed."""
    seen = set()
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("voice-fold*.ckpt"))
    checkpoints = sorted((int(match[1]), int(match[2]), path) for match, path in matches if match)
    for fold, _, path in checkpoints:
        if fold not in seen and fold < len(TEST_FOLDS):
            seen.add(fold)
            yield fold, path


def _read_temperature(checkpoint: Path) -> float:
    """Read the temperature that `emotion-train default` fitted on the validation speakers."""
    file = checkpoint.with_name(checkpoint.name.removeprefix("voice-")).with_suffix(".json")
    try:
        return float(json.loads(file.read_text())["temperature"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"{file}: holds no temperature: {error}") from error


def _evaluate_fold(
    checkpoint: Path,
    speakers: VoiceSet,
    samples: Samples,
    manifest: Manifest,
    options: CalibrationOptions,
) -> _FoldPredictions:
    temperature = _read_temperature(checkpoint)
    network = build_voice(VoiceRecipe(), len(EMOTIONS8), manifest.mel)
    load_weights(checkpoint, network)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{checkpoint.stem}.onnx"
        export_onnx(MergedLabels(network, EMOTION_GROUPS), golden_input(manifest, "voice"), file)
        fp32 = file.read_bytes()
    int8, _ = calibrate(fp32, checkpoint.stem, samples, temperature, options)
    feeds, recording_index = _list_windows(speakers, manifest)
    files = {"fp32": fp32, "int8": int8}
    probabilities = {}
    for precision, data in files.items():
        of_windows = calibrate_logits(compute_logits(data, feeds).astype(np.float32), temperature)
        total = np.zeros((len(speakers.labels), of_windows.shape[1]))
        np.add.at(total, recording_index, of_windows)
        probabilities[precision] = total / np.bincount(recording_index)[:, None]
    sizes = {precision: len(data) for precision, data in files.items()}
    return _FoldPredictions(checkpoint.stem, speakers.labels, probabilities, sizes)


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

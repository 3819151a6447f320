"""What 8 bits cost the voice network on people whom neither it nor its calibration has met: the
networks of the folds, calibrated on their training people, judged on their validation people.

The network that ships has learned from all of these people, so it cannot be judged on them.
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
from ..engines.estimator import calibrate as calibrate_logits
from ..engines.golden import golden_input
from ..training.data import (
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
from ..training.models import SevenLabelVoice
from ..training.recipes import VoiceRecipe, build_voice
from .accuracy_gate import Row, make_row
from .divergence import compute_logits
from .errors import CalibrationError
from .recipe import CalibrationOptions, calibrate
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
    """Two rows for each fold, 32 and 8 bits, of its first seed in `work`/folds, then two of all
    together. Raises CalibrationError, DatasetError."""
    checkpoints = dict(_find_checkpoints(work / "folds"))
    if not checkpoints:
        raise CalibrationError(
            f"{work / 'folds'}: no voice-foldN-seedN.ckpt, train the folds first"
        )
    decoded = FeatureCache(cache) if cache else None
    tests = []
    for fold, checkpoint in checkpoints.items():
        training, validation, _ = split_actors(fold)
        speakers = load_voices(find_voice_clips(root, validation), manifest.mel, decoded)
        known = samples.select(
            [*(name_voice(actor, "") for actor in training), "noise/", "silence/"]
        )
        check_samples(known, "voice", checkpoint.stem)
        tests.append(_evaluate_fold(checkpoint, speakers, known, manifest, options))
    rows = [row for test in tests for row in _make_rows(test.name, [test])]
    return [*rows, *_make_rows(ALL, tests)]


@dataclass(frozen=True, slots=True)
class _FoldPredictions:
    """What a fold's network said of its validation people, by precision."""

    name: str
    targets: NDArray[np.int64]
    opinions: dict[str, NDArray[np.float64]]
    """Probabilities (N, 7)."""
    sizes: dict[str, int]
    """Bytes of the network."""


def _find_checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """The lowest seed of each fold."""
    seen = set()
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("voice-fold*.ckpt"))
    found = sorted((int(match[1]), int(match[2]), path) for match, path in matches if match)
    for fold, _, path in found:
        if fold not in seen and fold < len(TEST_FOLDS):
            seen.add(fold)
            yield fold, path


def _read_temperature(checkpoint: Path) -> float:
    """As `emotion-train default` found it on the fold's validation people."""
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
        export_onnx(SevenLabelVoice(network), golden_input(manifest, "voice"), file)
        full = file.read_bytes()
    int8, _ = calibrate(full, checkpoint.stem, samples, temperature, options)
    feeds, recording_index = _list_windows(speakers, manifest)
    files = {"fp32": full, "int8": int8}
    opinions = {}
    for precision, data in files.items():
        probabilities = calibrate_logits(
            compute_logits(data, feeds).astype(np.float32), temperature
        )
        total = np.zeros((len(speakers.labels), probabilities.shape[1]))
        np.add.at(total, recording_index, probabilities)
        opinions[precision] = total / np.bincount(recording_index)[:, None]
    sizes = {precision: len(data) for precision, data in files.items()}
    return _FoldPredictions(checkpoint.stem, speakers.labels, opinions, sizes)


def _make_rows(name: str, tests: Sequence[_FoldPredictions]) -> list[Row]:
    targets = np.concatenate([test.targets for test in tests])
    full = np.concatenate([test.opinions["fp32"] for test in tests])
    rows = []
    for precision in ("fp32", "int8"):
        opinions = np.concatenate([test.opinions[precision] for test in tests])
        agreement = float((opinions.argmax(axis=1) == full.argmax(axis=1)).mean())
        num_bytes = max(test.sizes[precision] for test in tests)
        rows.append(make_row(name, precision, opinions, targets, agreement, num_bytes))
    return rows


def _list_windows(
    speakers: VoiceSet, manifest: Manifest
) -> tuple[list[dict[str, NDArray[np.float32]]], NDArray[np.int64]]:
    """One batch for each recording, and whose each window is."""
    mel = open_mel(manifest.mel)
    feeds, recording_index = [], []
    for number, audio in enumerate(speakers.audio_clips):
        windows, masks = mel_windows(audio, window_ends(len(audio), manifest.mel), mel)
        feeds.append({"mel": windows, "mask": masks})
        recording_index += [number] * len(windows)
    return feeds, np.array(recording_index)

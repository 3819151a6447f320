"""The golden check at start-up: each network must give its exported outputs for a known input.

In: an open engine and its bundle. Out: nothing, or an EngineError that names file and field. The
input comes from a formula, so no person's image or voice is shipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..kernels.spec import MelSpec
from .base import Arrays, Engine, EngineError
from .bundles import EMBEDDING_SIZE, FUSION, NUM_GOLDEN_SCORES, Bundle, FusionEntry, Manifest

TOLERANCE = 0.05
"""Largest difference of a logit: FP16 and other CPUs stay under it, a changed network does not."""
INT8_TOLERANCE = 0.25
"""The same for INT8, which each library rounds in its own way."""

DETECTOR_TOLERANCE = 0.25
"""The same for the logits of the face detector's scores, which have four digits."""


def golden_input(manifest: Manifest, network: str) -> dict[str, NDArray[np.float32]]:
    """Return a batch of one: `sin(0.1 i + 0.00001 i^2)` over the values i, which never repeats.

    Every mask is 1; the fusion network's voice continues the sequence of its faces. Raises KeyError
    for the fusion network of a manifest without one.
    """
    if network == FUSION:
        if manifest.fusion is None:
            raise KeyError(FUSION)
        num_faces = manifest.fusion.num_faces
        embeddings = _sine(1, num_faces + 1, EMBEDDING_SIZE)
        return {
            "faces": embeddings[:, :-1].copy(),
            "face_mask": np.ones((1, num_faces), np.float32),
            "voice": embeddings[:, -1].copy(),
            "voice_mask": np.ones((1, 1), np.float32),
        }
    if network == "face":
        side = manifest.levels[0].face_px
        return {"image": _sine(1, 3, side, side)}
    mel = manifest.mel
    return {
        "mel": _sine(1, mel.num_mels, mel.num_frames),
        "mask": np.ones((1, mel.num_frames), np.float32),
    }


def golden_mel(mel: MelSpec, columns: int) -> NDArray[np.float32]:
    """Return the same formula as input of the voice-activity network: (1, num_mels, columns)."""
    return _sine(1, mel.num_mels, columns)


def _sine(*shape: int) -> NDArray[np.float32]:
    i = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(0.1 * i + 1e-5 * i * i).reshape(shape).astype(np.float32)


def golden_luma() -> NDArray[np.float32]:
    """Return the same formula as an image for the face detector: (1, 1, 64, 96) on 0..255."""
    return np.float32(127.5) * (1 + _sine(1, 1, 64, 96))


def check_golden_output(engine: Engine, bundle: Bundle, network: str) -> None:
    """Warm up on the golden input and compare with the golden outputs of the engine's precision.
    Raises EngineError."""
    feed = golden_input(bundle.manifest, network)
    entry = bundle.manifest.networks[network]
    path = bundle.model_path(network, engine.precision)
    try:
        engine.warm_up(feed)
        outputs = engine.infer(feed)
    except (KeyError, ValueError) as error:
        raise EngineError(f"{path}: does not fit the golden input: {error}") from error
    if isinstance(entry, FusionEntry):
        golden = {"logits": entry.golden_logits, "weights": entry.golden_weights}
        for name, values in golden.items():
            _compare(path, outputs, name, values, f"{network}.golden_{name}", TOLERANCE)
        return
    is_int8 = engine.precision == "int8"
    field = f"models.{network}." + ("variants.int8.golden_logits" if is_int8 else "golden_logits")
    golden_logits = entry.at(engine.precision).golden_logits
    tolerance = INT8_TOLERANCE if is_int8 else TOLERANCE
    _compare(path, outputs, "logits", golden_logits, field, tolerance)
    if bundle.manifest.fusion is not None:
        _require_output(path, outputs, "embedding", EMBEDDING_SIZE)  # of the fusion network


def pick_golden_scores(scores: NDArray[np.float32]) -> list[float]:
    """Return the scores (N,) of a few places for the manifest, spread over all of them."""
    chosen = np.linspace(0, len(scores) - 1, NUM_GOLDEN_SCORES).round().astype(int)
    return [float(f"{score:.4g}") for score in scores[chosen]]


def check_golden_scores(scores: NDArray[np.float32], golden: list[float], path: Path) -> None:
    """Compare the face detector's scores (N,) for `golden_luma` with the golden ones, as logits:
    where there is no face all probabilities are nearly 0. Raises EngineError."""
    pairs = np.clip([pick_golden_scores(scores), golden], 1e-9, 1 - 1e-6)
    logits = np.log(pairs / (1 - pairs))
    difference = float(np.abs(logits[0] - logits[1]).max())
    if not difference <= DETECTOR_TOLERANCE:
        raise EngineError(
            f"{path}: differs by {difference:.3g} from bundle.json face_detector.golden_scores for"
            f" the golden input, {DETECTOR_TOLERANCE} allowed"
        )


def check_golden_speech(speech: float, golden: float, path: Path) -> None:
    """Compare the probability of speech in `golden_mel` with the golden one. Raises EngineError."""
    difference = abs(speech - golden)
    if not difference <= TOLERANCE:
        raise EngineError(
            f"{path}: differs by {difference:.3g} from bundle.json voice_activity.golden_speech for"
            f" the golden input, {TOLERANCE} allowed"
        )


def _require_output(path: Path, outputs: Arrays, name: str, size: int) -> NDArray[np.float32]:
    if name not in outputs:
        raise EngineError(f"{path}: has no output {name}")
    shape = outputs[name].shape
    if shape != (1, size):
        raise EngineError(f"{path}: its output {name} is {list(shape)}, not [1, {size}]")
    return outputs[name][0]


def _compare(
    path: Path, outputs: Arrays, name: str, golden: list[float], field: str, tolerance: float
) -> None:
    values = _require_output(path, outputs, name, len(golden))
    difference = float(np.abs(values - np.array(golden, np.float32)).max())
    if not difference <= tolerance:
        raise EngineError(
            f"{path}: differs by {difference:.3g} from bundle.json {field} for the golden input,"
            f" {tolerance} allowed"
        )

"""The proof at start-up: each network must answer a known input as it did when it was exported.

The input is made from a formula, so that no picture or voice of anybody is shipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import Arrays, Engine, EngineError
from .bundles import EMBEDDING_SIZE, FUSION, Bundle, FusionEntry, Manifest

TOLERANCE = 0.05
"""Largest difference of a logit: room for FP16 and other CPUs, far under a changed answer."""
INT8_TOLERANCE = 0.25
"""The same for a network in 8 bits: each library rounds to them in its own way."""


def golden_input(manifest: Manifest, network: str) -> dict[str, NDArray[np.float32]]:
    """Batch of one, smooth and never repeating: `sin(0.1 i + 0.00001 i^2)`, i counting values.

    Every modality is present; the fusion network's voice goes on where its faces end. Raises
    KeyError for the fusion network of a manifest without one.
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


def _sine(*shape: int) -> NDArray[np.float32]:
    i = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(0.1 * i + 1e-5 * i * i).reshape(shape).astype(np.float32)


def check_golden_output(engine: Engine, bundle: Bundle, network: str) -> None:
    """Warm the engine up on the golden input and compare with what the network said at the
    engine's precision. Raises EngineError."""
    feed = golden_input(bundle.manifest, network)
    entry = bundle.manifest.networks[network]
    path = bundle.model_path(network, engine.precision)
    try:
        engine.warm_up(feed)
        answer = engine.infer(feed)
    except (KeyError, ValueError) as error:
        raise EngineError(f"{path}: does not fit the golden input: {error}") from error
    if isinstance(entry, FusionEntry):
        golden = {"logits": entry.golden_logits, "weights": entry.golden_weights}
        for name, values in golden.items():
            _compare(path, answer, name, values, f"{network}.golden_{name}", TOLERANCE)
        return
    is_int8 = engine.precision == "int8"
    field = f"models.{network}." + ("variants.int8.golden_logits" if is_int8 else "golden_logits")
    golden_logits = entry.at(engine.precision).golden_logits
    tolerance = INT8_TOLERANCE if is_int8 else TOLERANCE
    _compare(path, answer, "logits", golden_logits, field, tolerance)
    if bundle.manifest.fusion is not None:
        _take(path, answer, "embedding", EMBEDDING_SIZE)  # what the fusion network will read


def _take(path: Path, answer: Arrays, name: str, size: int) -> NDArray[np.float32]:
    if name not in answer:
        raise EngineError(f"{path}: does not fit the golden input: it has no output {name}")
    shape = answer[name].shape
    if shape != (1, size):
        raise EngineError(f"{path}: its output {name} is {list(shape)}, not [1, {size}]")
    return answer[name][0]


def _compare(
    path: Path, answer: Arrays, name: str, golden: list[float], field: str, tolerance: float
) -> None:
    values = _take(path, answer, name, len(golden))
    difference = float(np.abs(values - np.array(golden, np.float32)).max())
    if not difference <= tolerance:
        raise EngineError(
            f"{path}: answers the golden input {difference:.3g} away from"
            f" bundle.json {field}, {tolerance} allowed"
        )

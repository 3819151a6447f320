"""The proof at start-up: each network must answer a known input as it did when it was exported.

The input is made from a formula, so that no picture or voice of anybody is shipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import Engine, EngineError
from .bundle import Bundle, Manifest

TOLERANCE = 0.05
"""Largest difference of a logit: room for FP16 and other CPUs, far under a changed answer."""


def golden_input(manifest: Manifest, modality: str) -> dict[str, NDArray[np.float32]]:
    """Batch of one, smooth and never repeating: `sin(0.1 i + 0.00001 i^2)`, i counting values."""

    def wave(*shape: int) -> NDArray[np.float32]:
        i = np.arange(np.prod(shape), dtype=np.float64)
        return np.sin(0.1 * i + 1e-5 * i * i).reshape(shape).astype(np.float32)

    if modality == "face":
        side = manifest.levels[0].face_px
        return {"image": wave(1, 3, side, side)}
    mel = manifest.mel
    return {
        "mel": wave(1, mel.num_mels, mel.num_frames),
        "mask": np.ones((1, mel.num_frames), np.float32),
    }


def prove_engine(engine: Engine, bundle: Bundle, modality: str) -> None:
    """Warm the engine up on the golden input and compare. Raises EngineError."""
    feed = golden_input(bundle.manifest, modality)
    want = np.array(bundle.manifest.models[modality].golden_logits, np.float32)
    try:
        engine.warm_up(feed)
        logits = engine.infer(feed)["logits"]
    except (KeyError, ValueError) as error:
        raise EngineError(
            f"{bundle.model_path(modality)}: does not fit the golden input: {error}"
        ) from error
    if logits.shape != (1, len(want)):
        raise EngineError(
            f"{bundle.model_path(modality)}: logits are {list(logits.shape)}, not [1, {len(want)}]"
        )
    difference = float(np.abs(logits[0] - want).max())
    if not difference <= TOLERANCE:
        raise EngineError(
            f"{bundle.model_path(modality)}: answers the golden input {difference:.3g} away from"
            f" bundle.json models.{modality}.golden_logits, {TOLERANCE} allowed"
        )

"""An engine without a model: quick answers that depend on the input alone. For tests and for
machines too slow for the networks; never picked by "auto"."""

from __future__ import annotations

import numpy as np

from .base import Arrays, EngineError, TensorSpec
from .bundle import LABELS, Manifest

EMBEDDING_SIZE = 256


class NullEngine:
    """Says, for each label, how strong the matching slice of the input is."""

    def __init__(self, manifest: Manifest, modality: str) -> None:
        mel = manifest.mel
        self.inputs: tuple[TensorSpec, ...] = (
            (TensorSpec("image", (None, 3, None, None)),)
            if modality == "face"
            else (
                TensorSpec("mel", (None, mel.num_mels, mel.num_frames)),
                TensorSpec("mask", (None, mel.num_frames)),
            )
        )
        self.outputs = (
            TensorSpec("embedding", (None, EMBEDDING_SIZE)),
            TensorSpec("logits", (None, len(LABELS))),
        )

    def infer(self, feed: Arrays) -> Arrays:
        for spec in self.inputs:
            if spec.name not in feed:
                raise EngineError(f"null: input {spec.name} is missing")
            spec.check(feed[spec.name])
        array = feed[self.inputs[0].name]
        flat = array.reshape(len(array), -1)
        slices = np.array_split(flat, len(LABELS), axis=1)
        logits = np.stack([part.mean(axis=1) for part in slices], axis=1)
        return {
            "embedding": np.zeros((len(array), EMBEDDING_SIZE), np.float32),
            "logits": logits.astype(np.float32),
        }

    def warm_up(self, feed: Arrays) -> None:
        self.infer(feed)

    def close(self) -> None: ...

    def __enter__(self) -> NullEngine:
        return self

    def __exit__(self, *error: object) -> None: ...

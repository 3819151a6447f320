"""An engine without a model: fast outputs that depend on the input alone.

For tests, and for machines too slow for the networks; "auto" never selects it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import WARM_UP_RUNS, Arrays, Feed, TensorSpec, require_host_array
from .bundles import EMBEDDING_SIZE, FUSION, MODALITIES, Manifest


class NullEngine:
    """The logit of each label is the mean of the matching slice of the input.

    The embedding begins with the logits; fusion averages those of the modalities present.
    """

    name = "null"
    precision = "fp32"

    def __init__(self, manifest: Manifest, network: str) -> None:
        self._network = network
        self._num_labels = len(manifest.labels)
        self.inputs = _list_inputs(manifest, network)
        logits = TensorSpec("logits", (None, self._num_labels))
        self.outputs: tuple[TensorSpec, ...] = (
            (logits, TensorSpec("weights", (None, len(MODALITIES))))
            if network == FUSION
            else (TensorSpec("embedding", (None, EMBEDDING_SIZE)), logits)
        )

    def infer(self, feed: Feed) -> Arrays:
        arrays = {spec.name: require_host_array("null", spec, feed) for spec in self.inputs}
        if self._network == FUSION:
            return _fuse(arrays, self._num_labels)
        array = arrays[self.inputs[0].name]
        flat = array.reshape(len(array), -1)
        slices = np.array_split(flat, self._num_labels, axis=1)
        logits = np.stack([part.mean(axis=1) for part in slices], axis=1).astype(np.float32)
        embedding = np.zeros((len(array), EMBEDDING_SIZE), np.float32)
        embedding[:, : self._num_labels] = logits
        return {"embedding": embedding, "logits": logits}

    def warm_up(self, feed: Feed, num_runs: int = WARM_UP_RUNS) -> None:
        for _ in range(num_runs):
            self.infer(feed)

    def close(self) -> None: ...

    def __enter__(self) -> NullEngine:
        return self

    def __exit__(self, *error: object) -> None: ...


def _list_inputs(manifest: Manifest, network: str) -> tuple[TensorSpec, ...]:
    if network == FUSION:
        num_faces = manifest.fusion.num_faces if manifest.fusion else None
        return (
            TensorSpec("faces", (None, num_faces, EMBEDDING_SIZE)),
            TensorSpec("face_mask", (None, num_faces)),
            TensorSpec("voice", (None, EMBEDDING_SIZE)),
            TensorSpec("voice_mask", (None, 1)),
        )
    if network == "face":
        return (TensorSpec("image", (None, 3, None, None)),)
    mel = manifest.mel
    return (
        TensorSpec("mel", (None, mel.num_mels, mel.num_frames)),
        TensorSpec("mask", (None, mel.num_frames)),
    )


def _fuse(feed: Arrays, count: int) -> dict[str, NDArray[np.float32]]:
    """Average the faces present, then face and voice."""
    face_mask, voice_mask = feed["face_mask"], feed["voice_mask"]
    faces = (feed["faces"][:, :, :count] * face_mask[:, :, None]).sum(axis=1)
    faces /= np.maximum(face_mask.sum(axis=1, keepdims=True), 1)
    present = np.concatenate([face_mask.max(axis=1, keepdims=True), voice_mask], axis=1)
    weights = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    logits = faces * weights[:, :1] + feed["voice"][:, :count] * weights[:, 1:]
    return {"logits": logits.astype(np.float32), "weights": weights.astype(np.float32)}

"""Divergence of a quantized network from the original: networks and samples in, differences out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..engines.cpus import count_cpus
from .errors import CalibrationError

LOGITS = "logits"
Feeds = Sequence[dict[str, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class LogitDifference:
    """How far a changed network's logits are from the original's."""

    divergence: float
    """Mean Kullback-Leibler divergence of the class probabilities, in nats."""
    agreement: float
    """Share of samples with the same predicted label."""
    largest: float
    """Largest difference of a logit."""


def open_session(model: bytes, name: str) -> ort.InferenceSession:
    """Open a network on the CPU. Raises CalibrationError when ONNX Runtime refuses it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = count_cpus()
    options.log_severity_level = 4  # it raises what it would print, and quotes the file raw
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a family without a common base
        raise CalibrationError(
            f"{name}: ONNX Runtime cannot open it: {' '.join(str(error).split())}"
        ) from error


def compute_logits(model: bytes, feeds: Feeds, name: str = "network") -> NDArray[np.float64]:
    """Run the network on all samples -> logits (N, L). Raises CalibrationError."""
    session = open_session(model, name)
    rows = [run_session(session, [LOGITS], feed, name)[0] for feed in feeds]
    return np.concatenate(rows).astype(np.float64)


def run_session(
    session: ort.InferenceSession,
    outputs: Sequence[str],
    feed: dict[str, NDArray[np.float32]],
    name: str,
) -> list[NDArray[np.float32]]:
    """Run one batch -> the `outputs`. Raises CalibrationError when the batch does not fit."""
    try:
        return list(session.run(list(outputs), feed))
    except Exception as error:  # as above
        shapes = ", ".join(f"{key} {list(values.shape)}" for key, values in feed.items())
        raise CalibrationError(
            f"{name}: cannot read the samples ({shapes}): {' '.join(str(error).split())}"
        ) from error


def compare_logits(
    original: NDArray[np.float64], changed: NDArray[np.float64], temperature: float
) -> LogitDifference:
    """Compare logits (N, L). `temperature` is the network's in its bundle."""
    p, q = _log_softmax(original / temperature), _log_softmax(changed / temperature)
    return LogitDifference(
        float((np.exp(p) * (p - q)).sum(axis=1).mean()),
        float((original.argmax(axis=1) == changed.argmax(axis=1)).mean()),
        float(np.abs(original - changed).max()),
    )


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

"""Trained network to ONNX file: a free batch size, 16-bit weights, answers compared with torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ...engines.onnx_runtime import OnnxEngine
from ..errors import TrainingError
from .onnx_graph import finish_graph
from .rounding import round_to_fp16

log = logging.getLogger(__name__)

OPSET = 17
MAX_DIFFERENCE = 1e-3
"""Of any output between torch, its weights rounded as in the file, and the file."""
BATCHES = (1, 2, 5)
"""Batch sizes in which every network is tried."""
OUTPUTS = ("embedding", "logits")

Feed = Mapping[str, NDArray[np.float32]]
Answer = Mapping[str, NDArray[np.float32]]


class ExportError(TrainingError):
    """A network or a bundle that must not be handed on; one line."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What one network became."""

    golden: dict[str, list[float]]
    """Each output for the example."""
    onnx_difference: dict[str, float]
    """Largest between the file and torch with rounded weights, by output."""
    rounding_difference: dict[str, float]
    """Largest between weights as trained and rounded to 16 bits, by output; on the real inputs,
    or on the example when there are none."""
    num_real: int
    """How many real inputs were compared."""
    num_parameters: int
    num_bytes: int

    def describe(self) -> dict[str, Any]:
        """For the metrics of a bundle."""

        def brief(differences: Mapping[str, float]) -> dict[str, float]:
            return {name: float(f"{value:.2g}") for name, value in differences.items()}

        return {
            "parameters": self.num_parameters,
            "bytes": self.num_bytes,
            "real_inputs": self.num_real,
            "onnx_difference": brief(self.onnx_difference),
            "rounding_difference": brief(self.rounding_difference),
        }


def export_onnx(
    model: nn.Module,
    example: Feed,
    path: Path,
    real: Iterable[Feed] = (),
    outputs: Sequence[str] = OUTPUTS,
) -> Exported:
    """Write `model` to `path`, its weights stored as float16, and compare the file with torch.

    `example` (a batch of one) and `real` (batches of any size) are inputs by name, `example` in
    the order of `model`'s arguments; `outputs` names what it returns. The batch size of all of
    them is free, and so are height and width of an "image". `model` is left alone. Raises
    ExportError when the file's answers are not torch's.
    """
    given: list[Feed] = [{name: feed[name] for name in example} for feed in real]
    rounded, trained = round_to_fp16(model), deepcopy(model).eval()
    _trace(rounded, example, path, outputs)
    onnx.save(finish_graph(onnx.load(str(path))), str(path))
    from_file, from_rounding = dict.fromkeys(outputs, 0.0), dict.fromkeys(outputs, 0.0)
    with OnnxEngine(path) as engine:
        golden = {name: engine.infer(example)[name].reshape(-1).tolist() for name in outputs}
        for feed in (*(_repeat(example, batch) for batch in BATCHES), *given):
            _widen(from_file, engine.infer(feed), _run_session(rounded, feed, outputs))
    for feed in given or [example]:
        _widen(
            from_rounding,
            _run_session(trained, feed, outputs),
            _run_session(rounded, feed, outputs),
        )
    for name, difference in from_file.items():
        if not difference <= MAX_DIFFERENCE:
            raise ExportError(
                f"{path.name}: {name} differ from torch by {difference:.2g},"
                f" {MAX_DIFFERENCE} allowed"
            )
    exported = Exported(
        golden,
        from_file,
        from_rounding,
        sum(len(next(iter(feed.values()))) for feed in given),
        sum(parameter.numel() for parameter in model.parameters()),
        path.stat().st_size,
    )
    log.info("%s: %s", path.name, exported.describe())
    return exported


def _trace(model: nn.Module, example: Feed, path: Path, outputs: Sequence[str]) -> None:
    inputs = tuple(torch.from_numpy(array) for array in example.values())
    axes = {name: {0: "batch"} for name in (*example, *outputs)}
    if "image" in example:
        axes["image"] |= {2: "height", 3: "width"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's remarks on constants
        torch.onnx.export(
            model,
            inputs,
            str(path),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


@torch.no_grad()
def _run_session(model: nn.Module, feed: Feed, outputs: Sequence[str]) -> Answer:
    answers = model(*(torch.from_numpy(array) for array in feed.values()))
    return {name: value.numpy() for name, value in zip(outputs, answers, strict=True)}


def _repeat(feed: Feed, batch: int) -> Feed:
    """`batch` examples out of one, no two of them alike."""
    return {
        name: np.concatenate([np.roll(array, 7 * i, axis=-1) for i in range(batch)])
        for name, array in feed.items()
    }


def _widen(differences: dict[str, float], answer: Answer, other: Answer) -> None:
    """Take in the largest difference of each output; a NaN stays."""
    for name, so_far in differences.items():
        largest = np.abs(answer[name] - other[name]).max()
        differences[name] = float(np.maximum(so_far, largest))

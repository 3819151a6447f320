"""Export of the face detector to ONNX, verified against torch.

In: a trained `FaceDetectorNet`. Out: a file for pictures of any size, weights stored as FP16.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from ..models import FaceDetectorGraph, FaceDetectorNet
from .onnx import OPSET, ExportError, finish_graph, round_to_fp16, strip_names

log = logging.getLogger(__name__)

OUTPUTS = ("scores", "boxes", "landmarks")
TRACE_SIZE = (192, 320)
"""Rows and columns while tracing."""
COMPARED_SIZES = ((192, 320), (256, 320), (320, 192), (64, 64))
MAX_DIFFERENCE = {"scores": 0.02, "boxes": 0.05, "landmarks": 0.05}
"""Largest allowed difference between the file and torch, of all scores, and of the surest cell's
square and landmarks in pixels: which of two improbable cells is the last to vote may differ."""
MAX_BYTES = 300_000


def export_detector(model: FaceDetectorNet, path: Path) -> None:
    """Write `model` to `path`. Raises ExportError when the file differs from torch or is too
    large."""
    graph = FaceDetectorGraph(_round(model)).eval()
    rows = {0: "cells"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns about constants
        torch.onnx.export(
            graph,
            (torch.from_numpy(make_example(*TRACE_SIZE)),),
            str(path),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_axes={"image": {2: "height", 3: "width"}, **dict.fromkeys(OUTPUTS, rows)},
            opset_version=OPSET,
            dynamo=False,
        )
    finished = finish_graph(onnx.load(str(path)))
    strip_names(finished)
    onnx.save(finished, str(path))
    num_bytes = path.stat().st_size
    if num_bytes > MAX_BYTES:
        raise ExportError(f"{path.name}: {num_bytes} bytes, allowed: {MAX_BYTES}")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for size in COMPARED_SIZES:
            image = make_example(*size)
            found, expected = session.run(OUTPUTS, {"image": image}), graph(torch.from_numpy(image))
            surest = int(expected[0].argmax())
            for name, array, tensor in zip(OUTPUTS, found, expected, strict=True):
                differences = np.abs(array - tensor.numpy())
                difference = float((differences if name == "scores" else differences[surest]).max())
                if not difference <= MAX_DIFFERENCE[name]:
                    raise ExportError(
                        f"{path.name}: {name} differs from torch by {difference:.2g} at {size},"
                        f" allowed: {MAX_DIFFERENCE[name]}"
                    )
    log.info("%s: %d bytes", path.name, num_bytes)


def make_example(height: int, width: int) -> NDArray[np.float32]:
    """Return a drawn picture (1, 1, height, width): a bright oval with two dark spots and a bar."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = (x - width / 2) / (height * 0.25), (y - height / 2) / (height * 0.33)
    image = 90.0 + 20.0 * np.sin(x * 2.0)
    image[x**2 + y**2 < 1] = 180.0
    for centre in (-0.4, 0.4):
        image[((x - centre) / 0.22) ** 2 + ((y + 0.25) / 0.12) ** 2 < 1] = 50.0
    image[(np.abs(x) < 0.35) & (np.abs(y - 0.5) < 0.08)] = 90.0
    return image.astype(np.float32)[None, None]


def _round(model: FaceDetectorNet) -> FaceDetectorNet:
    rounded = round_to_fp16(model)
    assert isinstance(rounded, FaceDetectorNet)
    return rounded

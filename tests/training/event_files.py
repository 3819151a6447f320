"""Reads the event files of a run with TensorBoard."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def open_events(folder: Path) -> Any:
    name = "tensorboard.backend.event_processing.event_accumulator"
    return pytest.importorskip(name).EventAccumulator(str(folder)).Reload()


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read epoch and value of each curve's points."""
    events = open_events(folder)
    return {
        name: [(event.step, round(event.value, 4)) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def read_images(folder: Path) -> dict[str, list[tuple[int, NDArray[np.uint8]]]]:
    """Read epoch and pixels of each image."""
    events = open_events(folder)
    return {
        name: [
            (event.step, np.asarray(Image.open(io.BytesIO(event.encoded_image_string))))
            for event in events.Images(name)
        ]
        for name in events.Tags()["images"]
    }

"""Small generated data sets, and one thread for torch."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in the train extra")
import torch

from emotion_edge.training.data.ferplus import VOTES

Rows = Mapping[str, Mapping[str, int]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are faster on one thread; session scope covers fixtures of any scope."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts with the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def settle() -> Callable[..., None]:
    """A function (model, its inputs): sets the batch norms' statistics to those of the inputs, so
    that outputs of an untrained network are not near zero, and selects eval mode."""

    def run(model: torch.nn.Module, *inputs: torch.Tensor) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(*inputs)
        model.eval()

    return run


@pytest.fixture
def write_ferplus(tmp_path: Path) -> Callable[..., Path]:
    """A function (votes by file name, contents by file name) -> root of a data set with the split
    "train". Files without given content get a random 48x48 image."""

    def write(rows: Rows, contents: Mapping[str, bytes | None] | None = None) -> Path:
        rng = np.random.default_rng(0)
        with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
            for name in rows:
                pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
                data = (contents or {}).get(name, cv2.imencode(".png", pixels)[1].tobytes())
                if data is not None:
                    archive.writestr(name, data)
        with (tmp_path / "train.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, ["file", *VOTES], restval=0)
            table.writeheader()
            table.writerows({"file": name, **votes} for name, votes in rows.items())
        return tmp_path

    return write

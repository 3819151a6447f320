"""Small data sets in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.data.ravdess import TEST_FOLDS

from ..wav_files import write_wav


@pytest.fixture
def ferplus_root(write_ferplus: Callable[..., Path]) -> Path:
    """Forty faces of two labels."""
    return write_ferplus({f"{i}.png": {"happiness" if i % 2 else "sadness": 10} for i in range(40)})


@pytest.fixture(scope="session")
def ravdess_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short recordings of each actor of the folds, one tone for each of two emotions."""
    root = tmp_path_factory.mktemp("ravdess")
    t = np.arange(9_600) / 16_000
    for actor in (actor for fold in TEST_FOLDS for actor in fold):
        for code, hertz in (("03", 300), ("05", 1200)):
            audio = 0.3 * np.sin(2 * np.pi * (hertz + actor) * t)
            path = root / f"03-01-{code}-01-01-01-{actor:02}.wav"
            write_wav(path, (audio * 32_000).astype(np.int16))
    return root

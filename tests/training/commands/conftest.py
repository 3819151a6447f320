"""Data sets in the small, in the folders that the commands read."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_edge.training.data.ravdess import TEST_FOLDS


@pytest.fixture
def ferplus_root(write_ferplus: Callable[..., Path]) -> Path:
    """Forty faces of two labels."""
    return write_ferplus({f"{i}.png": {"happiness" if i % 2 else "sadness": 10} for i in range(40)})


@pytest.fixture(scope="session")
def ravdess_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short recordings of each actor of the folds, a tone for each of two emotions."""
    root = tmp_path_factory.mktemp("ravdess")
    t = np.arange(9_600) / 16_000
    for actor in (actor for fold in TEST_FOLDS for actor in fold):
        for code, hertz in (("03", 300), ("05", 1200)):
            audio = 0.3 * np.sin(2 * np.pi * (hertz + actor) * t)
            with wave.open(str(root / f"03-01-{code}-01-01-01-{actor:02}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes((audio * 32_000).astype("<i2").tobytes())
    return root

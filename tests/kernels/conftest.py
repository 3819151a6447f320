"""Fixtures: every preprocessor that this machine can open, to compare with the reference.

Without a GPU the CUDA kernels run in Numba's simulator, which starts a Python thread for each CUDA
thread, so they get small images and little audio. Tests with more data use the `quick_…` fixtures:
the CPU's preprocessor, and CUDA's on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from emotion_edge.kernels import (
    PREPROCESSORS,
    Preprocessor,
    PreprocessorError,
    open_preprocessor,
)
from emotion_edge.kernels.spec import ImageSpec, MelSpec

from .tensors import SIMULATED

OpenWith = Callable[[ImageSpec, MelSpec], Preprocessor]
ALL = [name for name in PREPROCESSORS if name != "auto"]
QUICK = [name for name in ALL if not (name == "cuda" and SIMULATED)]
IMAGE = ImageSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.25, 0.3))
"""With different channels, so that a swapped one is detected."""


@pytest.fixture(scope="session", autouse=True)
def few_simulated_threads() -> None:
    """Smaller blocks in the simulator; cuda/test_preprocessor.py runs a full one."""
    if SIMULATED:
        from emotion_edge.kernels.cuda import mel

        mel.THREADS = 8


def find_opener(name: str) -> OpenWith:
    opener = partial(open_preprocessor, name)
    try:
        opener(ImageSpec(), MelSpec()).close()
    except (ImportError, PreprocessorError) as error:
        pytest.skip(f"preprocessor {name}: {error}")
    return opener


@pytest.fixture(scope="session", params=ALL)
def open_with(request: pytest.FixtureRequest) -> OpenWith:
    """A function (image spec, mel spec) -> preprocessor, for each backend in turn."""
    return find_opener(request.param)


@pytest.fixture(scope="session", params=QUICK)
def quick_open_with(request: pytest.FixtureRequest) -> OpenWith:
    """The same for the backends that run at full speed here."""
    return find_opener(request.param)


@pytest.fixture(scope="session")
def preprocessor(open_with: OpenWith) -> Iterator[Preprocessor]:
    """One instance for all tests, which restart its log-mel; its image spec is `IMAGE`."""
    with open_with(IMAGE, MelSpec()) as opened:
        yield opened


@pytest.fixture(scope="session")
def quick_preprocessor(quick_open_with: OpenWith) -> Iterator[Preprocessor]:
    """The same for the backends that run at full speed here."""
    with quick_open_with(IMAGE, MelSpec()) as opened:
        yield opened

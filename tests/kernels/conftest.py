"""Every preprocessor that this machine can load, to be held against the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from emotion_edge.kernels import PREPROCESSORS, Preprocessor, open_preprocessor
from emotion_edge.kernels.spec import ImageSpec, MelSpec

OpenWith = Callable[[ImageSpec, MelSpec], Preprocessor]


@pytest.fixture(scope="session", params=[name for name in PREPROCESSORS if name != "auto"])
def open_with(request: pytest.FixtureRequest) -> OpenWith:
    """A function (image spec, mel spec) -> preprocessor, for each backend in turn."""
    opener = partial(open_preprocessor, request.param)
    try:
        opener(ImageSpec(), MelSpec())
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"preprocessor {request.param}: {error}")
    return opener


@pytest.fixture(scope="session")
def preprocessor(open_with: OpenWith) -> Preprocessor:
    """With unlike channels, so that a swapped one shows; tests restart its log-mel."""
    image = ImageSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.25, 0.3))
    return open_with(image, MelSpec())

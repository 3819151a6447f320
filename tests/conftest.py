"""What tests in every folder share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and data sets, which is not part of the repository.

    EMOTION_EDGE_DATA names it, else it is looked for beside the checkout. Skips where it is not.
    """
    named = os.environ.get("EMOTION_EDGE_DATA")
    beside = (TESTS.parent.parent, Path.cwd().parent)
    places = [Path(named)] if named else [folder / "shared" / "data" for folder in beside]
    for place in places:
        if place.is_dir():
            return place.resolve()
    pytest.skip(f"no real data in {' or '.join(map(str, places))}; set EMOTION_EDGE_DATA")

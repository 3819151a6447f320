"""What the tests of the quality levels share."""

from __future__ import annotations

from pathlib import Path

import pytest

from emotion_edge.engines.bundles.manifest import Bundle, load_bundle


@pytest.fixture
def bundle(null_bundle: Path) -> Bundle:
    """The null bundle."""
    return load_bundle(null_bundle)

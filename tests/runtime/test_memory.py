"""What Python's collector is spared."""

from __future__ import annotations

import gc

from emotion_edge.runtime.memory import spared_from_collection


def test_what_exists_is_not_searched() -> None:
    """All that is there by then, and afterwards nothing is withheld."""
    kept = [{} for _ in range(1000)]  # type: ignore[var-annotated]
    with spared_from_collection(True):
        assert gc.get_freeze_count() > 1000
        assert len(gc.get_objects()) < 1000
    assert gc.get_freeze_count() == 0
    assert len(kept) == 1000


def test_not_wanted() -> None:
    """Then nothing is withheld."""
    with spared_from_collection(False):
        assert gc.get_freeze_count() == 0

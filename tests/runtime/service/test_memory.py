"""What Python's collector is spared."""

from __future__ import annotations

import gc

from emotion_edge.runtime.service.realtime import gc_frozen


def test_what_exists_is_not_searched() -> None:
    """All that is there by then, whatever another thread makes meanwhile; afterwards nothing is
    withheld."""
    kept = [[number] for number in range(1000)]
    ours = {id(one) for one in kept}

    def count_searched() -> int:
        return sum(id(one) in ours for one in gc.get_objects())

    with gc_frozen(True):
        assert gc.get_freeze_count() > 1000
        assert count_searched() == 0
    assert gc.get_freeze_count() == 0
    assert count_searched() == len(kept)


def test_not_wanted() -> None:
    """Then nothing is withheld."""
    with gc_frozen(False):
        assert gc.get_freeze_count() == 0

"""What was made at the start does not get in the way: it is not searched for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_frozen(enabled: bool) -> Iterator[None]:
    """Python's collector leaves alone all that exists by now. A full search of it takes longer than
    a picture may."""
    if not enabled:
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

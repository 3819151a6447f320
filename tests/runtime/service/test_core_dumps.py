"""Core dumps are off while a run holds frames, and as they were before and afterwards."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from emotion_edge.runtime.service.core_dumps import VARIABLE, no_core_dumps

GET_DUMPABLE, SET_DUMPABLE = 3, 4


def is_dumpable() -> bool:
    return bool(ctypes.CDLL(None).prctl(GET_DUMPABLE, 0, 0, 0, 0) == 1)


@pytest.fixture(autouse=True)
def dumpable() -> Iterator[None]:
    """The process of the tests can be dumped, as one that a shell starts."""
    before = ctypes.CDLL(None).prctl(GET_DUMPABLE, 0, 0, 0, 0)
    ctypes.CDLL(None).prctl(SET_DUMPABLE, 1, 0, 0, 0)
    yield
    ctypes.CDLL(None).prctl(SET_DUMPABLE, before, 0, 0, 0)


def test_off_inside() -> None:
    """Also where the run fails; a run in a run leaves them off."""
    seen = []

    def fail() -> None:
        with no_core_dumps({}):
            with no_core_dumps({}):
                seen.append(is_dumpable())
            seen.append(is_dumpable())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [*seen, is_dumpable()] == [False, False, True]


def test_asked_for() -> None:
    """A developer keeps them, and a debugger can attach."""
    with no_core_dumps({VARIABLE: "1"}):
        assert is_dumpable()

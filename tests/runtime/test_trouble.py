"""Trouble is told when it begins and when it is over."""

from __future__ import annotations

import logging

import pytest

from emotion_edge.runtime.trouble import tell_change


def test_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is looked at, and when one trouble becomes another."""
    log = logging.getLogger("emotion_edge.test")
    now = ""
    for found in ("", "lost", "lost", "gone", "", ""):
        now = tell_change(log, now, found, "it is back")
        assert now == found
    assert caplog.messages == ["lost", "it is back"]

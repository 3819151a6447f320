"""The last five minutes, for a page that is opened later."""

from __future__ import annotations

import json
from dataclasses import replace

from emotion_edge.runtime.sinks.jsonl import encode_estimate
from emotion_edge.runtime.web.history import SPAN_S, History

from ..sinks.estimates import ESTIMATE, FUSED, NOTHING

LINE, EMPTY = encode_estimate(ESTIMATE), encode_estimate(NOTHING)


def test_two_points_a_second_for_five_minutes() -> None:
    """With their age; without a face or voice a point has no row."""
    history = History()
    for frame in range(30 * 400):
        history.add(LINE if frame % 300 else EMPTY, frame / 30)
    shown = json.loads(history.encode(400.0))
    assert shown["labels"] == list(FUSED)
    ages = [point[0] for point in shown["points"]]
    assert len(ages) == 2 * SPAN_S
    assert ages == sorted(ages, reverse=True)
    assert 0 <= ages[-1] < 0.6
    assert shown["points"][-1][1:] == ["happy", list(FUSED.values())]
    assert [None, []] in [point[1:] for point in shown["points"]]


def test_other_labels_begin_anew() -> None:
    """Those of another bundle, of any number."""
    history = History()
    history.add(LINE, 0.0)
    many = {f"label {n}": 1 / 32 for n in range(32)}
    history.add(encode_estimate(replace(ESTIMATE, probabilities=many)), 1.0)
    shown = json.loads(history.encode(1.0))
    assert shown["labels"] == list(many)
    assert len(shown["points"]) == 1

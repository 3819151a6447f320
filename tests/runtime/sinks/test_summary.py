"""Summaries: shares of time, changes, faces, and their intervals."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_edge.runtime.messages import Estimate, FaceEstimate, RunInfo
from emotion_edge.runtime.sinks import tally
from emotion_edge.runtime.sinks.summary import SummaryLines
from emotion_edge.runtime.sinks.tally import MAX_STEP_NS, summarize

from .estimates import ESTIMATE

SECOND = 1_000_000_000
LABELS = ("calm", "cross")


def make(t_s: float, label: str | None, *faces: tuple[str, str | None]) -> Estimate:
    listed = tuple(FaceEstimate(name, (0, 0, 9), 0.9, own, 0.5, {}) for name, own in faces)
    voice = None if label is None else {}
    changes = {"t_ns": round(t_s * SECOND), "label": label, "abstained": label is None}
    return replace(ESTIMATE, **changes, faces=listed, voice=voice)  # type: ignore[arg-type]


CLIP = [
    make(0.0, "calm", ("a", "calm")),
    make(0.5, "cross", ("a", "cross"), ("b", None)),
    make(1.0, None),
    make(1.5, "cross"),
]


def test_line_of_a_clip() -> None:
    """An abstention between does not make a change; the last estimate lasts as long as the one
    before. A face has shares of its own time."""
    lines = SummaryLines(0.0, lambda _: None)
    lines.header(RunInfo("talk.mp4", LABELS))
    assert [lines.encode(estimate) for estimate in CLIP] == [b""] * 4
    line = lines.finish()
    assert json.loads(line) == {
        "source": "talk.mp4",
        "begin_ns": 0,
        "end_ns": 2 * SECOND,
        "estimates": 4,
        "labels": {"calm": 0.25, "cross": 0.5},
        "abstained": 0.25,
        "changes": 1,
        "with_face": 1.0,
        "with_voice": 0.75,
        "faces": [
            {
                "id": "a",
                "seconds": 1.0,
                "labels": {"calm": 0.5, "cross": 0.5},
                "abstained": 0.0,
                "changes": 1,
            },
            {
                "id": "b",
                "seconds": 0.5,
                "labels": {"calm": 0.0, "cross": 0.0},
                "abstained": 1.0,
                "changes": 0,
            },
        ],
        "more_faces": 0,
        "begin_utc": None,
        "end_utc": None,
    }
    assert lines.is_own(line.rstrip())
    assert not lines.is_own(b'{"t_ns":0,"labels":[]}')
    assert lines.finish() == b""


def test_intervals() -> None:
    """Each has a line when it is over, the last one at the end; none is empty."""
    lines = SummaryLines(1.0)
    lines.header(RunInfo("demo", LABELS))
    written = [lines.encode(estimate) for estimate in [*CLIP, make(9.0, "calm")]]
    rows = [json.loads(line) for line in [*written, lines.finish()] if line]
    assert [row["begin_ns"] for row in rows] == [0, SECOND, 9 * SECOND]
    assert [row["estimates"] for row in rows] == [2, 2, 1]
    assert "begin_utc" not in rows[0]


def test_gap_belongs_to_no_label() -> None:
    """While no camera was there nobody was calm."""
    summary = summarize([make(0, "calm"), make(3600, "calm")])
    assert summary.shares.total_ns == 2 * MAX_STEP_NS


def test_faces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kiosk at a station sees thousands a day."""
    monkeypatch.setattr(tally, "MAX_FACES", 2)
    summary = summarize(make(t / 10, "calm", (f"face {t // 2}", "calm")) for t in range(10))
    assert (len(summary.faces), summary.more_faces) == (2, 2)


@given(st.lists(st.tuples(st.integers(1, 3 * SECOND), st.sampled_from([*LABELS, None]))))
def test_shares_add_up(steps: list[tuple[int, str | None]]) -> None:
    """To the whole, whatever comes."""
    t_ns, estimates = 0, []
    for step_ns, label in steps:
        t_ns += step_ns
        estimates.append(make(t_ns / SECOND, label))
    shares = summarize(estimates).shares
    total = sum(map(shares.share, shares.label_ns.values())) + shares.share(shares.abstained_ns)
    assert total == pytest.approx(1 if shares.total_ns else 0)
    assert shares.changes < max(1, len(steps))

"""The page of `emotion-edge analyze`: self-contained, no script, no network.

In: analyzed clips. Out: HTML. matplotlib and jinja2 are imported when a page is wanted.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import ConfigError
from ..messages import Estimate
from ..sinks import Shares, Summary
from .segments import Segment, find_segments, show_share, show_time

LIBRARIES = ("matplotlib", "jinja2")
TEMPLATE = Path(__file__).with_name("clips.html")
STYLE_FILE = Path(__file__).parent.with_name("report.css")
MARK = '<meta name="generator" content="emotion-edge analyze">'
NOTICE = (
    "Apparent emotion, as a face looks and a voice sounds: not what a person feels. Shares are of"
    " the clip's time."
)
TIMELINE = (
    "From above: the label (empty where the program abstained); the probability of each label; when"
    " a face and a voice were read; how long this machine took for each frame (dashed: median)."
)
MAX_ROWS = 200
"""More segments or faces are not listed."""
STAGES = ("preprocess", "face", "voice", "fusion")


@dataclass(frozen=True, slots=True)
class Clip:
    """An analyzed file."""

    name: str
    labels: tuple[str, ...]
    estimates: Sequence[Estimate]
    summary: Summary


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def require_libraries() -> None:
    """Raises ConfigError where a library is missing. Called before the first clip."""
    if any(importlib.util.find_spec(name) is None for name in LIBRARIES):
        raise ConfigError(
            f"--html needs {' and '.join(LIBRARIES)}: pip install 'emotion-edge[report]'"
        )


def is_report(head: str) -> bool:
    """Return whether a file that begins like this is such a page."""
    return MARK in head


def render_clips(clips: Sequence[Clip], failures: Sequence[str], facts: Mapping[str, str]) -> str:
    """Return the page. All text is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from .clip_plots import plot_clip

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown: list[dict[str, Any]] = []
    for clip in clips:
        segments = find_segments(clip.estimates)
        plot = plot_clip(clip.estimates, segments, clip.labels)
        shown.append(
            {
                "name": clip.name,
                "cards": _list_cards(clip),
                "plots": [(Markup(plot), TIMELINE)],  # matplotlib has escaped the text in it
                "tables": [
                    _tabulate_labels(clip),
                    *_tabulate_faces(clip),
                    _tabulate_segments(segments),
                    _tabulate_times(clip.estimates),
                ],
            }
        )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=clips[0].name if len(clips) == 1 else f"{len(clips)} clips",
        notice=NOTICE,
        style=Markup(STYLE_FILE.read_text(encoding="utf-8")),
        failures=failures,
        overview=tabulate_clips(clips) if len(clips) > 1 else None,
        clips=shown,
        facts=list(facts.items()),
    )


def tabulate_clips(clips: Sequence[Clip]) -> Table:
    """Return a row for each clip."""
    head = ("clip", "length", "most of the time", "changes", "abstained", "faces")
    return Table("Clips", head, [list_row(clip) for clip in clips])


def list_row(clip: Clip) -> tuple[str, ...]:
    """Return name, length, likeliest label, changes, abstentions and faces of a clip."""
    summary, shares = clip.summary, clip.summary.shares
    return (
        clip.name,
        show_time(summary.end_ns - summary.begin_ns),
        _show_most(shares),
        str(shares.changes),
        show_share(shares.share(shares.abstained_ns)),
        str(len(summary.faces) + summary.more_faces),
    )


def _show_most(shares: Shares) -> str:
    if not shares.label_ns:
        return "abstained"
    label, ns = shares.label_ns.most_common(1)[0]
    return f"{label} {show_share(shares.share(ns))}"


def _list_cards(clip: Clip) -> list[tuple[str, str, str]]:
    _, length, most, changes, abstained, faces = list_row(clip)
    label, _, share = most.rpartition(" ")
    summary = clip.summary
    with_face = show_share(summary.shares.share(summary.with_face_ns))
    with_voice = show_share(summary.shares.share(summary.with_voice_ns))
    return [
        ("Most of the time", label or most, f"{share} of the time" if label else ""),
        ("Length", length, f"{summary.estimates} estimates"),
        ("Changes", changes, "of the label"),
        ("Abstained", abstained, "of the time"),
        ("Faces", faces, f"seen {with_face} of the time"),
        ("Voice", with_voice, "of the time"),
    ]


def _tabulate_labels(clip: Clip) -> Table:
    shares, rows = clip.summary.shares, []
    for label in clip.labels:
        confidences = [float(e.confidence) for e in clip.estimates if e.label == label]
        mean = show_share(sum(confidences) / len(confidences)) if confidences else "-"
        ns = shares.label_ns[label]
        rows.append((label, f"{ns / 1e9:.1f} s", show_share(shares.share(ns)), mean))
    ns = shares.abstained_ns
    rows.append(("abstained", f"{ns / 1e9:.1f} s", show_share(shares.share(ns)), "-"))
    return Table("Time of each label", ("label", "time", "share", "mean confidence"), rows)


def _tabulate_faces(clip: Clip) -> list[Table]:
    faces = clip.summary.faces
    if len(faces) < 2:
        return []
    rows = [
        (
            f"{number}",
            f"{shares.total_ns / 1e9:.1f} s",
            _show_most(shares),
            str(shares.changes),
            show_share(shares.share(shares.abstained_ns)),
        )
        for number, shares in enumerate([*faces.values()][:MAX_ROWS], 1)
    ]
    head = ("face", "time", "most of its time", "changes", "abstained")
    return [Table("Faces, in the order of their appearance", head, rows)]


def _tabulate_segments(segments: Sequence[Segment]) -> Table:
    rows = [
        (
            segment.label or "abstained",
            show_time(segment.begin_ns),
            show_time(segment.end_ns),
            show_share(segment.confidence) if segment.label else "-",
        )
        for segment in segments[:MAX_ROWS]
    ]
    more = f", the first {MAX_ROWS} of {len(segments)}" if len(segments) > MAX_ROWS else ""
    return Table(f"From change to change{more}", ("label", "from", "to", "mean confidence"), rows)


def _tabulate_times(estimates: Sequence[Estimate]) -> Table:
    rows = [_show_times("frame", [estimate.latency_us for estimate in estimates])]
    for stage in STAGES:
        took_us = [estimate.stages_us.get(stage, 0.0) for estimate in estimates]
        rows.append(_show_times(stage, [us for us in took_us if us > 0]))
    head = ("what", "times", "median", "99 %", "longest")
    return Table("How long this machine took, ms", head, rows)


def _show_times(name: str, took_us: list[float]) -> tuple[str, ...]:
    if not took_us:
        return (name, "0", "-", "-", "-")
    ranks = np.percentile(np.array(took_us) / 1e3, (50, 99, 100))
    return (name, str(len(took_us)), *(f"{ms:.1f}" for ms in ranks))

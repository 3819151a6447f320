"""`emotion-edge analyze`: results of each file, what is refused, and the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emotion_edge.runtime.__main__ import main
from emotion_edge.runtime.capture.demo import draw_face
from emotion_edge.runtime.cli.clip_report import Clip, render_clips
from emotion_edge.runtime.cli.segments import find_segments, show_time
from emotion_edge.runtime.sinks import summarize

from ..media import RATE, voice_at
from ..sinks.estimates import ESTIMATE

FRAMES = [(n / 30, draw_face(n / 30)) for n in range(9)]


@pytest.fixture
def analyze(null_bundle: Path) -> Callable[..., int]:
    """A function (arguments) -> the exit code, with the null engine."""
    options = ["--bundle", str(null_bundle), "--set", "engines.name=null"]

    def run(*arguments: object) -> int:
        return main(["analyze", *map(str, arguments), *options])

    return run


@pytest.fixture
def folder(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    """Two recordings, one of them below, a broken one, and a document."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    make_video("in/film.mp4", FRAMES)
    make_video("in/below/voice.M4A.mp4", [], voice_at(RATE, 1.0))
    (tmp_path / "in" / "broken.wav").write_bytes(b"no recording")
    (tmp_path / "in" / "notes.txt").write_text("notes")
    return tmp_path / "in"


def test_folder(
    folder: Path, tmp_path: Path, analyze: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a line and its files, a broken one is named and harms no other, and the exit code
    says so. A second call overwrites nothing but the report."""
    pytest.importorskip("matplotlib", reason="the page needs matplotlib")
    out, html = tmp_path / "out", tmp_path / "report.html"
    assert analyze(folder, "--out", out, "--html", html) == 4
    printed = capsys.readouterr()
    head, *rows = printed.out.splitlines()
    assert head.split()[0] == "length"
    assert [row.split()[-1] for row in rows] == ["below/voice.M4A.mp4", "film.mp4"]
    assert len(printed.err.splitlines()) == 1
    assert "broken.wav" in printed.err
    lines = (out / "film.mp4.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(9))
    summary = json.loads((out / "below" / "voice.M4A.mp4.summary.json").read_text())
    assert (summary["source"], summary["with_face"]) == ("below/voice.M4A.mp4", 0)
    page = html.read_text()
    assert page.count("<svg") == 2
    assert "broken.wav" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org|matplotlib)", page)
    assert analyze(folder / "film.mp4", "--html", html) == 0
    assert html.read_text().count("<svg") == 1
    assert analyze(folder / "film.mp4", "--out", out) == 2
    assert "film.mp4.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["empty"], "empty"),
        (["in/film.mp4", "--html", "in/film.mp4"], "in/film.mp4"),
        (["in/film.mp4", "--html", "in/notes.txt"], "in/notes.txt"),
        (["in/film.mp4", "--html", "in"], "--html in"),
        (["in/film.mp4", "--html", "none/report.html"], "none"),
        (["in/film.mp4", "./in/../in/film.mp4"], "film.mp4"),
    ],
)
def test_refused(
    folder: Path,
    analyze: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    names: str,
) -> None:
    """Before the first clip: a usage error, one line that names it, and nothing is changed."""
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert analyze(*arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert names in printed.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("count", [2, 32])
def test_page_of_any_labels(count: int) -> None:
    """Names and labels are escaped, and there may be many of them. Long clips are thinned."""
    pytest.importorskip("matplotlib", reason="the page needs matplotlib")
    labels = ("<b>$x$", *(f"label {number}" for number in range(1, count)))
    probabilities = dict.fromkeys(labels, 1 / count)
    estimates = [
        replace(
            ESTIMATE,
            t_ns=n * 33_000_000,
            label=None if n % 500 == 0 else labels[n // 100 % count],
            abstained=n % 500 == 0,
            probabilities=probabilities,
        )
        for n in range(1500)
    ]
    clip = Clip("<i>talk.mp4", labels, estimates, summarize(estimates))
    page = render_clips([clip], [], {"program": "<u>"})
    assert not re.search("<b>[$]|<i>talk|<u>", page)
    assert page.count("label 1<") >= 2
    assert len(page) < 1_500_000


def test_segments() -> None:
    """They follow each other without a gap, and an abstention is one."""
    names = ["happy", "happy", None, "sad"]
    estimates = [
        replace(ESTIMATE, t_ns=n * 1_000_000_000, label=name, confidence=n / 10)
        for n, name in enumerate(names)
    ]
    segments = find_segments(estimates)
    assert [(s.begin_ns // 10**9, s.end_ns // 10**9, s.label) for s in segments] == [
        (0, 2, "happy"),
        (2, 3, None),
        (3, 3, "sad"),
    ]
    assert segments[0].confidence == pytest.approx(0.05)
    assert find_segments([]) == []
    assert [show_time(round(s * 1e9)) for s in (0, 59.96, 3725.04)] == [
        *("0:00.0", "1:00.0", "1:02:05.0")
    ]

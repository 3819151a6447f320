"""Plots and page: complete, readable, self-contained, with all text escaped."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.training.evaluation import plots
from emotion_edge.training.evaluation.plots import plot_all
from emotion_edge.training.evaluation.report import write_report
from emotion_edge.training.metrics import (
    bootstrap_accuracy,
    score,
    score_groups,
    score_subjects,
)

VOID = {"meta", "img", "br"}


def make_metrics(num_people: int = 3, robust: bool = True, **more: Any) -> dict[str, Any]:
    """Metrics of an evaluation with random predictions; no example of the last label."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(7, 0.3), 60)
    targets = rng.integers(0, 6, 60)
    subjects = [f"person {i % num_people}" if num_people else "" for i in range(60)]
    brief = {"accuracy": 0.5, "uar": 0.4, "ece": 0.1, "n": 60}
    rows = [{"condition": "clean", "strength": 0.0, "unit": "", **brief}]
    rows += [
        {"condition": "noise", "strength": snr, "unit": "dB SNR", **brief, "uar": 0.1 * i}
        for i, snr in enumerate((20, 0))
    ]
    rows += [{"condition": "face missing", "strength": 1.0, "unit": "", **brief}]
    noise = {"max_probability": 0.5, "entropy_nats": 1.25, "abstained": 0.75, "n": 9}
    return {
        **score(probabilities, targets, LABELS),
        **score_subjects(probabilities, targets, subjects),
        **score_groups(probabilities, targets, [{"sex": "female"}] * 60),
        **bootstrap_accuracy(probabilities, targets, subjects),
        "dataset": "folder",
        "modality": "voice",
        "split": "test",
        "level": "high",
        "face_px": 64,
        "skipped": 2,
        "bundle": "ab12" * 16,
        "bundle_name": "tiny",
        "engines": {"voice": "NullEngine"},
        "protocol": "as agreed",
        "notes": ["seen before"],
        **({"robustness": rows, "noise_only": [{"noise": "hum", **noise}]} if robust else {}),
        **more,
    }


class Page(HTMLParser):
    """Collects tags, their attributes, and text; fails on wrongly nested tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    """Images are embedded, no script, no link; every plot equals the file beside it."""
    page = write_report(make_metrics(), tmp_path / "a" / "report")
    text = page.read_text()
    parsed = Page(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    assert not re.search(r"https?://|url\(|@import", text)
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    files = sorted(page.parent.glob("*.png"))
    assert [file.stem for file in files] == [
        "confusion", "recall", "reliability", "risk_coverage", "robustness", "subjects",
    ]  # fmt: skip
    embedded = set()
    for attributes in images:
        assert attributes["alt"]
        kind, _, data = (attributes["src"] or "").partition(",")
        assert kind == "data:image/png;base64"
        embedded.add(base64.b64decode(data))
    assert embedded == {file.read_bytes() for file in files}


def test_page_has_every_metric(tmp_path: Path) -> None:
    """n, protocol, bundle hash, notes, figures, people, groups, conditions."""
    metrics = make_metrics()
    text = Page(write_report(metrics, tmp_path).read_text()).text
    for wanted in (
        "60 scored, 2 left out",
        "as agreed",
        metrics["bundle"],
        "seen before",
        f"{100 * metrics['accuracy']:.1f} %",
        "person 2",
        "female",
        "20 dB SNR",
        "face missing",
        "hum",
        "1.25",
        "NullEngine",
    ):
        assert wanted in text, wanted
    neutral = re.search(r"neutral\s*–\s*\S+ %|neutral\s*–\s*–|neutral\s*–", text)
    assert neutral, "the recall of a label without examples is a dash, not 0"


def test_page_without_subjects_and_robustness(tmp_path: Path) -> None:
    """Sections without content are absent."""
    page = write_report(make_metrics(num_people=0, robust=False, notes=[]), tmp_path)
    text = Page(page.read_text()).text
    for absent in ("People", "Robustness", "Noise without", "Mind:", "Worst person"):
        assert absent not in text
    assert not (tmp_path / "subjects.png").exists()


def test_names_cannot_write_html(tmp_path: Path) -> None:
    """Subject, protocol, note and bundle name are escaped."""
    evil = "<script>alert(1)</script>"
    metrics = make_metrics(protocol=evil, notes=[evil], bundle_name=evil)
    metrics["subjects"][evil] = {"n": 1, "accuracy": 0.5}
    metrics["groups"][evil] = {evil: {"n": 1, "accuracy": 0.5}}
    text = write_report(metrics, tmp_path).read_text()
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize("num_people", [2, 24, 60])
def test_plots_are_readable_images(num_people: int) -> None:
    """A white border shows that nothing is cut off, with few people and many."""
    names = {f"$odd_{i} with a very long name": i for i in range(num_people)}
    metrics = make_metrics()
    metrics["subjects"] = {name: {"n": 3, "accuracy": i / 60} for name, i in names.items()}
    for name, data in plot_all(metrics).items():
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        assert 400 < height < 2_500, name
        assert 400 < width < 3_000, name
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (border == 255).all(), name
        assert image.std() > 10, name


def test_equal_metrics_give_equal_files() -> None:
    assert plot_all(make_metrics()) == plot_all(make_metrics())


def test_robustness_shows_every_condition() -> None:
    """A panel for each, with strengths in order on its axis."""
    figure = plots.plot_robustness(make_metrics())
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["noise", "face missing"]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["20", "0"]


def test_confusion_is_colored_by_share() -> None:
    """Row by row, with any support; a label without examples is no division by zero."""
    metrics = make_metrics()
    confusion = np.zeros((7, 7), int)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 30, 10, 2
    metrics["confusion"] = confusion.tolist()
    figure = plots.plot_confusion(metrics)
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert shares[0, 0] == pytest.approx(75)
    assert shares[1, 1] == pytest.approx(100)
    assert shares[6].sum() == 0
    assert len(figure.axes[0].texts) == 3

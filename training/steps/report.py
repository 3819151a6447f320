"""The report of a recipe's run: one HTML page without external files.

In: what the steps have made. Out: `report.html`. It holds figures alone, no image and no audio of a
person.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ...engines.bundles import Bundle
from ...engines.storage import atomic_write
from ..data import FaceExamples, VoiceExamples
from ..recipe_file import dump_recipe
from .bundling import Choices
from .fusing import TrainedFusion
from .judging import Judgement
from .material import Material
from .networks import TrainedNetwork
from .summary import summarize_divisions

TEMPLATE = Path(__file__).with_name("report.html")
PLOTS = ("confusion", "recall", "reliability", "subjects")
MAX_CURVES = 12
MAX_SKIPPED = 200
"""Lines of files that were left out."""

Metrics = Mapping[str, Any]
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What the report shows."""

    material: Material
    bundle: Bundle
    networks: Sequence[TrainedNetwork]
    """Those of all divisions, those that ship last."""
    fusion: TrainedFusion | None
    judgements: Sequence[Judgement]
    choices: Choices
    scores: Mapping[str, Metrics]
    int8: Metrics
    """Empty without INT8."""
    timings: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose cells are text."""

    caption: str
    head: Sequence[str]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Section:
    """One set of figures on the test people."""

    title: str
    protocol: str
    notes: Sequence[str]
    cards: Rows
    plots: Mapping[str, str]
    """PNG in base 64, by name."""
    tables: Sequence[Table]


def write_report(content: ReportContent, file: Path) -> Path:
    """Write the page. Raises OSError."""
    atomic_write(file, render_report(content).encode("utf-8"))
    return file


def render_report(content: ReportContent) -> str:
    """Return the page. All text is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    manifest = content.bundle.manifest
    skipped = content.material.corpus.skipped
    tables = [*_tabulate_folds(content), *_tabulate_int8(content.int8)]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"{manifest.name}: report of its training",
        labels=manifest.labels,
        refused=content.int8.get("gate", {}).get("refused", ()),
        sections=[_describe_scores(name, one) for name, one in _list_scores(content.scores)],
        untested=_list_untested(content),
        style=Markup(_read_style()),
        curves=_plot_curves(content),
        tables=tables,
        facts=_list_facts(content),
        files=_tabulate_files(content.bundle),
        data=_tabulate_data(content.material),
        skipped=skipped[:MAX_SKIPPED],
        num_skipped=len(skipped),
        timings=_tabulate_timings(content.timings),
        settings=dump_recipe(content.material.recipe),
    )


def _read_style() -> str:
    """Return the style of the evaluation's report."""
    from ..evaluation.report import TEMPLATE as EVALUATION

    text = EVALUATION.read_text(encoding="utf-8")
    return text.partition("<style>")[2].partition("</style>")[0]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _list_scores(scores: Mapping[str, Metrics]) -> list[tuple[str, Metrics]]:
    """Return the scores, of the face only the one at the best level in full."""
    faces = sorted(
        (name for name in scores if name.startswith("face")), key=lambda name: -_pixels(name)
    )
    names = [name for name in ("fusion", *faces[:1], "voice") if name in scores]
    return [(name, scores[name]) for name in names]


def _pixels(name: str) -> int:
    return int(name.removeprefix("face_").removesuffix("px"))


def _describe_scores(name: str, figures: Metrics) -> Section:
    from ..evaluation.plots import plot_all

    low, high = (100 * value for value in figures["accuracy_ci95"])
    drawn = "people" if figures["ci95_by"] == "subject" else "examples"
    cards = [
        ("Accuracy", _percent(figures["accuracy"]), f"{low:.1f} to {high:.1f} (95 %, by {drawn})"),
        ("UAR", _percent(figures["uar"]), "mean recall of the labels"),
        ("Macro F1", _percent(figures["macro_f1"]), "mean of the labels"),
        ("Calibration error", _percent(figures["ece"]), "0 is best"),
    ]
    if figures["subject_accuracy"] is not None:
        worst = figures["subject_accuracy"]["min"]
        cards.append(("Worst person", _percent(worst), str(figures["worst_subject"])))
    labels = [
        (label, *(_percent(one[key]) for key in ("recall", "precision", "f1")), str(one["support"]))
        for label, one in figures["per_class"].items()
    ]
    people = [(who, _percent(one["accuracy"]), str(one["n"])) for who, one in _people(figures)]
    tables = [Table("Each label", ("label", "recall", "precision", "F1", "n"), labels)]
    if people:
        tables.append(Table("Each person", ("person", "accuracy", "n"), people))
    plots = {key: base64.b64encode(png).decode() for key, png in plot_all(figures, PLOTS).items()}
    title = f"Face, {_pixels(name)} px" if name.startswith("face") else name.capitalize()
    return Section(title, figures["protocol"], figures["notes"], cards, plots, tables)


def _people(figures: Metrics) -> list[tuple[str, Metrics]]:
    return list(figures["subjects"].items())


def _list_untested(content: ReportContent) -> list[str]:
    """Name what the test people could not show."""
    shown = {name.partition("_")[0] for name in content.scores}
    wanted = [*content.bundle.manifest.models]
    if len(wanted) > 1:
        wanted.append("fusion")
    return [name for name in wanted if name not in shown]


def _plot_curves(content: ReportContent) -> str:
    from ..evaluation.plots import encode_figure, plot_curves

    shown = {network.key: network for network in reversed(content.networks)}
    curves = [
        (f"{each.facts['network']} {n}" if len(shown) > 2 else each.facts["network"], each.facts)
        for n, each in enumerate(list(shown.values())[:MAX_CURVES], 1)
    ]
    if content.fusion is not None:
        curves.append(("fusion", content.fusion.facts))
    figure = plot_curves([(name, facts["curves"]) for name, facts in curves])
    return base64.b64encode(encode_figure(figure, content.bundle.manifest.name)).decode()


def _list_facts(content: ReportContent) -> list[tuple[str, str]]:
    manifest, choices = content.bundle.manifest, content.choices
    facts = [
        ("Bundle", f"{manifest.name}, sha256 of its manifest {content.bundle.sha256}"),
        ("Labels", ", ".join(manifest.labels)),
        ("Protocol", content.material.recipe.people.protocol),
        ("No label below", f"{manifest.abstain_below:g}: {choices.rule}"),
    ]
    for name, temperature in choices.temperatures.items():
        facts.append((f"{name.capitalize()}: temperature", f"{temperature:.3f}"))
    if len(choices.weights) > 1:
        facts.append(("Weights of an average", _join(choices.weights)))
    if content.fusion is not None:
        pairs = f"{content.fusion.facts['num_examples']} pairs: {content.fusion.facts['pairs']}"
        facts.append(("Fusion network", pairs))
    elif len(manifest.models) > 1:
        facts.append(("Fusion network", "none: the weighted average of face and voice"))
    return facts


def _join(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number:g}" for name, number in numbers.items())


def _tabulate_files(bundle: Bundle) -> Table:
    rows = [(name, f"{entry.bytes:,}") for name, entry in sorted(bundle.manifest.files.items())]
    total = sum(entry.bytes for entry in bundle.manifest.files.values())
    return Table("Files of the bundle", ("file", "bytes"), [*rows, ("all", f"{total:,}")])


def _tabulate_data(material: Material) -> list[Table]:
    corpus, tables = material.corpus, []
    for title, examples in (("Faces", corpus.faces), ("Recordings", corpus.voices)):
        if examples is not None:
            tables.append(_count_examples(title, examples, corpus.labels))
    return tables


def _count_examples(
    title: str, examples: FaceExamples | VoiceExamples, labels: Sequence[str]
) -> Table:
    rows = []
    for split in dict.fromkeys(("train", "valid", "test", *examples.splits)):
        own = [i for i, each in enumerate(examples.splits) if each == split]
        counts = Counter(int(examples.labels[i]) for i in own)
        people = {examples.people[i] for i in own} - {""}
        numbers = (str(counts[n]) for n in range(len(labels)))
        rows.append((split, str(len(own)), str(len(people)) if people else "–", *numbers))
    return Table(title, ("split", "all", "people", *labels), rows)


def _tabulate_folds(content: ReportContent) -> list[Table]:
    tables = []
    for name, summary in summarize_divisions(content.material, content.judgements).items():
        for label_set, sources in summary.items():
            if not isinstance(sources, Mapping) or label_set == "noise":
                continue
            rows = [
                (
                    source.replace("_", " "),
                    *(
                        f"{100 * one[f'{key}_mean']:.1f} ± {100 * one[f'{key}_std']:.1f} %"
                        for key in ("accuracy", "uar", "macro_f1", "ece")
                    ),
                    str(one["runs"]),
                )
                for source, one in sources.items()
            ]
            head = ("", "accuracy", "UAR", "macro F1", "calibration error", "runs")
            caption = f"{name.capitalize()}, {label_set}: mean ± standard deviation"
            tables.append(Table(caption, head, rows))
    return tables


def _tabulate_int8(int8: Metrics) -> list[Table]:
    rows = [
        (
            f"{row['network']} {row['precision']}",
            *(_percent(row[key]) for key in ("accuracy", "uar", "ece", "agreement")),
            str(row["n"]),
            f"{row['bytes']:,}",
        )
        for row in int8.get("gate", {}).get("rows", ())
    ]
    head = ("network", "accuracy", "UAR", "calibration error", "agrees with FP32", "n", "bytes")
    return [Table("Precisions, as the accuracy gate measured them", head, rows)] if rows else []


def _tabulate_timings(timings: Sequence[tuple[str, float]]) -> Table:
    rows = [(name, f"{seconds:.1f}") for name, seconds in timings]
    return Table("Steps of the last call; what was done before takes no time", ("", "s"), rows)

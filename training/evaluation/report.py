"""The report of one evaluation: PNG plots and one HTML page without external files.

In: the metrics of `evaluate_bundle`. Out: files in a folder. They contain metrics alone, no image
and no audio of a person.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .plots import plot_all

TEMPLATE = Path(__file__).with_name("report.html")
PAGE = "report.html"
TABLE = """<div class="scroll"><table><caption>{{ caption }}</caption>
<thead><tr>{% for name in table.head %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>"""

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose cells are formatted text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_report(figures: Metrics, folder: Path) -> Path:
    """Write `NAME.png` for each plot and `report.html`. Return the page's path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = plot_all(figures)
    for name, image in plots.items():
        (folder / f"{name}.png").write_bytes(image)
    page = folder / PAGE
    page.write_text(render_page(figures, plots), encoding="utf-8")
    return page


def render_page(figures: Metrics, plots: Mapping[str, bytes]) -> str:
    """Return the page with the `plots` (PNG, by name) inside. All text is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    table = environment.from_string(TABLE)

    def show_table(caption: str, content: Table) -> Markup:
        return Markup(table.render(caption=caption, table=content))  # escaped by the template

    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"{figures['bundle_name']}: {figures['modality']} on {figures['dataset']}",
        figures=figures,
        plots={name: base64.b64encode(image).decode() for name, image in plots.items()},
        table=show_table,
        cards=_list_cards(figures),
        facts=_list_facts(figures),
        labels=_tabulate_labels(figures),
        people=_tabulate_groups("person", figures["subjects"]),
        groups=[(kind, _tabulate_groups(kind, found)) for kind, found in figures["groups"].items()],
        robustness=_tabulate_robustness(figures.get("robustness", ())),
        noise_only=_tabulate_noise(figures.get("noise_only", ())),
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _list_cards(figures: Metrics) -> list[tuple[str, str, str]]:
    """Return (name, value, text under it) of each headline."""
    low, high = (100 * value for value in figures["accuracy_ci95"])
    drawn = "people" if figures["ci95_by"] == "subject" else "examples"
    cards = [
        ("Accuracy", _percent(figures["accuracy"]), f"{low:.1f} to {high:.1f} (95 %, by {drawn})"),
        ("UAR", _percent(figures["uar"]), "mean recall of the labels"),
        ("Macro F1", _percent(figures["macro_f1"]), "mean of the labels"),
        ("Weighted F1", _percent(figures["weighted_f1"]), "by number of examples"),
        ("Calibration error", _percent(figures["ece"]), "0 is best"),
    ]
    people = figures["subject_accuracy"]
    if people is not None:
        worst = figures["worst_subject"]
        cards.append(
            (
                "Worst person",
                _percent(people["min"]),
                f"{worst}; mean {100 * people['mean']:.1f} ± {100 * people['std']:.1f}",
            )
        )
    return cards


def _list_facts(figures: Metrics) -> list[tuple[str, str]]:
    engines = (f"{network}: {name}" for network, name in figures["engines"].items())
    return [
        ("Examples", f"{figures['n']} scored, {figures['skipped']} left out"),
        ("Protocol", figures["protocol"]),
        ("Modality", figures["modality"]),
        ("Level", f"{figures['level']} (face images of {figures['face_px']} px)"),
        ("Engines", ", ".join(engines)),
        ("Bundle", f"{figures['bundle_name']}, sha256 of its manifest {figures['bundle']}"),
    ]


def _tabulate_labels(figures: Metrics) -> Table:
    return Table(
        ("label", "recall", "precision", "F1", "n"),
        [
            (
                label,
                *(_percent(one[key]) for key in ("recall", "precision", "f1")),
                str(one["support"]),
            )
            for label, one in figures["per_class"].items()
        ],
    )


def _tabulate_groups(kind: str, found: Mapping[str, Mapping[str, Any]]) -> Table | None:
    rows = [(name, _percent(one["accuracy"]), str(one["n"])) for name, one in found.items()]
    return Table((kind, "accuracy", "n"), rows) if rows else None


def _tabulate_robustness(found: Sequence[Metrics]) -> Table | None:
    rows = [
        (
            row["condition"],
            f"{row['strength']:g} {row['unit']}" if row["unit"] else "",
            *(_percent(row[key]) for key in ("accuracy", "uar", "ece")),
            str(row["n"]),
        )
        for row in found
    ]
    head = ("condition", "strength", "accuracy", "UAR", "calibration error", "n")
    return Table(head, rows) if rows else None


def _tabulate_noise(found: Sequence[Metrics]) -> Table | None:
    rows = [
        (
            row["noise"],
            f"{row['max_probability']:.2f}",
            f"{row['entropy_nats']:.2f}",
            _percent(row["abstained"]),
            str(row["n"]),
        )
        for row in found
    ]
    head = ("noise", "mean confidence", "mean entropy, nats", "no answer", "windows")
    return Table(head, rows) if rows else None

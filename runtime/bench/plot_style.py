"""How the pictures of a report look, and how they become part of a page.

Needs matplotlib, so only what draws imports this. Colours are those of Okabe and Ito 2008, which
colour-blind people tell apart; lines and bars differ in dashes and hatching as well.
"""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
YELLOW, SKY = "#F0E442", "#56B4E9"
WIDTH_IN = 10.0
BUDGET_DASHES = (0, (4, 2))

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "emotion-bench",  # the same figures give the same file
    "text.parse_math": False,  # names may hold dollar signs
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def encode_svg(figure: Figure) -> str:
    """One <svg> element to stand in a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=_NO_METADATA)
    text = file.getvalue()
    # Groups are numbered alike in every figure and nothing refers to them.
    return re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :])


def put_legend_below(figure: Figure, *all_axes: Axes) -> None:
    """Outside, where it covers nothing; every name once."""
    shown: dict[str, Any] = {}
    for axes in all_axes:
        handles, names = axes.get_legend_handles_labels()
        shown.update(zip(names, handles, strict=True))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown), frameon=False
    )


def use_log_scale(axes: Axes) -> None:
    """Powers of ten and what is 2 and 5 times as much, as plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

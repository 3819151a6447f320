"""The layout of a screen of a given size: rectangles in pixels, and font sizes.

It is designed for 1280x720 (landscape) and 720x1280 (portrait). Other sizes are scaled, and the
spare space goes between the parts. The lengths below are pixels of the design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .display import Rect
from .widgets import MIN_SIZE_PX, Typeface, measure_widest

MARGIN = 64
SMALL, NAMES, CONFIDENCE, MESSAGE, HEADLINE = 24, 30, 56, 68, 128
MIN_NAMES, MIN_HEADLINE = 18, 64
"""Sizes under which a long name is shortened, or has a headline smaller than those of others."""
CAP = 0.7
"""Height of a capital letter, relative to the font size."""
LONG_NOTICE = 18
MAX_PITCH = 84
"""Largest distance from one bar to the next."""
MAX_NOTICE_LINES = 8
MAX_SINGLE = 12
"""Most bars in one column."""
MIN_BARS = 5
"""Fewer bars are not as high as headline, confidence and weights beside them."""
NAME_WIDTHS, NARROW_NAME_WIDTHS = (150, 250), (120, 150)
"""Least and most of the names' width, beside bars in one column and in two."""
NUMBER_WIDTH, NARROW_NUMBER_WIDTH, COLUMN_GAP = 96, 62, 28


@dataclass(frozen=True, slots=True)
class Row:
    """A bar with its name on the left and its number on the right."""

    name: Rect
    bar: Rect
    number: Rect

    @property
    def middle(self) -> int:
        return (self.bar.y0 + self.bar.y1) // 2


@dataclass(frozen=True, slots=True)
class Layout:
    width: int
    height: int
    unit: float
    """Pixels of this screen to a pixel of the design."""
    camera: Rect
    speed: Rect
    headline: Rect
    confidence: Rect
    preview: Rect
    """The room for the camera's frame; empty without a preview."""
    caption: Rect
    weights: tuple[Row, ...]
    bars: tuple[Row, ...]
    fault: Rect
    rule: Rect
    notice: tuple[Rect, ...]


def measure_names(names: Sequence[str]) -> float:
    """Return the width of the widest name of a bar in pixels of the design."""
    return measure_widest(NAMES, names)


def lay_out(
    width: int,
    height: int,
    num_bars: int,
    names_px: float,
    num_notice_lines: int,
    notice_px: int,
    *,
    preview: bool,
) -> Layout:
    """Lay out a screen. `names_px` is that of `measure_names`, `notice_px` is the font size of the
    notice, see `fit_notice`."""
    portrait = height > width
    unit = find_unit(width, height)

    def px(length: float) -> int:
        return round(length * unit)

    left, right = px(MARGIN), width - px(MARGIN)
    line = round(1.4 * notice_px)
    bottom = height - px(36) - num_notice_lines * line
    notice = tuple(
        Rect(left, bottom + line * n, right, bottom + line * (n + 1))
        for n in range(num_notice_lines)
    )
    rule = Rect(left, bottom - px(18), right, bottom - px(18) + max(1, px(2)))
    fault = Rect(left, rule.y0 - px(46), right, rule.y0 - px(10))
    head = px(40), px(76)
    middle = left + (right - left) // 2
    top, foot = px(116), fault.y0 - px(8)
    if portrait:
        columns = (left, right), (left, right)
    else:
        inner = right - left
        columns = (left, left + inner * 40 // 100), (left + inner * 47 // 100, right)
    (x0, x1), bar_columns = columns
    weight_pitch, caption_px = px(46), px(44)
    weights_px = caption_px + 2 * weight_pitch
    if portrait:
        headline_y = top
        preview_px = px(236) if preview else 0
        weights_y = foot - weights_px
        bars_y = headline_y + px(236)
        bars_foot = weights_y - preview_px - px(24)
        rows = _stack_bars(bar_columns, bars_y, bars_foot, num_bars, unit, names_px)
        preview_box = Rect(x0, weights_y - preview_px, x1, weights_y - px(16))
    else:
        rows = _stack_bars(bar_columns, top, foot, num_bars, unit, names_px)
        # The headline is level with the first name, the last weight with the last bar.
        last = max(row.middle for row in rows)
        headline_y = rows[0].middle - px(70 - CAP / 2 * (HEADLINE - NAMES))
        weights_y = last + weight_pitch // 2 - weights_px
        if num_bars < MIN_BARS:  # higher than the bars, and level with their middle
            short_px = headline_y + px(140) + px(72) - weights_y
            headline_y -= (short_px + 1) // 2
            weights_y += short_px // 2
        preview_box = Rect(x0 + px(190), headline_y + px(152), x1, weights_y + caption_px - px(12))
    headline = Rect(x0, headline_y, x1, headline_y + px(140))
    if not preview or preview_box.y1 - preview_box.y0 < px(60):
        preview_box = Rect(x1, weights_y, x1, weights_y)
    beside = x1 if portrait else min(x1, preview_box.x0)
    return Layout(
        width=width,
        height=height,
        unit=unit,
        camera=Rect(left, head[0], middle, head[1]),
        speed=Rect(middle, head[0], right, head[1]),
        headline=headline,
        confidence=Rect(x0, headline.y1, beside, headline.y1 + px(72)),
        preview=preview_box,
        caption=Rect(x0, weights_y, beside, weights_y + caption_px),
        weights=_stack(
            (x0, x1),
            weights_y + caption_px,
            weights_y + weights_px,
            2,
            unit,
            (150 if portrait else 96, NUMBER_WIDTH),
        ),
        bars=rows,
        fault=fault,
        rule=rule,
        notice=notice,
    )


def find_unit(width: int, height: int) -> float:
    """Return the pixels of this screen to a pixel of the design."""
    if height > width:
        return min(width / 720, height / 1280)
    return min(width / 1280, height / 720)


def fit_notice(notice: str, small: Typeface, width: int, height: int) -> tuple[Typeface, list[str]]:
    """Return the notice's font and lines: up to three lines of `small`, else a smaller font."""
    unit = find_unit(width, height)
    room_px = width - 2 * round(MARGIN * unit)
    lines = small.wrap(notice, room_px, MAX_NOTICE_LINES)
    if len(lines) <= 3:
        return small, lines
    size_px = max(MIN_SIZE_PX, round(LONG_NOTICE * unit))
    smaller = Typeface(size_px, characters="".join({*notice, "."}))
    return smaller, smaller.wrap(notice, room_px, MAX_NOTICE_LINES)


def _stack_bars(
    columns: tuple[int, int], y0: int, y1: int, count: int, unit: float, names_px: float
) -> tuple[Row, ...]:
    """Return the rows of the labels, in two columns if there are many."""
    if count <= MAX_SINGLE:
        least, most = NAME_WIDTHS
        widths = round(min(max(names_px + 16, least), most)), NUMBER_WIDTH
        return _stack(columns, y0, y1, count, unit, widths)
    least, most = NARROW_NAME_WIDTHS
    widths = round(min(max(names_px * MIN_NAMES / NAMES + 10, least), most)), NARROW_NUMBER_WIDTH
    x0, x1 = columns
    gap = round(COLUMN_GAP * unit)
    half = (x1 - x0 - gap) // 2
    per_column = (count + 1) // 2
    left = _stack((x0, x0 + half), y0, y1, per_column, unit, widths)
    right = _stack((x1 - half, x1), y0, y1, per_column, unit, widths)
    return (*left, *right[: count - per_column])


def _stack(
    columns: tuple[int, int], y0: int, y1: int, count: int, unit: float, widths: tuple[int, int]
) -> tuple[Row, ...]:
    """Return rows one below the other, spread over the height. `widths` are those of names and
    numbers."""
    pitch = min((y1 - y0) // max(1, count), round(MAX_PITCH * unit))
    y0 += (y1 - y0 - pitch * count) // 2
    left, right = columns
    thick = max(3, min(round(16 * unit), pitch // 2))
    rows = []
    for n in range(count):
        top = y0 + n * pitch
        middle = top + pitch // 2
        name_x1 = left + round(widths[0] * unit)
        number_x0 = right - round(widths[1] * unit)
        bar_y0 = middle - thick // 2
        rows.append(
            Row(
                name=Rect(left, top, name_x1, top + pitch),
                bar=Rect(name_x1, bar_y0, max(name_x1 + thick, number_x0), bar_y0 + thick),
                number=Rect(number_x0, top, right, top + pitch),
            )
        )
    return tuple(rows)

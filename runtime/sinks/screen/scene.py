"""What the screen says: estimates and the time in, the words and shares to show out.

Values are rounded to what can be seen and refreshed no faster than a reader wants, so that most
moments say the same as the one before and nothing needs to be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...messages import Estimate

TICK_NS = 1_000_000_000 // 15
"""Bars move this often."""
NUMBERS_NS = 250_000_000
SPEED_NS = 1_000_000_000
STALE_AFTER_NS = 2_000_000_000
"""Without an estimate for this long, the screen says that it waits."""
EASE_NS = 120_000_000
"""Time constant of the bars' way to a new value."""
SETTLED = 0.002
"""A bar that is as near to its value has arrived: half a pixel of 250."""

WAITING, NOTHING, UNSURE = "Waiting", "No face or voice", "Not sure"
MESSAGES = (WAITING, NOTHING, UNSURE)
MODALITIES = ("face", "voice")


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is seen, except the camera's picture."""

    headline: str = WAITING
    """The label, or one of `MESSAGES`."""
    label: str | None = None
    """The one that stands out."""
    confidence: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Length of the bar of each label and of `MODALITIES`, 0..1."""
    percents: Mapping[str, str] = field(default_factory=dict)
    """The numbers beside the bars."""
    speed: str = ""
    late: bool = False
    camera_on: bool = False
    fault: str = ""


class SceneBuilder:
    """Turns estimates into scenes. Nothing of it knows pixels."""

    def __init__(self, labels: tuple[str, ...], budget_ms: float) -> None:
        self.labels = labels
        self.settled = True
        """Without another estimate, nothing moves for the next second."""
        self._budget_ms = budget_ms
        self._estimate: Estimate | None = None
        self._arrived_ns = 0
        self._camera_on = False
        self._eased = dict.fromkeys((*labels, *MODALITIES), 0.0)
        self._eased_ns = 0
        self._numbers_ns: int | None = None
        self._numbers_of: str | None = None
        self._percents: dict[str, str] = {}
        self._confidence = ""
        self._speed_ns: int | None = None
        self._speed = ""
        self._late = False
        self._last_count: tuple[int, int] | None = None
        self._fault = ""

    def set_estimate(self, estimate: Estimate, count: int, now_ns: int) -> None:
        """The newest estimate, `count` of them so far."""
        if estimate.probabilities and tuple(estimate.probabilities) != self.labels:
            self.labels = tuple(estimate.probabilities)
            self._eased = dict.fromkeys((*self.labels, *MODALITIES), 0.0)
            self._numbers_ns = None
        if now_ns - self._arrived_ns > STALE_AFTER_NS:
            self._last_count = None  # the pause says nothing about the speed
        self._estimate = estimate
        self._arrived_ns = now_ns
        if self._speed_ns is None or now_ns - self._speed_ns >= SPEED_NS:
            self._measure_speed(estimate, count)
            self._speed_ns = now_ns

    def set_faults(self, faults: tuple[str, ...]) -> None:
        self._fault = ", ".join(faults)

    def set_camera_on(self, on: bool) -> None:
        """Whether the camera may be read; this is said before it is, and while it is."""
        self._camera_on = on

    def make(self, now_ns: int) -> Scene:
        """What is to be seen now."""
        estimate = self._estimate
        if estimate is not None and now_ns - self._arrived_ns > STALE_AFTER_NS:
            estimate = None
        headline, label = describe(estimate)
        shares = dict(estimate.probabilities) if estimate else {}
        weights = dict(estimate.modalities) if estimate and estimate.probabilities else {}
        self._ease({**shares, **{name: weights.get(name, 0.0) for name in MODALITIES}}, now_ns)
        self._refresh_numbers(headline, estimate, shares, weights, now_ns)
        return Scene(
            headline=headline,
            label=label,
            confidence=self._confidence if label else "",
            shares=dict(self._eased),
            percents=self._percents,
            speed=self._speed if estimate else "",
            late=self._late,
            camera_on=self._camera_on,
            fault=self._fault,
        )

    def _ease(self, targets: Mapping[str, float], now_ns: int) -> None:
        step = 1 - math.exp(-max(0, now_ns - self._eased_ns) / EASE_NS)
        self._eased_ns = now_ns
        self.settled = True
        for name, value in self._eased.items():
            target = clamp_share(targets.get(name, 0.0))
            value += (target - value) * step  # noqa: PLW2901 - the value of this name
            arrived = abs(target - value) <= SETTLED
            self._eased[name] = target if arrived else value
            self.settled = self.settled and arrived

    def _refresh_numbers(
        self,
        headline: str,
        estimate: Estimate | None,
        shares: Mapping[str, float],
        weights: Mapping[str, float],
        now_ns: int,
    ) -> None:
        fresh = self._numbers_ns is not None and now_ns - self._numbers_ns < NUMBERS_NS
        if fresh and headline == self._numbers_of:
            return
        self._numbers_ns, self._numbers_of = now_ns, headline
        self._percents = {name: percent(share) for name, share in {**shares, **weights}.items()}
        self._confidence = percent(estimate.confidence) if estimate else ""

    def _measure_speed(self, estimate: Estimate, count: int) -> None:
        latency_ms = estimate.latency_us / 1e3
        self._late = latency_ms > self._budget_ms
        rate = ""
        if self._last_count is not None and estimate.t_ns > self._last_count[0]:
            t_ns, before = self._last_count
            rate = f"{(count - before) * 1e9 / (estimate.t_ns - t_ns):.0f} fps   "
        self._last_count = estimate.t_ns, count
        self._speed = f"{rate}{latency_ms:.0f} ms" if math.isfinite(latency_ms) else rate.rstrip()


def describe(estimate: Estimate | None) -> tuple[str, str | None]:
    """(headline, label that stands out)."""
    if estimate is None:
        return WAITING, None
    if not estimate.probabilities:
        return NOTHING, None
    if estimate.abstained or estimate.label is None:
        return UNSURE, None
    return capitalise(estimate.label), estimate.label


def capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def clamp_share(value: float) -> float:
    """A network that went wrong gives NaN: an empty bar."""
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0


def percent(value: float) -> str:
    return f"{100 * clamp_share(value):.0f} %" if math.isfinite(value) else "-"

"""The content of the screen: estimates and the time in, texts and bar lengths out.

Values are rounded to what is visible, and refreshed no faster than people read. Most scenes
therefore equal the one before, and nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...messages import Estimate, RunInfo

TICK_NS = 1_000_000_000 // 15
"""Period of the bars' movement."""
NUMBERS_NS = 250_000_000
SPEED_NS = 1_000_000_000
STALE_AFTER_NS = 2_000_000_000
"""After this time without an estimate, the screen shows `WAITING`."""
EASE_NS = 120_000_000
"""Time constant of the bars' approach to a new value."""
SETTLED = 0.002
"""A bar this near to its value has arrived: half a pixel of 250."""

WAITING, NOTHING, UNSURE = "Waiting", "No face or voice", "Not sure"
MESSAGES = (WAITING, NOTHING, UNSURE)
MODALITIES = ("face", "voice")
DEMO = "DEMO"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything on the screen except the preview."""

    headline: str = WAITING
    """The label, or one of `MESSAGES`."""
    label: str | None = None
    """The highlighted label."""
    confidence: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Length of the bar of each label, 0..1."""
    percents: Mapping[str, str] = field(default_factory=dict)
    """The numbers beside the bars."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Length of the bar of each modality; a label may have the same name."""
    weight_percents: Mapping[str, str] = field(default_factory=dict)
    speed: str = ""
    late: bool = False
    camera_on: bool = False
    listening: bool = True
    """The microphone may be read while the camera is."""
    fault: str = ""


class SceneBuilder:
    """Turns estimates into scenes. It knows no pixels."""

    def __init__(self, labels: tuple[str, ...], budget_ms: float) -> None:
        self.labels = labels
        self.settled = True
        """Whether every bar has arrived: nothing moves before the next estimate."""
        self._budget_ms = budget_ms
        self._estimate: Estimate | None = None
        self._arrived_ns = 0
        self._camera_on = False
        self._eased = dict.fromkeys(labels, 0.0)
        self._eased_weights = dict.fromkeys(MODALITIES, 0.0)
        self._eased_ns = 0
        self._numbers_ns: int | None = None
        self._numbers_of: str | None = None
        self._percents: dict[str, str] = {}
        self._weight_percents: dict[str, str] = {}
        self._confidence = ""
        self._speed_ns: int | None = None
        self._speed = ""
        self._late = False
        self._last_count: tuple[int, int] | None = None
        self._fault = ""
        self._info: RunInfo | None = None

    def set_info(self, info: RunInfo | None) -> None:
        """Set what is known of the run; None before it is open."""
        self._info = info

    def set_labels(self, labels: tuple[str, ...]) -> None:
        """Set the labels of the bundle, each of which has a bar."""
        if labels != self.labels:
            self.labels = labels
            self._eased = dict.fromkeys(labels, 0.0)
            self._numbers_ns = None

    def set_estimate(self, estimate: Estimate, count: int, now_ns: int) -> None:
        """Set the newest estimate, the `count`-th of the run."""
        self.set_labels(estimate.labels)
        if now_ns - self._arrived_ns > STALE_AFTER_NS:
            self._last_count = None  # the pause is not part of the rate
        self._estimate = estimate
        self._arrived_ns = now_ns
        if self._speed_ns is None or now_ns - self._speed_ns >= SPEED_NS:
            self._measure_speed(estimate, count)
            self._speed_ns = now_ns

    def set_faults(self, faults: tuple[str, ...]) -> None:
        self._fault = ", ".join(faults)

    def set_camera_on(self, on: bool) -> None:
        """Set whether the camera may be read: before the first frame is, and while they are."""
        self._camera_on = on

    def make(self, now_ns: int) -> Scene:
        """Return the scene of this moment."""
        estimate = self._estimate
        if estimate is not None and now_ns - self._arrived_ns > STALE_AFTER_NS:
            estimate = None
        headline, label = describe(estimate)
        shares = dict(estimate.probabilities) if estimate else {}
        weights = dict(estimate.modalities) if estimate and estimate.probabilities else {}
        self._ease(shares, weights, now_ns)
        self._refresh_numbers(headline, estimate, shares, weights, now_ns)
        confidence = self._confidence if label else ""
        if self._info is not None and self._info.is_demo:
            confidence = f"{DEMO}  {confidence}".rstrip()
        return Scene(
            headline=headline,
            label=label,
            confidence=confidence,
            shares=dict(self._eased),
            percents=self._percents,
            weights=dict(self._eased_weights),
            weight_percents=self._weight_percents,
            speed=self._speed if estimate else "",
            late=self._late,
            camera_on=self._camera_on,
            listening=self._info is None or self._info.has_audio,
            fault=self._fault,
        )

    def _ease(self, shares: Mapping[str, float], weights: Mapping[str, float], now_ns: int) -> None:
        step = 1 - math.exp(-max(0, now_ns - self._eased_ns) / EASE_NS)
        self._eased_ns = now_ns
        self.settled = True
        for eased, targets in ((self._eased, shares), (self._eased_weights, weights)):
            for name, value in eased.items():
                target = clamp_share(targets.get(name, 0.0))
                value += (target - value) * step  # noqa: PLW2901 - the value of this name
                arrived = abs(target - value) <= SETTLED
                eased[name] = target if arrived else value
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
        self._percents = {name: percent(share) for name, share in shares.items()}
        self._weight_percents = {name: percent(share) for name, share in weights.items()}
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
    """Return (headline, highlighted label)."""
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
    """Clamp to 0..1. A faulty network gives NaN: an empty bar."""
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0


def percent(value: float) -> str:
    return f"{100 * clamp_share(value):.0f} %" if math.isfinite(value) else "-"

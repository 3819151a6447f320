"""The doctor's look at the board: has it been throttled, is it hot, in which power mode is it.

It opens and reads the sensors as a run does, once.

The doctor's look at the bundle: which one a run would take, and whether it is the chosen one.
"""

from __future__ import annotations

from pathlib import Path

from ...engines.bundles import (
    BundleError,
    BundleStore,
    choose_bundle,
    describe_bundle,
    find_state_folder,
)
from ..board import describe_machine, measures_processor, open_board
from ..config import Config, ConfigError
from .check import Check

MAX_TEMPERATURE_C = 85.0
"""14 °C below where Linux slows an Orin down (the cpu-sw-throttle trip of its device tree)."""
CAUSES = {
    "under-voltage": "use a stronger power supply and a shorter cable",
    "average over-current": "more load than the power mode allows: choose another (sudo nvpmodel)",
    "instantaneous over-current": "peaks above what the board may draw: choose a lower power mode",
    "thermal": "the processor was too hot: look after the fan and the dust",
}
"""What to do about each of `BoardStatus.throttle_events`."""


def check_board(sys_root: Path = Path("/")) -> Check:
    """Counters of throttling run from the system's start, so the complaint may be an old one."""
    status = open_board("auto", sys_root).read()
    warnings = [
        f"slowed down {count}x since it was started ({cause}): {CAUSES[cause]}"
        for cause, count in status.throttle_events.items()
        if count
    ]
    zones = [(t, name) for name, t in status.temperatures_c.items() if measures_processor(name)]
    hottest_c, hottest = max(zones, default=(None, ""))
    if hottest_c is not None and hottest_c > MAX_TEMPERATURE_C:
        warnings.append(f"{hottest} is at {hottest_c:.0f} °C: it needs more air or a fan")
    if warnings:
        return Check("board", "warn", "; ".join(warnings))
    machine = describe_machine(sys_root)
    facts = [str(machine["board"] or machine["cpu"])]
    if machine["l4t"] is not None:
        mode = status.power_mode or "unknown, /var/lib/nvpmodel/status cannot be read"
        facts += [f"JetPack {machine['jetpack']} (L4T {machine['l4t']})", f"power mode {mode}"]
    if hottest_c is not None:
        facts.append(f"{hottest} {hottest_c:.0f} °C")
    return Check("board", "ok", ", ".join(facts))


def check_bundle(path: Path | None, config: Config) -> Check:
    """Chooses and loads it the way a run does, every checksum included."""
    configured = str(path or config.bundle) if path or config.bundle else ""
    try:
        choice = choose_bundle(configured, config.public_key)
    except (BundleError, ConfigError) as error:
        return Check("bundle", "fail", str(error))
    text = f"{choice.bundle.path} ({choice.bundle.manifest.name})"
    reason = "" if configured else explain_fall_back(choice.name)
    if reason:
        return Check("bundle", "warn", f"falls back to {text}: {reason}")
    return Check("bundle", "ok", text)


def explain_fall_back(name: str) -> str:
    """Why the bundle `name` is taken where another was chosen; "" where none was."""
    try:
        chosen = BundleStore(find_state_folder()).read_selection().current
    except BundleError as error:
        return str(error)
    how = "emotion-edge bundle list shows why; install it again, or emotion-edge bundle rollback"
    return (
        "" if chosen == name else f"{describe_bundle(chosen)} was chosen and cannot be used: {how}"
    )

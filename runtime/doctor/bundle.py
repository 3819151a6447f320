"""The doctor's look at the bundle: which one a run would take, and whether it is the chosen one."""

from __future__ import annotations

from pathlib import Path

from ...engines.bundles.manifest import BundleError
from ...engines.bundles.selection import find_state_folder
from ...engines.bundles.startup import choose_bundle, describe_bundle
from ...engines.bundles.store import BundleStore
from ..config import Config, ConfigError
from .check import Check


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

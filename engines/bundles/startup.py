"""Bundle selection at start-up, with automatic rollback.

In: the configuration and the state folder. Out: a `BundleChoice` with a verified bundle. An
installed bundle that is damaged or wrongly signed is skipped with an error in the log. One that
failed to start `MAX_FAILED_STARTS` times is rolled back. A fault of the state folder is a warning,
and the bundle that ships is used: it is part of the program, while the newest installed one may be
the one that failed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from .manifest import DEFAULT_BUNDLE, Bundle, load_bundle
from .schema import BundleError
from .selection import SHIPPED, Selection, find_state_folder
from .signature import PublicKey, load_public_key
from .store import BundleStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BundleChoice:
    """The bundle of a run, and its trial."""

    bundle: Bundle
    trial: BundleStore | None = None
    """The store with a trial in progress, maybe of another bundle that was skipped."""
    name: str = SHIPPED
    """Folder of an installed bundle."""
    failed_before: int = 0
    """Failed starts on trial before this one."""

    def mark_good(self) -> None:
        """End the trial: this run has given results. Never raises."""
        if self._change(lambda selection: selection.end_trial()):
            log.info("bundle %s is marked good, its trial is over", self.name)

    def discount(self) -> None:
        """Do not count this start, and continue the trial: something other than the bundle ends
        the run or keeps it from results. Never raises."""
        self._change(lambda selection: replace(selection, failed_starts=self.failed_before))

    def _change(self, change: Callable[[Selection], Selection]) -> bool:
        """Store `change`; False where the trial is over or the disk refuses."""
        if self.trial is None:
            return False
        try:
            with self.trial.lock_selection():
                before = self.trial.read_selection()
                if before.current != self.name or not before.on_trial:
                    return False
                after = change(before)
                if after != before:
                    self.trial.write_selection(after)
        except (BundleError, OSError) as error:
            log.warning("the trial of bundle %s cannot be updated: %s", self.name, error)
            return False
        return True


def choose_bundle(
    configured: str = "",
    public_key: str = "",
    *,
    starting: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> BundleChoice:
    """Load the bundle in the folder `configured`, else the selected one.

    `starting` counts a start on trial, which the run then marks good or discounts. `public_key` is
    a PEM file. Raises BundleError when no bundle can be loaded, ConfigError for an invalid key.
    """
    key = load_public_key(Path(public_key)) if public_key else None
    if configured:
        path = Path(configured)
        return BundleChoice(
            load_bundle(path, None if path.resolve() == DEFAULT_BUNDLE.resolve() else key)
        )
    try:
        store = BundleStore(find_state_folder(environment))
    except BundleError as error:
        log.debug("the bundle that ships is used: %s", error)
        return BundleChoice(load_bundle(DEFAULT_BUNDLE))
    return _load_first_valid(store, _resolve_selection(store, starting), key, starting)


def _resolve_selection(store: BundleStore, starting: bool) -> Selection:
    """Read the selection, roll back a failed bundle, count this start."""
    try:
        before = store.read_selection()
    except BundleError as error:
        log.warning("%s; the bundle that ships is used", error)
        return Selection()
    settled = before.abandon_failed()
    if settled != before:
        log.error(
            "%s has failed to start %d times: back to %s",
            describe_bundle(before.current),
            before.failed_starts,
            describe_bundle(settled.current),
        )
    if starting and before.on_trial:
        _record_start(store, before, settled.count_start())
    return settled


def _record_start(store: BundleStore, before: Selection, after: Selection) -> None:
    """Store the count before the bundle is opened, as that may crash the machine. A start that is
    stopped by a signal counts too: systemd ends one that takes too long this way."""
    try:
        with store.lock_selection():
            if store.read_selection() == before:  # else the selection has changed meanwhile
                store.write_selection(after)
    except (BundleError, OSError) as error:
        log.warning("starts of a new bundle are not counted: %s", error)


def _load_first_valid(
    store: BundleStore, selection: Selection, key: PublicKey | None, starting: bool
) -> BundleChoice:
    failure: BundleError | None = None
    for name in dict.fromkeys((selection.current, selection.previous, SHIPPED)):
        try:
            bundle = store.load(name, key)
        except BundleError as error:
            failure = failure or error
            if name != SHIPPED:
                log.error("%s is skipped: %s", describe_bundle(name), error)
            continue
        on_trial = starting and selection.on_trial
        return BundleChoice(bundle, store if on_trial else None, name, selection.failed_starts)
    assert failure is not None
    raise failure


def describe_bundle(name: str) -> str:
    """Name a bundle for a message."""
    return f"bundle {name}" if name else "the bundle that ships"

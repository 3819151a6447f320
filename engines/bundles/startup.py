"""What a start does about bundles: takes the one that is chosen, counts how often a new one fails,
and goes back by itself.

In: what the configuration says. Out: a `BundleChoice`, whose bundle has been verified, each file
read once. A bundle that was installed and is damaged, or not signed as is wanted, is passed over
with an error in the log; so is one that has failed to start twice. What is wrong with the state
folder itself is a warning: the start goes on, with the bundle that ships where nothing else is
known. That one is part of the program, and proven: of several that lie there, whichever is the
newest may be the one that was given up."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from .manifest import DEFAULT_BUNDLE, Bundle, BundleError, load_bundle
from .selection import SHIPPED, Selection, find_state_folder
from .signature import PublicKey, load_public_key
from .store import BundleStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BundleChoice:
    """The bundle of a run."""

    bundle: Bundle
    trial: BundleStore | None = None
    """Where a trial is going on, though maybe of another that was passed over."""
    name: str = SHIPPED
    """Of an installed bundle."""
    failed_before: int = 0
    """Starts on trial that had failed before this one."""

    def mark_good(self) -> None:
        """The run goes well: the trial is over. Raises nothing; once is enough."""
        if self._change(lambda selection: selection.end_trial()):
            log.info("bundle %s has started well, its trial is over", self.name)

    def discount(self) -> None:
        """This start does not count, and the trial goes on: whatever ends the run or keeps it from
        results is not the bundle. Raises nothing; once is enough."""
        self._change(lambda selection: replace(selection, failed_starts=self.failed_before))

    def _change(self, change: Callable[[Selection], Selection]) -> bool:
        """Whether the trial still was going on, and what came of it is on the disk."""
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
            log.warning("the trial of bundle %s cannot be brought up to date: %s", self.name, error)
            return False
        return True


def choose_bundle(
    configured: str = "",
    public_key: str = "",
    *,
    starting: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> BundleChoice:
    """The bundle `configured` (a folder) or the one that is chosen; with `starting`, as a run does
    that will confirm it, a start on trial is counted. `public_key` is a PEM file. Raises
    BundleError when no bundle can be had, ConfigError for a key that is none."""
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
    """What is chosen for this start."""
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
    """On the disk before anything is opened, as what is opened may take the machine down with it.
    A start that is told to stop counts too: that is how systemd ends one that takes too long."""
    try:
        with store.lock_selection():
            if store.read_selection() == before:  # else somebody has chosen meanwhile
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
                log.error("%s is passed over: %s", describe_bundle(name), error)
            continue
        on_trial = starting and selection.on_trial
        return BundleChoice(bundle, store if on_trial else None, name, selection.failed_starts)
    assert failure is not None
    raise failure


def describe_bundle(name: str) -> str:
    """What people call a bundle."""
    return f"bundle {name}" if name else "the bundle that ships"

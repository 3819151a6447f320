"""The selected bundle of a device: `selection.json` and its transitions.

In: the file, and events such as an installation or a start. Out: an immutable `Selection`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from .schema import BundleError, Version

FORMAT = 1
SHIPPED = ""
"""Name of the bundle that ships with the program."""
MAX_FAILED_STARTS = 2
MAX_BYTES = 4096
SYSTEM_STATE = Path("/var/lib/emotion-edge")
"""State folder of the service, which commands share."""

Name = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")]


class Selection(msgspec.Struct, frozen=True):
    """The content of `selection.json`. Bundles are named by their folder, or `SHIPPED`."""

    format: int = FORMAT
    current: Name = SHIPPED
    previous: Name = SHIPPED
    """The target of a rollback."""
    on_trial: bool = False
    """The current bundle is not marked good yet."""
    failed_starts: Annotated[int, Meta(ge=0)] = 0
    """Starts on trial that were neither marked good nor discounted."""
    failed: Name = SHIPPED
    """The last bundle that was rolled back automatically; for people to read."""
    version: Version = 0
    """The highest version of a signed bundle that was installed: a later one has at least this.
    A rollback keeps it."""

    @property
    def in_use(self) -> set[str]:
        """Bundles that a running process may have loaded."""
        return {self.current, self.previous}

    def switch(self, name: str, version: int | None = None) -> Selection:
        """Select an installed bundle, on trial. The rollback target is the last bundle marked
        good, never one on trial. `version` replaces that of the selection."""
        good = self.previous if self.on_trial or name == self.current else self.current
        return Selection(
            current=name,
            previous=SHIPPED if good == name else good,
            on_trial=True,
            failed=SHIPPED if name == self.failed else self.failed,
            version=self.version if version is None else version,
        )

    def step_back(self) -> Selection:
        """Exchange current and previous; a second step undoes it. The shipped bundle needs no
        trial."""
        on_trial = self.previous != SHIPPED
        return replace(
            self.end_trial(), current=self.previous, previous=self.current, on_trial=on_trial
        )

    def abandon_failed(self) -> Selection:
        """Roll back after `MAX_FAILED_STARTS`. The failed bundle is no rollback target, so the
        shipped one is."""
        if not self.on_trial or self.failed_starts < MAX_FAILED_STARTS:
            return self
        return Selection(current=self.previous, failed=self.current, version=self.version)

    def count_start(self) -> Selection:
        """Count a start on trial as failed until it is marked good or discounted."""
        return replace(self, failed_starts=self.failed_starts + 1) if self.on_trial else self

    def end_trial(self) -> Selection:
        """Mark the current bundle good."""
        return replace(self, on_trial=False, failed_starts=0)


def find_state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return systemd's state directory, else EMOTION_EDGE_STATE, else an existing service folder,
    else the user's. Raises BundleError."""
    directory = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if directory:
        return Path(directory)
    if chosen := environment.get("EMOTION_EDGE_STATE"):
        return Path(chosen)
    if SYSTEM_STATE.is_dir():
        return SYSTEM_STATE
    home = environment.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local" / "state") / "emotion-edge"
    except RuntimeError as error:
        raise BundleError("no home folder: set EMOTION_EDGE_STATE to a folder") from error


def read_selection(file: Path) -> Selection:
    """Read `selection.json`; a missing file selects the shipped bundle. Raises BundleError for a
    damaged or unreadable one."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        selection = msgspec.json.decode(data, type=Selection)
    except FileNotFoundError:
        return Selection()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: damaged: {error}") from error
    if selection.format != FORMAT:
        raise BundleError(
            f"{file}: format is {selection.format}, allowed: {FORMAT}; another version of the"
            " program has written it"
        )
    return selection

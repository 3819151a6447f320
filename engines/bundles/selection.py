"""Which bundle of a device runs: what `selection.json` says, and what follows from it.

In: a file, or events. Out: a `Selection`; it is replaced, never changed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from .manifest import BundleError

FORMAT = 1
SHIPPED = ""
"""Name of the bundle that ships."""
MAX_FAILED_STARTS = 2
MAX_BYTES = 4096
SYSTEM_STATE = Path("/var/lib/emotion-edge")
"""Of the service; commands find it without being told."""

Name = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")]


class Selection(msgspec.Struct, frozen=True):
    """`selection.json`: which bundle runs. Names are those of folders, "" is the one that ships."""

    format: int = FORMAT
    current: Name = SHIPPED
    previous: Name = SHIPPED
    """What a step back leads to."""
    on_trial: bool = False
    """The current one has not run yet."""
    failed_starts: Annotated[int, Meta(ge=0)] = 0
    """Starts on trial so far that have not come to an end that was good."""
    failed: Name = SHIPPED
    """The last that was given up by itself; to be read by people."""

    @property
    def in_use(self) -> set[str]:
        """What a process may have been started with."""
        return {self.current, self.previous}

    def switch(self, name: str) -> Selection:
        """To a bundle that was installed. The way back leads to the last that has run; to one on
        trial only people go."""
        on_hand = self.previous if self.on_trial or name == self.current else self.current
        return Selection(
            current=name,
            previous=SHIPPED if on_hand == name else on_hand,
            on_trial=True,
            failed=SHIPPED if name == self.failed else self.failed,
        )

    def step_back(self) -> Selection:
        """To the one before, and by the next step forth again. The one that ships needs no trial:
        nothing is safer."""
        on_trial = self.previous != SHIPPED
        return replace(
            self.end_trial(), current=self.previous, previous=self.current, on_trial=on_trial
        )

    def abandon_failed(self) -> Selection:
        """Back to the one before, when the current one has failed to start too often. That one is
        then no way back, so what is left behind it is the one that ships."""
        if not self.on_trial or self.failed_starts < MAX_FAILED_STARTS:
            return self
        return Selection(current=self.previous, failed=self.current)

    def count_start(self) -> Selection:
        """Of a start on trial nobody knows yet whether it will fail."""
        return replace(self, failed_starts=self.failed_starts + 1) if self.on_trial else self

    def end_trial(self) -> Selection:
        return replace(self, on_trial=False, failed_starts=0)


def find_state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """systemd's state directory, else EMOTION_EDGE_STATE, else the service's where there is one,
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
    """Where there is no file yet, the bundle that ships is chosen. Raises BundleError for a file
    that is damaged or cannot be read."""
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

"""One progress display over all steps: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """Counts the steps. `clock` gives seconds."""

    num_steps: int = 1
    """All of them, as far as is known."""
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    timings: list[tuple[str, float]] = field(default_factory=list)
    """Name and duration in seconds of each finished step."""
    _current: tuple[str, float] | None = None
    _bar: Any = None

    def plan(self, num_steps: int) -> None:
        """Say how many steps there are."""
        self.num_steps = num_steps
        if self._bar is not None:
            self._bar.total = num_steps
            self._bar.refresh()

    def begin(self, name: str) -> None:
        """End the current step and begin another one."""
        self.end()
        if self._bar is None:
            self._bar = tqdm(
                total=self.num_steps,
                unit="step",
                bar_format="{desc}: {n_fmt} of {total_fmt} steps |{bar}| {elapsed}",
                disable=None,
                file=sys.stderr,
            )
        self._current = (name, self.clock())
        self._bar.set_description_str(name)
        if self._bar.disable:
            log.info("step %d of %d: %s", self.done + 1, self.num_steps, name)

    def end(self) -> None:
        """End the current step."""
        if self._current is None:
            return
        name, begun_s = self._current
        self.timings.append((name, self.clock() - begun_s))
        self._current = None
        self.done += 1
        self._bar.update(1)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

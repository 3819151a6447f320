"""What shows people that camera and microphone are read: an LED, a GPIO line, or the screen.
Neither is read while it is not on. `sys_root` stands in for / in tests.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from .. import config
from ..board import read_bytes, read_number, read_text
from ..clock import Clock, MonotonicClock
from ..config import ConfigError
from ..faults import FaultLog
from ..messages import CameraIndicator

logger = logging.getLogger(__name__)

FOLDERS = ("sys", "run")
"""A light is a file of the kernel's, or of a program that runs; never a document."""
MAX_BRIGHTNESS = 65535
NUMBER = re.compile(rb"\s*[0-9]{0,10}\s*")
TRIGGER = re.compile(r"\[([^\]]*)\]")
SCREEN_START_NS = 3_000_000_000
SCREEN_POLL_NS = 50_000_000


class IndicatorError(OSError):
    """The indicator cannot be turned on; one line that says which and why."""


class Light(Protocol):
    """What can be seen."""

    def turn_on(self) -> None:
        """Raises IndicatorError when it is not on afterwards."""

    def turn_off(self) -> None:
        """Raises OSError."""

    def is_on(self) -> bool:
        """By looking."""


class Indicator:
    """A light with the promise that camera and microphone are read only while it is on."""

    def __init__(self, light: Light, screens: Sequence[CameraIndicator] = ()) -> None:
        """`screens` say the same as the light, and are not waited for."""
        self.lit = False
        """Whether pictures and sound may be read; asked before each of them."""
        self._faults = FaultLog(logger, "indicator is back")
        self._light = light
        self._screens = screens
        self._wanted = False
        self._has_been_on = False

    @property
    def fault(self) -> str:
        """Why they may not, in one line."""
        return self._faults.fault

    def turn_on(self) -> None:
        """Raises IndicatorError when it cannot be turned on; `poll` tries again."""
        self._wanted = True
        self._try_turn_on()

    def poll(self) -> None:
        """Turn it on again where it went out. For one thread, twice a second."""
        if not self._wanted or (self.lit and self._light.is_on()):
            return
        self.lit = False
        with suppress(IndicatorError):
            self._try_turn_on()

    def _try_turn_on(self) -> None:
        try:
            self._light.turn_on()
        except IndicatorError as error:
            self._set_state(f"not capturing: {error}")
            raise
        self._set_state("")

    def _set_state(self, fault: str) -> None:
        self._faults.log_transition(fault)
        lit = not fault
        for screen in self._screens:
            screen.show_camera(lit)
        self.lit = lit
        self._has_been_on = self._has_been_on or lit

    def turn_off(self) -> None:
        """At the end. Does nothing when it never was on, and never raises."""
        wanted = self._wanted and self._has_been_on
        self._wanted = self.lit = False
        for screen in self._screens:
            screen.show_camera(False)
        if wanted:
            try:
                self._light.turn_off()
            except OSError as error:
                logger.warning("the indicator cannot be turned off: %s", error.strerror or error)

    def __enter__(self) -> Indicator:
        return self

    def __exit__(self, *_: object) -> None:
        self.turn_off()


def open_indicator(
    settings: config.Indicator, screens: Sequence[CameraIndicator], sys_root: Path = Path("/")
) -> Indicator:
    """Open the configured indicator without turning it on. Raises ConfigError."""
    if settings.kind == "file":
        return Indicator(FileLight(settings.file, sys_root), screens)
    if settings.kind == "screen":
        if not screens:
            raise ConfigError('indicator.kind is "screen", and output.sinks has no "screen"')
        return Indicator(ScreenLight(screens[0]), screens[1:])
    return Indicator(NoLight(), screens)


class NoLight:
    """For where people know by other means that a camera is read."""

    def turn_on(self) -> None: ...

    def turn_off(self) -> None: ...

    def is_on(self) -> bool:
        return True


class ScreenLight:
    """The screen, which says that the camera is on before it is."""

    def __init__(self, screen: CameraIndicator, clock: Clock | None = None) -> None:
        self._screen = screen
        self._clock = clock or MonotonicClock()
        self._give_up_ns: int | None = None

    def turn_on(self) -> None:
        """The first time, the screen is given a while: it may have been opened just now."""
        self._screen.show_camera(True)
        if self._give_up_ns is None:
            self._give_up_ns = self._clock.now_ns() + SCREEN_START_NS
        never = threading.Event()
        while not self._screen.showing:
            now_ns = self._clock.now_ns()
            if now_ns >= self._give_up_ns:
                raise IndicatorError("the screen is the indicator, and no monitor shows it")
            self._clock.sleep_until_ns(now_ns + SCREEN_POLL_NS, never)

    def turn_off(self) -> None:
        self._screen.show_camera(False)

    def is_on(self) -> bool:
        return self._screen.showing


class FileLight:
    """A file that holds a number: an LED's `brightness`, a GPIO line's `value`.

    An LED gets its `max_brightness`, as 1 of 255 cannot be seen; everything else gets 1.
    """

    def __init__(self, file: str, sys_root: Path = Path("/")) -> None:
        """ConfigError when `file` is no place for one; it may be missing."""
        self._name = file
        self._sys_root = sys_root
        self._file = find_file(file, sys_root)

    def turn_on(self) -> None:
        try:
            self._file = find_file(self._name, self._sys_root)  # a device may be elsewhere by now
        except ConfigError as error:
            raise IndicatorError(str(error)) from error
        problem = explain_unusable(self._file)
        if problem:
            raise self._fail(problem)
        number = self._find_number()
        try:
            write_number(self._file, number)
        except OSError as error:
            raise self._fail(error.strerror or str(error)) from error
        if not self.is_on():
            raise self._fail(f"{number} was written, it says {read_text(str(self._file))}")

    def turn_off(self) -> None:
        write_number(self._file, 0)

    def is_on(self) -> bool:
        """A file that cannot be read is written once more instead."""
        if read_trigger(self._file):
            return False
        number = self._find_number()
        state = read_bytes(str(self._file))
        if state is not None:
            return state.strip() == b"%d" % number
        try:
            write_number(self._file, number)
        except OSError:
            return False
        return True

    def _fail(self, why: str) -> IndicatorError:
        return IndicatorError(f"indicator {self._name} cannot be turned on: {why}")

    def _find_number(self) -> int:
        return read_number(str(self._file.with_name("max_brightness")), 1, MAX_BRIGHTNESS) or 1


def find_file(file: str, sys_root: Path = Path("/")) -> Path:
    """Where `file` leads. ConfigError when that is no place for a light; it may be missing."""
    path = Path(os.path.realpath(sys_root / file.lstrip("/")))
    allowed = [(sys_root / folder).resolve() for folder in FOLDERS]
    if not file.startswith("/") or not any(folder in path.parents for folder in allowed):
        what = "no file under /sys or /run, such as /sys/class/leds/NAME/brightness"
        raise ConfigError(f"indicator.file is {file!r}: {what}")
    return path


def explain_unusable(file: Path) -> str:
    """Why it cannot be a light just now; "" when it can. Looks only."""
    try:
        is_file = stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        return error.strerror or str(error)
    state = read_bytes(str(file)) if is_file else None
    if not is_file or (state is not None and not NUMBER.fullmatch(state)):
        return "it is not a file that holds a number"
    trigger = read_trigger(file)
    if trigger:
        how = f"echo none | sudo tee {file.with_name('trigger')}"
        return f"its trigger {trigger!r} would switch it: {how}"
    return ""


def read_trigger(file: Path) -> str:
    """What else switches this LED, such as "heartbeat"; "" for nothing, and for all but LEDs."""
    match = TRIGGER.search(read_text(str(file.with_name("trigger")), 65536) or "")
    return match[1] if match and match[1] != "none" else ""


def write_number(file: Path, number: int) -> None:
    """Into a file that exists, not through a link. Raises OSError."""
    data = b"%d\n" % number
    how = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(file, how)
    try:
        if os.write(opened, data) != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    finally:
        os.close(opened)

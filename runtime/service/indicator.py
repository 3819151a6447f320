"""The capture indicator: an LED, a GPIO line or the screen.

Camera and microphone are read only while it is on. `sys_root` replaces / in tests.
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

from ... import Error
from .. import config
from ..board import read_bytes, read_number, read_text
from ..clock import Clock, MonotonicClock
from ..config import ConfigError
from ..faults import FaultLog
from ..messages import CameraIndicator

logger = logging.getLogger(__name__)

FOLDERS = ("sys", "run")
"""A light is a file of the kernel or of a running program, never a document."""
MAX_BRIGHTNESS = 65535
NUMBER = re.compile(rb"\s*[0-9]{0,10}\s*")
TRIGGER = re.compile(r"\[([^\]]*)\]")
SCREEN_START_NS = 3_000_000_000
SCREEN_POLL_NS = 50_000_000


class IndicatorError(Error, OSError):
    """The indicator cannot be turned on; the message names it and the reason, in one line."""


class Light(Protocol):
    """A visible light."""

    def turn_on(self) -> None:
        """Turn it on. Raises IndicatorError when it is not on afterwards."""

    def turn_off(self) -> None:
        """Turn it off. Raises OSError."""

    def is_on(self) -> bool:
        """Return its actual state."""


class Indicator:
    """A light, and the permission to read camera and microphone while it is on."""

    def __init__(self, light: Light, screens: Sequence[CameraIndicator] = ()) -> None:
        """`screens` show the same state; the indicator does not wait for them."""
        self.lit = False
        """Whether frames and audio may be read; checked before each of them."""
        self._faults = FaultLog(logger, "indicator is back")
        self._light = light
        self._screens = screens
        self._wanted = False
        self._has_been_on = False

    @property
    def fault(self) -> str:
        """The reason why they may not, in one line."""
        return self._faults.fault

    def turn_on(self) -> None:
        """Turn it on. Raises IndicatorError; then `poll` tries again."""
        self._wanted = True
        self._try_turn_on()

    def poll(self) -> None:
        """Turn it on again if it is off. For one thread, twice a second."""
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
        """Turn it off at the end, if it ever was on. Never raises."""
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
    """No light, for places where a notice announces the camera."""

    def turn_on(self) -> None: ...

    def turn_off(self) -> None: ...

    def is_on(self) -> bool:
        return True


class ScreenLight:
    """The screen, which shows that the camera is on before it is."""

    def __init__(self, screen: CameraIndicator, clock: Clock | None = None) -> None:
        self._screen = screen
        self._clock = clock or MonotonicClock()
        self._give_up_ns: int | None = None

    def turn_on(self) -> None:
        """Turn it on. The first call waits `SCREEN_START_NS` for the screen to start."""
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
        """`file` may be missing. Raises ConfigError for a path that can be no light."""
        self._name = file
        self._sys_root = sys_root
        self._file = find_file(file, sys_root)

    def turn_on(self) -> None:
        try:
            self._file = find_file(self._name, self._sys_root)  # its device may have moved
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
            raise self._fail(f"{number} was written, but {read_text(str(self._file))} was read")

    def turn_off(self) -> None:
        write_number(self._file, 0)

    def is_on(self) -> bool:
        """Return whether it is on. A write-only file is written again."""
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
    """Resolve the path of a light, which may be missing. Raises ConfigError for another path."""
    path = Path(os.path.realpath(sys_root / file.lstrip("/")))
    allowed = [(sys_root / folder).resolve() for folder in FOLDERS]
    if not file.startswith("/") or not any(folder in path.parents for folder in allowed):
        raise ConfigError(
            f"indicator.file is {file!r}: not a file under /sys or /run such as"
            " /sys/class/leds/NAME/brightness"
        )
    return path


def explain_unusable(file: Path) -> str:
    """Return the reason why `file` cannot be a light now; "" for none. Writes nothing."""
    try:
        is_file = stat.S_ISREG(file.stat().st_mode)
    except OSError as error:
        return error.strerror or str(error)
    state = read_bytes(str(file)) if is_file else None
    if not is_file or (state is not None and not NUMBER.fullmatch(state)):
        return "it is not a file that holds a number"
    trigger = read_trigger(file)
    if trigger:
        remedy = f"echo none | sudo tee {file.with_name('trigger')}"
        return f"its trigger {trigger!r} would switch it: {remedy}"
    return ""


def read_trigger(file: Path) -> str:
    """Return the trigger that switches an LED, such as "heartbeat"; "" for none."""
    match = TRIGGER.search(read_text(str(file.with_name("trigger")), 65536) or "")
    return match[1] if match and match[1] != "none" else ""


def write_number(file: Path, number: int) -> None:
    """Write to an existing file, but not through a link. Raises OSError."""
    data = b"%d\n" % number
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(file, flags)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    finally:
        os.close(descriptor)

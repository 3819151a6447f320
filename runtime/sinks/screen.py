"""Estimates on a monitor, full screen, without a desktop.

In: estimates, of which the newest is shown; what is wrong; that the camera is on; its pictures
where they are wanted. Out: pictures on the first connected monitor, and whether they are seen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from ..clock import Clock, MonotonicClock
from ..messages import Estimate, VideoFrame
from .drm_device import Handle
from .glyphs import check_pillow
from .hotplug import LOOK_NS, HotplugDisplay, OpenHandle
from .kms import Rect
from .scene import TICK_NS, SceneMaker
from .screen_picture import shrink_picture
from .screen_view import ACCENTS, ScreenView

log = logging.getLogger(__name__)

PICTURE_NS = 200_000_000
"""Between two of the camera's pictures."""
STALE_NS = 2_000_000_000
"""A picture that is older is taken off the screen."""
HANGS_NS = 10_000_000_000
"""Our thread looks every second; one that has not for so long waits for a driver that hangs."""
CLOSE_LIMIT_S = 3.0


class ScreenSink:
    """Shows the newest estimate. `publish` only keeps it: all else happens in a thread of its own,
    which goes on without a monitor, and when one is plugged in."""

    def __init__(
        self,
        card: str,
        notice: str,
        budget_ms: float,
        *,
        clock: Clock | None = None,
        sys_root: Path = Path("/"),
        open_handle: OpenHandle = Handle,
    ) -> None:
        """`card`: /dev/dri/cardN, or "" for the first with a monitor. `budget_ms` is what latency
        is compared with. ValueError without Pillow, or when `card` is no card's name; whether
        there is a card or a monitor does not matter yet."""
        check_pillow()
        self._display = HotplugDisplay(card, sys_root, open_handle)
        self._clock = clock or MonotonicClock()
        self._notice = notice
        self._scenes = SceneMaker(tuple(ACCENTS), budget_ms)
        self._view: ScreenView | None = None
        self._newest: tuple[int, Estimate] | None = None
        self._taken = 0
        self._count = 0
        self._troubles: tuple[str, ...] = ()
        self._camera_on = self._camera_shown = False
        self._newest_picture: Callable[[], VideoFrame | None] | None = None
        self._picture_due_ns = 0
        self._looked_ns = self._clock.now_ns()
        self.failure: Exception | None = None
        """A mistake of ours that has ended the thread."""
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """ "" when estimates are on a monitor, else why they are not."""
        return "screen: its driver does not answer" if self._hangs else self._display.trouble

    @property
    def showing(self) -> bool:
        """What `show_camera` was last told is on a monitor that is connected, with the notice."""
        seen = self._display.showing and self._camera_shown == self._camera_on
        return seen and not self._hangs and self.failure is None

    @property
    def _hangs(self) -> bool:
        return self._clock.now_ns() - self._looked_ns > HANGS_NS

    def publish(self, estimate: Estimate) -> None:
        """Keep it for the next drawing: microseconds. Raises what has ended the thread."""
        if self.failure is not None:
            raise self.failure
        self._count += 1
        self._newest = self._count, estimate
        self._wake.set()

    def show_troubles(self, troubles: tuple[str, ...]) -> None:
        """What is wrong with the run, to be read by people in front of the screen."""
        if troubles != self._troubles:
            self._troubles = troubles
            self._wake.set()

    def show_camera(self, on: bool) -> None:
        """Whether the camera may be read, to be known by people in front of the screen."""
        if on != self._camera_on:
            self._camera_on = on
            self._wake.set()

    def show_picture(self, newest: Callable[[], VideoFrame | None]) -> None:
        """From now on show the camera's picture too: `newest` is asked for it by our thread."""
        self._newest_picture = newest
        self._wake.set()

    def close(self) -> None:
        """Make the screen black, leave no picture in memory and give the console back."""
        self._stop.set()
        self._wake.set()
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive():
            log.error("the screen's driver has not answered for %g s", CLOSE_LIMIT_S)

    def __enter__(self) -> ScreenSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                began_ns = self._looked_ns = self._clock.now_ns()
                wait_ns = self._turn(began_ns)
                self._wake.wait(wait_ns / 1e9)
                self._wake.clear()
                self._clock.sleep_until_ns(began_ns + TICK_NS, self._stop)
        except Exception as error:  # noqa: BLE001  it must not vanish with the thread
            self.failure = error
        finally:
            self._display.close()
            if self._view is not None:
                self._view.wipe()

    def _turn(self, now_ns: int) -> int:
        """Look after the monitor and bring it up to date; how long the next turn can wait."""
        fresh = self._display.look(now_ns)
        newest = self._newest
        if newest is not None and newest[0] != self._taken:
            self._taken, estimate = newest
            self._scenes.take(estimate, self._taken, now_ns)
        self._scenes.say_trouble(self._troubles)
        camera_on = self._camera_on
        self._scenes.say_camera(camera_on)
        size = self._display.size
        if size is None:
            return LOOK_NS
        view, redrawn = self._fit_view(size)
        changed = view.draw(self._scenes.make(now_ns))
        changed += self._draw_picture(view, now_ns)
        if changed or fresh or redrawn:
            whole = [Rect(0, 0, *size)]
            self._display.show(view.pixels, whole if redrawn else changed)
        self._camera_shown = camera_on
        if not self._scenes.settled:
            return TICK_NS
        return LOOK_NS if self._newest_picture is None else PICTURE_NS

    def _fit_view(self, size: tuple[int, int]) -> tuple[ScreenView, bool]:
        """The view, and whether it is another one than before."""
        wanted = size, self._scenes.labels, self._newest_picture is not None
        view = self._view
        if view is not None and (view.size, view.labels, view.has_picture) == wanted:
            return view, False
        if view is not None:
            view.wipe()
        view = ScreenView(
            *size,
            self._notice,
            self._scenes.labels,
            picture=self._newest_picture is not None,
        )
        self._view = view
        return view, True

    def _draw_picture(self, view: ScreenView, now_ns: int) -> list[Rect]:
        if self._newest_picture is None or now_ns < self._picture_due_ns:
            return []
        self._picture_due_ns = now_ns + PICTURE_NS
        box = view.picture_box
        width, height = box.x1 - box.x0, box.y1 - box.y0
        frame = self._newest_picture()
        if not width or frame is None or now_ns - frame.t_ns > STALE_NS:
            return view.show_picture(None)
        return view.show_picture(shrink_picture(frame, width, height))

"""The sink for a monitor: full screen, without a desktop.

In: estimates, of which the newest is shown; faults; the state of the camera; its frames, where a
preview is configured. Out: the view on the first connected monitor, and whether it is visible.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from ...clock import Clock, MonotonicClock
from ...messages import Estimate, FaceEstimate, RunInfo, VideoFrame
from .accents import ACCENTS
from .display import Rect
from .drm import Handle
from .hotplug import POLL_NS, HotplugDisplay, OpenHandle
from .scene import TICK_NS, SceneBuilder
from .view import ScreenView, scale_frame
from .widgets import check_pillow

log = logging.getLogger(__name__)

PREVIEW_PERIOD_NS = 200_000_000
"""Between two frames of the preview."""
BOXES_NS = 500_000_000
"""Boxes of an estimate this far from the frame are not drawn: the faces may be elsewhere."""
STALE_NS = 2_000_000_000
"""An older preview is removed from the screen."""
HANG_TIMEOUT_NS = 5_000_000_000
"""The thread polls every second; without a poll for this time, the driver hangs. Half of the
service's watchdog, so that the fault is named before that ends the program."""
CLOSE_TIMEOUT_S = 3.0


class ScreenSink:
    """Shows the newest estimate. `publish` only stores it: a thread of its own does the rest, with
    or without a monitor."""

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
        """`card`: /dev/dri/cardN, or "" for the first with a monitor. `budget_ms`: an estimate of
        a higher latency is late. Raises ValueError without Pillow, or when `card` is not the name
        of a card. A missing card or monitor is a fault, not an error."""
        check_pillow()
        self._display = HotplugDisplay(card, sys_root, open_handle)
        self._clock = clock or MonotonicClock()
        self._notice = notice
        self._labels = tuple(ACCENTS)
        self._scene_builder = SceneBuilder(self._labels, budget_ms)
        self._view: ScreenView | None = None
        self._info: RunInfo | None = None
        self._newest: tuple[int, Estimate] | None = None
        self._drawn_count = 0
        self._count = 0
        self._faults: tuple[str, ...] = ()
        self._camera_on = self._camera_shown = False
        self._newest_frame: Callable[[], VideoFrame | None] | None = None
        self._preview_due_ns = 0
        self._last_turn_ns = self._clock.now_ns()
        self.failure: Exception | None = None
        """The programming error that ended the thread."""
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """The reason why no estimate is visible; "" for none."""
        return "screen: its driver does not respond" if self._is_hung else self._display.fault

    @property
    def showing(self) -> bool:
        """Whether a connected monitor shows the notice and the last state of `show_camera`."""
        visible = self._display.showing and self._camera_shown == self._camera_on
        return visible and not self._is_hung and self.failure is None

    @property
    def _is_hung(self) -> bool:
        return self._clock.now_ns() - self._last_turn_ns > HANG_TIMEOUT_NS

    def publish(self, estimate: Estimate) -> None:
        """Store the newest estimate, in microseconds. Raises the error that ended the thread."""
        if self.failure is not None:
            raise self.failure
        self._count += 1
        self._newest = self._count, estimate
        self._wake.set()

    def begin(self, info: RunInfo) -> None:
        """Show a bar for each of the bundle's labels, whether it is the demo, and whether there is
        a microphone."""
        self._info, self._labels = info, info.labels
        self._wake.set()

    def show_faults(self, faults: tuple[str, ...]) -> None:
        """Show the faults of the run."""
        if faults != self._faults:
            self._faults = faults
            self._wake.set()

    def show_camera(self, on: bool) -> None:
        """Show whether camera and microphone may be read."""
        if on != self._camera_on:
            self._camera_on = on
            self._wake.set()

    def show_preview(self, newest: Callable[[], VideoFrame | None]) -> None:
        """Start to show the camera's frames: the sink's thread calls `newest` for them."""
        self._newest_frame = newest
        self._wake.set()

    def close(self) -> None:
        """Blank the screen, clear the frames in memory and release the console."""
        self._stop.set()
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("the screen's driver has not responded for %g s", CLOSE_TIMEOUT_S)

    def __enter__(self) -> ScreenSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                began_ns = self._last_turn_ns = self._clock.now_ns()
                wait_ns = self._refresh(began_ns)
                self._wake.wait(wait_ns / 1e9)
                self._wake.clear()
                self._clock.sleep_until_ns(began_ns + TICK_NS, self._stop)
        except Exception as error:  # noqa: BLE001  raised by `publish` and the monitor
            self.failure = error
        finally:
            self._display.close()
            if self._view is not None:
                self._view.wipe()

    def _refresh(self, now_ns: int) -> int:
        """Poll the monitor and update it. Return the time until the next refresh."""
        fresh = self._display.poll(now_ns)
        newest = self._newest
        if newest is not None and newest[0] != self._drawn_count:
            self._drawn_count, estimate = newest
            self._scene_builder.set_estimate(estimate, self._drawn_count, now_ns)
        elif newest is None:
            self._scene_builder.set_labels(self._labels)
        self._scene_builder.set_faults(self._faults)
        self._scene_builder.set_info(self._info)
        camera_on = self._camera_on
        self._scene_builder.set_camera_on(camera_on)
        size = self._display.size
        if size is None:
            return POLL_NS
        view, redrawn = self._fit_view(size)
        changed = view.draw(self._scene_builder.make(now_ns))
        changed += self._draw_preview(view, now_ns)
        if changed or fresh or redrawn:
            full_rect = [Rect(0, 0, *size)]
            self._display.show(view.pixels, full_rect if redrawn else changed)
        self._camera_shown = camera_on
        if not self._scene_builder.settled:
            return TICK_NS
        return POLL_NS if self._newest_frame is None else PREVIEW_PERIOD_NS

    def _fit_view(self, size: tuple[int, int]) -> tuple[ScreenView, bool]:
        """Return the view of this size, and whether it is a new one."""
        wanted = size, self._scene_builder.labels, self._newest_frame is not None
        view = self._view
        if view is not None and (view.size, view.labels, view.has_preview) == wanted:
            return view, False
        if view is not None:
            view.wipe()
        view = ScreenView(
            *size,
            self._notice,
            self._scene_builder.labels,
            preview=self._newest_frame is not None,
        )
        self._view = view
        return view, True

    def _draw_preview(self, view: ScreenView, now_ns: int) -> list[Rect]:
        if self._newest_frame is None or now_ns < self._preview_due_ns:
            return []
        self._preview_due_ns = now_ns + PREVIEW_PERIOD_NS
        box = view.preview_box
        width, height = box.x1 - box.x0, box.y1 - box.y0
        frame = self._newest_frame()
        if not width or frame is None or now_ns - frame.t_ns > STALE_NS:
            return view.show_preview(None)
        newest = self._newest
        faces: tuple[FaceEstimate, ...] = ()
        if newest is not None and abs(frame.t_ns - newest[1].t_ns) <= BOXES_NS:
            faces = newest[1].faces
        return view.show_preview(scale_frame(frame, width, height, faces, view.accents))

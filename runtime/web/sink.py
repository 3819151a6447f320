"""The sink for a page: it feeds the process that serves it.

In: estimates, health, the source's name, and the camera's frames. Out: messages to that process, at
most `RATE` estimates a second, and a picture only where `web.picture` is on.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import cv2
import msgspec

from ...kernels.bgr_image import resize_to_bgr
from ...kernels.pixels import image_size
from .. import config
from ..clock import Clock, MonotonicClock, find_next_tick_ns
from ..messages import Estimate, Health, RunInfo, VideoFrame
from ..service import HELPER_PRIORITY, realtime_priority, run_in_background
from .listener import check_libraries, open_listener
from .process import ServerProcess
from .wire import ESTIMATE, HEALTH, PICTURE, Picture, Settings

log = logging.getLogger(__name__)

TICK_NS = 1_000_000_000 // 15
PICTURE_NS = 200_000_000
"""Between two pictures."""
PICTURE_PX = 640
"""Width of a picture; a narrower frame keeps its own."""
JPEG_QUALITY = 75
BOXES_NS = 500_000_000
"""The faces of an estimate this far from the picture are not sent with it."""
STALE_NS = 2_000_000_000
"""An older frame is not sent."""
CLOSE_TIMEOUT_S = 5.0


class WebSink:
    """`publish` only stores the newest estimate: a thread of its own does the rest."""

    def __init__(
        self,
        settings: config.Web,
        budget_ms: float,
        encode: Callable[[Estimate], bytes],
        *,
        realtime: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`encode` returns the JSON of an estimate. `realtime`: the thread gets a real-time
        priority, where permitted. Raises ConfigError for a wrong address and without aiohttp, and
        ListenError for a port that is taken."""
        check_libraries("web", settings.port)
        listener = open_listener("web", settings.address, settings.port)
        self._clock = clock or MonotonicClock()
        self._process = ServerProcess(
            listener,
            Settings("page", settings.address, settings.max_clients, settings.picture, budget_ms),
            self._clock,
        )
        self._encode = encode
        self._with_picture = settings.picture
        self._realtime = realtime
        self.url = make_url(settings.address, self._process.port)
        self.failure: Exception | None = None
        """The programming error that ended the thread."""
        self._newest: Estimate | None = None
        self._sent: Estimate | None = None
        self._health: Health | None = None
        self._sent_health: Health | None = None
        self._source = ""
        self._newest_frame: Callable[[], VideoFrame | None] | None = None
        self._picture_due_ns = self._picture_ns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """Why no page is served; "" for no reason."""
        return self._process.fault

    @property
    def dropped(self) -> int:
        """Messages for which the page's process had no room."""
        return self._process.dropped

    def publish(self, estimate: Estimate) -> None:
        """Store the newest estimate. Raises the error that ended the thread."""
        if self.failure is not None:
            raise self.failure
        self._newest = estimate

    def show_health(self, health: Health) -> None:
        """Show how the run is doing."""
        self._health = health

    def begin(self, info: RunInfo) -> None:
        """Show the source's name."""
        self._source = info.source

    def show_frames(self, newest: Callable[[], VideoFrame | None]) -> None:
        """Use the frames that `newest` returns: their size, and their image where it is shown."""
        self._newest_frame = newest

    def close(self) -> None:
        """End the page's process."""
        self._stop.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("the page's thread did not stop")

    def __enter__(self) -> WebSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            with realtime_priority(self._realtime, HELPER_PRIORITY) as realtime:
                if not realtime:
                    run_in_background()
                self._loop()
        except Exception as error:  # noqa: BLE001  raised by `publish` and the monitor
            self.failure = error
        finally:
            self._newest_frame = None
            self._process.close()

    def _loop(self) -> None:
        due_ns = self._clock.now_ns()
        stopped = False
        while not stopped:
            self._turn(self._clock.now_ns())
            due_ns = find_next_tick_ns(due_ns, TICK_NS, self._clock.now_ns())
            stopped = self._clock.sleep_until_ns(due_ns, self._stop)

    def _turn(self, now_ns: int) -> None:
        """Send what is new."""
        if self._process.tick():
            self._sent = self._sent_health = None
        self._send_health()
        if self._with_picture and now_ns >= self._picture_due_ns:
            self._picture_due_ns = now_ns + PICTURE_NS
            self._send_picture(now_ns)
        self._send_estimate()

    def _find_frame(self) -> VideoFrame | None:
        return self._newest_frame() if self._newest_frame is not None else None

    def _send_health(self) -> None:
        health = self._health
        if health is not None and health is not self._sent_health:
            fields = list_health(health, self._source, self._find_frame(), self.dropped)
            # float: a library may have made a number of its own type of it.
            if self._process.send(HEALTH + msgspec.json.encode(fields, enc_hook=float)):
                self._sent_health = health

    def _send_estimate(self) -> None:
        newest = self._newest
        if newest is not None and newest is not self._sent:
            self._sent = newest
            self._process.send(ESTIMATE + self._encode(newest))

    def _send_picture(self, now_ns: int) -> None:
        frame = self._find_frame()
        if frame is None or frame.t_ns == self._picture_ns or now_ns - frame.t_ns > STALE_NS:
            return
        self._picture_ns = frame.t_ns
        newest = self._newest
        faces = msgspec.Raw(b"[]")
        if newest is not None and abs(frame.t_ns - newest.t_ns) <= BOXES_NS:
            faces = msgspec.json.decode(self._encode(newest), type=_Faces).faces
        self._process.send(PICTURE + msgspec.json.encode(make_picture(frame, faces)))


class _Faces(msgspec.Struct):
    """The part of an estimate's JSON that goes with a picture."""

    faces: msgspec.Raw


def make_picture(frame: VideoFrame, faces: msgspec.Raw) -> Picture:
    """Return the frame scaled down, as JPEG."""
    height, width = image_size(frame.image, frame.format)
    scale = min(1.0, PICTURE_PX / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = resize_to_bgr(frame.image, frame.format, *size, cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    small.fill(0)
    return Picture(jpeg.tobytes(), width, height, frame.t_ns, faces)


def list_health(
    health: Health, source: str, frame: VideoFrame | None, dropped: int
) -> dict[str, Any]:
    """Return what the page shows of the run. `dropped`: messages to the page that were dropped."""
    size = None
    if frame is not None:
        height, width = image_size(frame.image, frame.format)
        size = width, height
    names = ("fps", "latency_p50_ms", "latency_p99_ms", "latency_max_ms", "misses", "skipped")
    return {
        **{name: getattr(health, name) for name in names},
        "drops": {**health.drops, "page_messages": dropped},
        "faults": health.faults,
        "source": source,
        "frame": size,
    }


def make_url(address: str, port: int) -> str:
    """Return the page's URL, by the machine's name if `address` stands for all of its addresses."""
    host = socket.gethostname() if address in {"0.0.0.0", "::"} else address
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def print_url(url: str) -> None:
    """Tell the user where the page is."""
    sys.stderr.write(f"the page: {url}\n")
    sys.stderr.flush()

"""A camera through dusty-nv's jetson-utils: pictures in memory that CPU and GPU both read.

In: a CSI sensor or a V4L2 device. Out: `VideoFrame`s over jetson-utils' own ring of page-locked,
mapped buffers, unconverted where our kernels read the format: NV12 from CSI, YUYV from webcams.

How many copies: the CPU copies each picture once, from GStreamer's buffer into that ring, before
Capture returns. Before that, a CSI picture is moved out of the camera's memory by the video
converter (VIC), which takes no CPU time and is not counted; a compressed picture is decoded, which
is. So "zero copy" means here that the GPU reads what the CPU wrote, and no more.

Times: jetson-utils stamps with GStreamer's running time. On CSI that is what nvarguscamerasrc says;
for raw V4L2 pictures it is when GStreamer *received* them, because `do-timestamp` fills in the DTS
and jetson-utils prefers it to the PTS, which is the driver's. `v4l2.py` has the driver's own time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from typing import Any

from ..clock import Clock
from ..messages import CapturePath, SourceError, VideoFrame
from . import jetson_utils as jetson
from .camera import CameraSettings
from .timestamps import ARRIVAL_CLOCK, CaptureClock, FrameCounter

_LOG = logging.getLogger(__name__)

FRAME_LIFETIME_S = 0.25
"""How long a picture's bytes stay as they are. The camera goes on writing into the ring, whether
anybody reads or not: a picture must outlive the 45 ms budget, and the wait of the face finder,
which runs at low priority and first of all makes a small copy."""

RUNNING_TIME = "gstreamer running time"

_WAIT_MS = 200  # so that a reader soon notices a close
_STALL_TIMEOUT_NS = 1_000_000_000
_START_TIMEOUT_NS = 5_000_000_000  # the camera starts inside the first Capture; Argus takes long


class JetsonCamera:
    """A VideoSource over one camera. Raises SourceError when it cannot be opened or fails."""

    def __init__(
        self,
        uri: str,
        clock: Clock,
        settings: CameraSettings,
    ) -> None:
        """`uri`: csi://0 or /dev/video0. The GPU can read the memory whatever `settings` says."""
        self.name = f"camera {uri}"
        self.timeouts = 0
        """Times that no picture came within 0.2 s."""
        self.retries = 0
        """Captures that failed and were tried again."""
        self._clock = clock
        self._for_gpu = settings.for_gpu
        self._closed = threading.Event()
        self._read_lock = threading.Lock()  # Capture would open again what is closed while it waits
        self._format = jetson.RAW
        self._conversion: jetson.Conversion | None = None
        self._failed = self._warned = False
        self._num_frames = 0
        self._opened_ns = self._newest_ns = -1  # the first Capture; the newest picture
        self._timestamp_ns = 0
        self._domain = RUNNING_TIME
        jetson_uri = jetson.parse_uri(uri)
        self._library: Any = jetson.import_jetson_utils()
        buffers = count_ring_buffers(settings.fps)
        self._source: Any = jetson.create_source(
            self._library, jetson_uri, settings, num_buffers=buffers
        )
        rate = self._source.GetFrameRate() or settings.fps
        self._times = CaptureClock()
        self._count = FrameCounter(1e9 / rate)
        codec = str(self._source.GetOptions().get("codec", "raw")).lower()
        self._copies = 1 if codec in {"raw", "unknown"} else 2
        _LOG.info(
            "%s: %dx%d (%s) at %.4g pictures a second, %d buffers",
            self.name,
            self._source.GetWidth(),
            self._source.GetHeight(),
            codec,
            rate,
            buffers,
        )
        if buffers < rate * FRAME_LIFETIME_S:
            _LOG.warning(
                "%s gives %.4g pictures a second, more than asked for: each is overwritten after "
                "%.0f ms",
                self.name,
                rate,
                1000 * buffers / rate,
            )

    @property
    def path(self) -> CapturePath:
        """How pictures get here; the clock is that of the newest one."""
        return CapturePath(self._copies, self._domain, "pinned" if self._for_gpu else "none")

    def read(self) -> VideoFrame | None:
        """The next picture, good for `FRAME_LIFETIME_S`. None when closed.

        Waits for a second at most, for the first picture five.
        """
        try:
            with self._read_lock:
                return self._read()
        finally:
            if self._closed.is_set():
                self._release()

    def close(self) -> None:
        """Stop the camera, or let the read that waits in jetson-utils do it.

        Pictures that were handed out keep their memory: it is freed with the last of them.
        """
        self._closed.set()
        self._release()

    def __enter__(self) -> JetsonCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release(self) -> None:
        if self._read_lock.acquire(blocking=False):
            try:
                source, self._source = self._source, None
                if source is not None:
                    with contextlib.suppress(Exception):  # it may have gone wrong long ago
                        source.Close()
                if self._conversion is not None:
                    self._conversion.close()
                    self._conversion = None
            finally:
                self._read_lock.release()

    def _read(self) -> VideoFrame | None:
        while not self._closed.is_set():
            image = self._capture()
            if image is None:
                continue
            if image.format not in jetson.FORMATS:
                self._convert_from(image.format)
                continue
            pixels = jetson.view_image(self.name, image, self._source)
            if self._conversion is not None:
                self._conversion.wait()
            t_ns, index = self._place(image.timestamp, self._newest_ns)
            return VideoFrame(t_ns, index, pixels, jetson.FORMATS[image.format], image.ptr)
        return None

    def _capture(self) -> Any:
        """One picture, or None when it has to be tried again."""
        if self._opened_ns < 0:
            self._opened_ns = self._newest_ns = self._clock.now_ns()
        stream = 0 if self._conversion is None else self._conversion.stream
        try:
            image = self._source.Capture(format=self._format, timeout=_WAIT_MS, stream=stream)
        except Exception as error:
            if self._failed:
                raise SourceError(f"{self.name} failed twice: {jetson.one_line(error)}") from error
            # It may have been woken for the picture that it gave last: then the next one is good.
            self._failed = True
            self.retries += 1
            return None
        self._failed = False
        now_ns = self._clock.now_ns()
        if image is not None:
            self._newest_ns = now_ns
            self._num_frames += 1
            return image
        self.timeouts += 1
        if now_ns - self._newest_ns >= (
            _STALL_TIMEOUT_NS if self._num_frames else _START_TIMEOUT_NS
        ):
            raise SourceError(f"{self.name} gives no pictures")
        return None

    def _convert_from(self, format_name: str) -> None:
        if self._conversion is not None:
            raise SourceError(f"{self.name} gave {format_name}, not {self._format} as asked")
        _LOG.info(
            "%s gives %s, which our kernels do not read: jetson-utils converts it to %s on the GPU",
            self.name,
            format_name,
            jetson.CONVERTED,
        )
        self._conversion = jetson.Conversion(self._library, self.name)
        self._format = jetson.CONVERTED

    def _place(self, timestamp_ns: int, returned_ns: int) -> tuple[int, int]:
        """Capture time and number of a picture."""
        if self._is_running_time(timestamp_ns, returned_ns):
            self._timestamp_ns = timestamp_ns
            return self._times.to_monotonic(timestamp_ns, returned_ns), self._count.number(
                timestamp_ns
            )
        return self._times.estimate_capture(returned_ns), self._count.number(None)

    def _is_running_time(self, timestamp_ns: int, returned_ns: int) -> bool:
        # 0 means no stamp: jetson-utils was overtaken between the picture and its stamp, or it is
        # a live source's first picture.
        if timestamp_ns == 0:
            return False
        # The running time begins inside the first Capture. When GStreamer has no stamp,
        # jetson-utils gives the time since the process began, which is more. Once stamps were
        # found good, only a gross error counts: the clocks may drift apart.
        open_ns = returned_ns - self._opened_ns
        drift_ns = open_ns // 1000 if self._timestamp_ns else 0
        good = self._timestamp_ns < timestamp_ns <= open_ns + drift_ns
        self._domain = RUNNING_TIME if good else ARRIVAL_CLOCK
        if not (good or self._warned):
            self._warned = True
            _LOG.warning(
                "%s: a stamp of %.3f s after one of %.3f s, open for %.3f s, is no running time; "
                "taking the time of arrival, which is later than the capture",
                self.name,
                timestamp_ns / 1e9,
                self._timestamp_ns / 1e9,
                open_ns / 1e9,
            )
        return good


def count_ring_buffers(fps: float) -> int:
    """Buffers that give a picture `FRAME_LIFETIME_S`.

    Of the rates that a webcam offers at a size jetson-utils may take a higher one than was asked
    for, so there are never fewer than for 60: sixteen, 22 MB of 1280x720 in NV12.
    """
    return math.ceil(max(fps, 60) * FRAME_LIFETIME_S) + 1

"""A camera through dusty-nv's jetson-utils: frames in memory that CPU and GPU can read.

In: a CSI sensor or a V4L2 device. Out: `VideoFrame`s over jetson-utils' own ring of page-locked,
mapped buffers. Formats that the kernels read are not converted: NV12 from CSI, YUYV from webcams.

Copies: the CPU copies each frame once, from GStreamer's buffer into that ring, before Capture
returns. Before that, the video converter (VIC) moves a CSI frame out of the camera's memory, which
takes no CPU time and is not counted. Decoding a compressed frame is counted. So "zero copy" here
means only that the GPU reads what the CPU wrote.

Times: jetson-utils stamps with GStreamer's running time. On CSI that is nvarguscamerasrc's time.
For raw V4L2 frames it is when GStreamer *received* them: `do-timestamp` sets the DTS, and
jetson-utils prefers it to the PTS, which is the driver's. `v4l2_camera` has the driver's own time.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import Any

from ..clock import Clock
from ..messages import CapturePath, SourceError, VideoFrame
from . import jetson_utils as jetson
from .camera import Camera, CameraSettings
from .timestamps import ARRIVAL_CLOCK, CaptureClock, FrameCounter

_LOG = logging.getLogger(__name__)

FRAME_LIFETIME_S = 0.25
"""How long a frame's memory is not overwritten. The camera goes on writing into the ring, with or
without a reader. A frame must outlive the 45 ms budget and the wait of the face tracker, which runs
at low priority and starts with a small copy."""

RUNNING_TIME = "gstreamer running time"

_WAIT_MS = 200  # so that a reader soon notices a close
_STALL_TIMEOUT_NS = 1_000_000_000
_START_TIMEOUT_NS = 5_000_000_000  # the camera starts inside the first Capture; Argus takes long


class JetsonCamera(Camera):
    """A camera that jetson-utils reads. A frame is valid for `FRAME_LIFETIME_S`.

    `read` waits for a second at most, for the first frame five. After `close` frames in use keep
    their memory, which is freed with the last of them.
    """

    def __init__(self, uri: str, clock: Clock, settings: CameraSettings) -> None:
        """`uri`: csi://0 or /dev/video0. The GPU can read the memory whatever `settings` says.

        Raises SourceError if the camera cannot be opened.
        """
        super().__init__()
        self.name = f"camera {uri}"
        self.timeouts = 0
        """Number of Captures without a frame for 0.2 s."""
        self.retries = 0
        """Number of Captures that failed and were tried again."""
        self._clock = clock
        self._for_gpu = settings.for_gpu
        self._format = jetson.RAW
        self._conversion: jetson.Conversion | None = None
        self._failed = self._warned = False
        self._num_frames = 0
        self._opened_ns = self._newest_ns = -1  # first Capture, newest frame
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
            "%s: %dx%d (%s) at %.4g frames a second, %d buffers",
            self.name,
            self._source.GetWidth(),
            self._source.GetHeight(),
            codec,
            rate,
            buffers,
        )
        if buffers < rate * FRAME_LIFETIME_S:
            _LOG.warning(
                "%s delivers %.4g frames a second, more than requested: each is overwritten after "
                "%.0f ms",
                self.name,
                rate,
                1000 * buffers / rate,
            )

    @property
    def path(self) -> CapturePath:
        """The path of the newest frame."""
        return CapturePath(self._copies, self._domain, "pinned" if self._for_gpu else "none")

    def _release(self) -> None:
        # Never during Capture, which would reopen the camera.
        source, self._source = self._source, None
        if source is not None:
            with contextlib.suppress(Exception):  # the pipeline may have failed before
                source.Close()
        if self._conversion is not None:
            self._conversion.close()
            self._conversion = None

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
            t_ns, index = self._date(image.timestamp, self._newest_ns)
            return VideoFrame(t_ns, index, pixels, jetson.FORMATS[image.format], image.ptr)
        return None

    def _capture(self) -> Any:
        """Return one image, or None to try again."""
        if self._opened_ns < 0:
            self._opened_ns = self._newest_ns = self._clock.now_ns()
        stream = 0 if self._conversion is None else self._conversion.stream
        try:
            image = self._source.Capture(format=self._format, timeout=_WAIT_MS, stream=stream)
        except Exception as error:
            if self._failed:
                raise SourceError(f"{self.name} failed twice: {jetson.one_line(error)}") from error
            # A wake-up for the frame that was delivered last: then the next Capture works.
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
            raise SourceError(f"{self.name} delivers no frames")
        return None

    def _convert_from(self, format_name: str) -> None:
        if self._conversion is not None:
            raise SourceError(f"{self.name} delivers {format_name} instead of {self._format}")
        _LOG.info(
            "%s delivers %s, which no kernel reads: jetson-utils converts it to %s on the GPU",
            self.name,
            format_name,
            jetson.CONVERTED,
        )
        self._conversion = jetson.Conversion(self._library, self.name)
        self._format = jetson.CONVERTED

    def _date(self, timestamp_ns: int, returned_ns: int) -> tuple[int, int]:
        """Return the capture time and the number of a frame."""
        if self._is_running_time(timestamp_ns, returned_ns):
            self._timestamp_ns = timestamp_ns
            return self._times.to_monotonic(timestamp_ns, returned_ns), self._count.number(
                timestamp_ns
            )
        return self._times.estimate_capture(returned_ns), self._count.number(None)

    def _is_running_time(self, timestamp_ns: int, returned_ns: int) -> bool:
        # 0 means no timestamp: the next frame overtook it inside jetson-utils, or it is a live
        # source's first frame.
        if timestamp_ns == 0:
            return False
        # The running time begins inside the first Capture. If GStreamer has no timestamp,
        # jetson-utils uses the time since the start of the process, which is more. After a good
        # timestamp there is a tolerance, because the clocks may drift apart.
        open_ns = returned_ns - self._opened_ns
        drift_ns = open_ns // 1000 if self._timestamp_ns else 0
        good = self._timestamp_ns < timestamp_ns <= open_ns + drift_ns
        self._domain = RUNNING_TIME if good else ARRIVAL_CLOCK
        if not (good or self._warned):
            self._warned = True
            _LOG.warning(
                "%s: a timestamp of %.3f s after one of %.3f s, open for %.3f s, is no running "
                "time; using the time of arrival, which is later than the capture",
                self.name,
                timestamp_ns / 1e9,
                self._timestamp_ns / 1e9,
                open_ns / 1e9,
            )
        return good


def count_ring_buffers(fps: float) -> int:
    """Return the number of buffers that gives a frame `FRAME_LIFETIME_S`.

    jetson-utils may choose a higher rate than requested, so there are never fewer than for 60
    frames a second: sixteen, 22 MB of 1280x720 in NV12.
    """
    return math.ceil(max(fps, 60) * FRAME_LIFETIME_S) + 1

"""A V4L2 camera through OpenCV, with the driver's capture times.

OpenCV's V4L2 backend stores the timestamp of the buffer that it dequeued last and returns it as
CAP_PROP_POS_MSEC (modules/videoio/src/cap_v4l.cpp). For nearly all drivers that is CLOCK_MONOTONIC.

Frames are BGR. OpenCV has decoded MJPEG, whose Y'CbCr is BT.601 in full range by definition (JFIF).
OpenCV reads raw Y'CbCr as BT.601 in limited range, whatever the driver states; `v4l2_camera` does
not.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np

from ..clock import Clock
from ..messages import CapturePath, SourceError, VideoFrame
from .camera import Camera, CameraSettings, check_device
from .timestamps import DriverTimestamps

_LOG = logging.getLogger(__name__)

# The driver fills one buffer while OpenCV holds the other. With a single one the driver has no room
# while OpenCV decodes, and loses every second frame. With more, a late reader gets old frames.
_BUFFERS = 2
_MAX_CONSECUTIVE_CORRUPT = 30
_COPIES = 2
"""`retrieve` decodes or converts the driver's buffer into an image of OpenCV's own (convertToRgb),
MJPEG and YUYV alike, and copies that to the array it returns (copyTo): cap_v4l.cpp of 4.8 to 4.14.
"""


class OpencvCamera(Camera):
    """A camera that OpenCV reads. `read` waits for about a second at most."""

    def __init__(self, device: str, clock: Clock, settings: CameraSettings) -> None:
        """Raises SourceError if the device cannot be opened."""
        super().__init__()
        self.device = device
        self.corrupt_frames = 0
        self._clock = clock
        self._index = 0
        self._timestamps = DriverTimestamps(device)
        check_device(device)
        # How long OpenCV waits for a frame, in whole seconds (10 by default). Its V4L2 backend has
        # no property for it, and reads this variable at the first wait.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
        import cv2

        self._cv2 = cv2
        self._capture: Any = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"camera {device} cannot be opened: busy, or not a camera")
        for key, value in (
            (cv2.CAP_PROP_BUFFERSIZE, _BUFFERS),
            # Uncompressed 720p does not fit through USB 2 at 30 frames a second.
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, settings.width_px),
            (cv2.CAP_PROP_FRAME_HEIGHT, settings.height_px),
            (cv2.CAP_PROP_FPS, settings.fps),
        ):
            self._capture.set(key, value)
        _LOG.info(
            "camera %s: %dx%d at %.4g frames a second",
            device,
            self._capture.get(cv2.CAP_PROP_FRAME_WIDTH),
            self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT),
            self._capture.get(cv2.CAP_PROP_FPS),
        )

    @property
    def path(self) -> CapturePath:
        """Two copies. The GPU needs one more, because OpenCV's memory is not page-locked."""
        return CapturePath(_COPIES, self._timestamps.clock_domain, "none")

    def _read(self) -> VideoFrame | None:
        try:
            return self._read_good_frame()
        except self._cv2.error as error:
            raise SourceError(f"camera {self.device}: {' '.join(str(error).split())}") from error

    def _release(self) -> None:
        self._capture.release()

    def _read_good_frame(self) -> VideoFrame | None:
        for _ in range(_MAX_CONSECUTIVE_CORRUPT):
            if self._closed.is_set():
                return None
            if not self._capture.grab():
                if self._closed.is_set():
                    return None
                raise SourceError(f"camera {self.device} delivers no frames")
            now_ns = self._clock.now_ns()
            driver_ms = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
            # The driver counts microseconds.
            t_ns = self._timestamps.capture_ns(round(driver_ms * 1000) * 1000, now_ns)
            index = self._index
            self._index += 1
            good, image = self._capture.retrieve()
            if good and image is not None and image.ndim == 3 and image.dtype == np.uint8:
                return VideoFrame(t_ns, index, image)
            self.corrupt_frames += 1  # a truncated JPEG; the next may be complete
        raise SourceError(
            f"camera {self.device}: {_MAX_CONSECUTIVE_CORRUPT} corrupt frames in a row"
        )

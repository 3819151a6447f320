"""Which of our three ways to read a camera is taken, and why.

| name | reads | needs |
| --- | --- | --- |
| v4l2 | raw pictures, for a GPU into memory that it sees | a raw format at the wanted rate |
| opencv | MJPEG, decoded and copied | nothing |
| jetson | CSI cameras, others when asked to, into memory that the GPU sees | jetson-utils |

"auto" never takes jetson-utils for a /dev/video*: it copies each picture once more and stamps it
when it arrives (its v4l2src has do-timestamp set), where the driver's own stamp can be had.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...kernels.memory import find_pin
from ..clock import Clock
from ..faults import FaultLog
from ..messages import SourceError, VideoSource
from .opencv_camera import check_device

_LOG = logging.getLogger(__name__)

CAPTURE_BACKENDS = ("auto", "v4l2", "opencv", "jetson")

OpenSource = Callable[[], VideoSource]


class CameraOpener:
    """Opens one camera, as often as it is called and each time in the same way."""

    def __init__(
        self,
        device: str,
        clock: Clock,
        *,
        capture: str = "auto",
        width: int = 1280,
        height: int = 720,
        fps: float = 30,
        for_gpu: bool = False,
    ) -> None:
        """`capture`: one of `CAPTURE_BACKENDS`; a name must work, "auto" takes the first that does.

        `for_gpu`: pictures go to memory that the GPU reads in place, where that can be had.
        """
        self.device = device
        self._clock = clock
        self._size = (width, height)
        self._fps = fps
        self._for_gpu = for_gpu
        self._faults = FaultLog(_LOG, clock=clock)
        self._backends: dict[str, OpenSource] = {
            "v4l2": self._open_v4l2,
            "opencv": self._open_opencv,
            "jetson": self._open_jetson,
        }
        if capture != "auto" and capture not in self._backends:
            raise ValueError(f"capture {capture!r} is not one of {', '.join(CAPTURE_BACKENDS)}")
        if device.startswith("csi://"):
            if capture not in ("auto", "jetson"):
                raise SourceError(f"camera {device} is for jetson-utils, not for {capture}")
            capture = "jetson"
        self.chosen = "" if capture == "auto" else capture
        """The way that is taken; empty until "auto" has tried."""

    def __call__(self) -> VideoSource:
        """Raises SourceError."""
        if self.chosen:
            return self._backends[self.chosen]()
        *first, last = self._list_backends()
        for backend in first:
            try:
                source = self._backends[backend]()
            except SourceError as error:
                self._faults.log_transition(f"{error}; trying another way than {backend}")
                continue
            self.chosen = backend
            return source
        source = self._backends[last]()
        self.chosen = last
        return source

    def _list_backends(self) -> list[str]:
        """What "auto" tries, best first."""
        check_device(self.device)
        backends = ["opencv"]
        if why := self._explain_raw_unusable():
            # Most webcams are like that, so it is nothing to warn of.
            _LOG.info("camera %s is read through OpenCV: %s", self.device, why)
        else:
            backends.insert(0, "v4l2")
        return backends

    def _open_jetson(self) -> VideoSource:
        from .jetson_camera import JetsonCamera

        width, height = self._size
        return JetsonCamera(
            self.device,
            self._clock,
            width=width,
            height=height,
            fps=self._fps,
            for_gpu=self._for_gpu,
        )

    def _open_v4l2(self) -> VideoSource:
        from .v4l2_camera import V4l2Camera

        check_device(self.device)
        width, height = self._size
        pin = find_pin() if self._for_gpu else None
        return V4l2Camera(
            self.device, self._clock, width=width, height=height, fps=self._fps, pin=pin
        )

    def _open_opencv(self) -> VideoSource:
        from .opencv_camera import Camera

        width, height = self._size
        return Camera(self.device, self._clock, width=width, height=height, fps=self._fps)

    def _explain_raw_unusable(self) -> str:
        """Why the camera's raw pictures will not do; "" when they will."""
        from . import v4l2_device as v4l2

        handle = v4l2.Handle(self.device)
        try:
            v4l2.check_captures(handle, self.device)
            formats = v4l2.list_raw_formats(handle, *self._size)
            only_raw = formats and not v4l2.list_formats(handle) & {"MJPG", "JPEG"}
        except SourceError as error:
            return str(error)
        finally:
            handle.close()
        if only_raw:  # then OpenCV would take raw pictures too, and copy them twice
            return ""
        return v4l2.explain_shortfall(formats, *self._size, self._fps)

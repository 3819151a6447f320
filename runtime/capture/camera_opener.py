"""Chooses how to read a camera.

| backend | reads | needs |
| --- | --- | --- |
| v4l2 | raw frames, for a GPU into memory that it can access | a raw format at the wanted rate |
| opencv | MJPEG, decoded and copied | nothing |
| jetson | CSI cameras, others on request, into memory that the GPU can access | jetson-utils |

"auto" never uses jetson-utils for a /dev/video*. jetson-utils copies each frame once more and
stamps it on arrival (its v4l2src has do-timestamp set). The other two read the driver's timestamp.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...kernels.memory import find_pin
from ..clock import Clock
from ..faults import FaultLog
from ..messages import SourceError, VideoSource
from . import v4l2_device as v4l2
from .camera import CAPTURE_BACKENDS, CameraSettings, check_device

_LOG = logging.getLogger(__name__)

OpenSource = Callable[[], VideoSource]


class CameraOpener:
    """Opens one camera. Each call opens it anew, with the backend that worked before."""

    def __init__(self, device: str, clock: Clock, settings: CameraSettings) -> None:
        """Raises SourceError for a backend that cannot read `device`, ValueError for no backend."""
        self.device = device
        self._clock = clock
        self._settings = settings
        self._faults = FaultLog(_LOG, clock=clock)
        self._backends: dict[str, OpenSource] = {
            "v4l2": self._open_v4l2,
            "opencv": self._open_opencv,
            "jetson": self._open_jetson,
        }
        backend = settings.backend
        if backend not in CAPTURE_BACKENDS:
            raise ValueError(f"capture {backend!r} is not one of {', '.join(CAPTURE_BACKENDS)}")
        if device.startswith("csi://"):
            if backend not in ("auto", "jetson"):
                raise SourceError(f"camera {device} is for jetson-utils, not for {backend}")
            backend = "jetson"
        self.chosen = "" if backend == "auto" else backend
        """The backend in use; empty until "auto" has found one."""

    def __call__(self) -> VideoSource:
        """Open the camera. Raises SourceError."""
        if self.chosen:
            return self._backends[self.chosen]()
        *first, last = self._list_backends()
        for backend in first:
            try:
                source = self._backends[backend]()
            except SourceError as error:
                self._faults.log_transition(f"{error}; trying another backend than {backend}")
                continue
            self.chosen = backend
            return source
        source = self._backends[last]()
        self.chosen = last
        return source

    def _list_backends(self) -> list[str]:
        """Return what "auto" tries, best first."""
        check_device(self.device)
        backends = ["opencv"]
        if reason := self._explain_raw_unusable():
            # True of most webcams, so it is no warning.
            _LOG.info("camera %s is read through OpenCV: %s", self.device, reason)
        else:
            backends.insert(0, "v4l2")
        return backends

    def _open_jetson(self) -> VideoSource:
        from .jetson_camera import JetsonCamera

        return JetsonCamera(self.device, self._clock, self._settings)

    def _open_v4l2(self) -> VideoSource:
        from .v4l2_camera import V4l2Camera

        check_device(self.device)
        pin = find_pin() if self._settings.for_gpu else None
        return V4l2Camera(self.device, self._clock, self._settings, pin=pin)

    def _open_opencv(self) -> VideoSource:
        from .opencv_camera import OpencvCamera

        return OpencvCamera(self.device, self._clock, self._settings)

    def _explain_raw_unusable(self) -> str:
        """Return why the camera's raw formats are not usable, or "" if they are."""
        width, height = self._settings.width_px, self._settings.height_px
        handle = v4l2.Handle(self.device)
        try:
            v4l2.check_captures(handle, self.device)
            formats = v4l2.list_raw_formats(handle, width, height)
            only_raw = formats and not v4l2.list_formats(handle) & {"MJPG", "JPEG"}
        except SourceError as error:
            return str(error)
        finally:
            handle.close()
        if only_raw:  # OpenCV would read raw frames too, and copy them twice
            return ""
        return v4l2.explain_shortfall(formats, width, height, self._settings.fps)

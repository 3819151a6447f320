"""The calls of dusty-nv's jetson-utils that a camera needs, with workarounds.

All statements about its branches v1 (JetPack 6) and master (JetPack 7) are from its source; this
project has run none of it on a Jetson. Functions raise SourceError, because jetson-utils raises
nothing narrower than Exception.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..messages import SourceError
from .camera import CameraSettings

RAW = "raw"
"""A format that jetson-utils does not know, so that it does not convert."""
CONVERTED = "rgb8"
FORMATS = {"nv12": "nv12", "yuyv": "yuyv", "yuy2": "yuyv", "rgb8": "rgb8", "bgr8": "bgr8"}
"""jetson-utils' names for formats of `kernels.pixels`. It states neither encoding nor range of
Y'CbCr, so BT.601 in limited range is assumed."""

# jetson-utils swaps "none" and "rotate-180" for CSI, because many modules are mounted upside down
# (gstCamera.cpp). With these values the frame is as the sensor reads it.
_FLIP = {"csi": "rotate-180", "v4l2": "none"}

_BUILD = "build github.com/dusty-nv/jetson-utils (branch v1 on JetPack 6, master on 7)"


def parse_uri(uri: str) -> str:
    """Return jetson-utils' name for csi://0, /dev/video0 or v4l2:///dev/video0.

    Refuses everything else that jetson-utils could open, such as rtsp://.
    """
    if re.fullmatch(r"csi://\d+", uri):
        return uri
    device = uri.removeprefix("v4l2://")
    if re.fullmatch(r"/dev/video\d+", device):
        return f"v4l2://{device}"
    raise SourceError(f'camera {uri}: jetson-utils opens only "csi://0" or "/dev/video0"')


def import_jetson_utils() -> ModuleType:
    """Import the C++ extension itself: master's Python package around it does not work."""
    try:
        return importlib.import_module("jetson_utils_python")
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        raise SourceError(f"jetson-utils does not load ({one_line(error)}); {_BUILD}") from error
    if importlib.util.find_spec("jetson_utils") is not None:
        raise SourceError(
            "the installed jetson_utils has no jetson_utils_python: PyPI's package of that name is "
            f"another project; pip uninstall jetson-utils, then {_BUILD}"
        )
    raise SourceError(
        f"jetson-utils is not installed; {_BUILD}; a venv needs --system-site-packages to see it"
    )


def create_source(library: Any, uri: str, settings: CameraSettings, *, num_buffers: int) -> Any:
    """Return a videoSource with frames in mapped memory. Its first Capture starts the camera.

    `uri` is from `parse_uri`. `Open` is never called: it sets its error without holding the GIL.
    No window is opened and DISPLAY is not read: only videoOutput does that.
    """
    protocol, _, device = uri.partition("://")
    # jetson-utils never frees a pipeline that it cannot create, so avoid a certain failure.
    if protocol == "v4l2" and not Path(device).exists():
        raise SourceError(f"camera {device}: no such device")
    # Numbers are passed in argv: with an empty one the parser returns 0 for each, whatever the
    # options contain (commandLine.cpp). zeroCopy can only be an option. The log goes to stderr,
    # because stdout may carry the estimates.
    argv = [
        "--headless",
        f"--num-buffers={num_buffers}",
        f"--input-width={settings.width_px}",
        f"--input-height={settings.height_px}",
        f"--input-rate={settings.fps:g}",
        f"--input-flip={_FLIP[protocol]}",
        "--log-level=warning",
        "--log-file=stderr",
    ]
    with reported(f"camera {uri} cannot be opened (see jetson-utils' own log above)"):
        return library.videoSource(uri, argv=argv, options={"zeroCopy": True})


def view_image(name: str, image: Any, source: Any) -> NDArray[np.uint8]:
    """Return an array over a cudaImage in mapped memory, in the shape of `kernels.pixels`.

    `name` is the camera's, for the error.
    """
    width, height = image.width, image.height
    if not image.mapped:
        raise SourceError(f"{name} delivers memory that only the GPU can read")
    if width % 8 or height % 2:  # GStreamer pads rows to four bytes, also I420's chroma
        raise SourceError(
            f"{name} delivers {width}x{height}, whose rows are padded, which jetson-utils ignores; "
            "set source.width_px to a multiple of 8 and source.height_px to an even number"
        )
    shapes = {"nv12": (height // 2 * 3, width), "yuyv": (height, width, 2)}
    return np.asarray(
        _LeasedImage(image, source, shapes.get(FORMATS[image.format], (height, width, 3)))
    )


class _LeasedImage:
    """Lends the memory of a cudaImage to NumPy, by its address.

    The image's own `__cuda_array_interface__` and `__array_interface__` leak a dictionary for each
    access (PyCUDA.cpp). The memory belongs to the videoSource, not to the image, so the array keeps
    both alive.
    """

    __slots__ = ("__array_interface__", "_owners")

    def __init__(self, image: Any, source: Any, shape: tuple[int, ...]) -> None:
        self._owners = (image, source)
        # Not read-only: Numba would compile each kernel again for read-only arrays.
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "data": (image.ptr, False),
        }


class Conversion:
    """A CUDA stream on which jetson-utils converts frames, and an event to wait for.

    Before the event the conversion kernel is only queued and the image holds old data.
    """

    def __init__(self, library: Any, name: str) -> None:
        """`name` is the camera's, for errors."""
        self._library = library
        self._name = name
        with reported(name):
            self.stream: int = library.cudaStreamCreate(nonblocking=True)
            self._event: int = library.cudaEventCreate()

    def wait(self) -> None:
        with reported(self._name):
            self._library.cudaEventRecord(self._event, self.stream)
            self._library.cudaEventSynchronize(self._event)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._library.cudaEventDestroy(self._event)
            self._library.cudaStreamDestroy(self.stream)


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn any exception inside into a SourceError of one line that begins with `what`."""
    try:
        yield
    except Exception as error:
        raise SourceError(f"{what}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

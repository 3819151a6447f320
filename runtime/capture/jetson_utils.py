"""What we use of dusty-nv's jetson-utils, and what has to be known to use it.

Everything said here about its branch v1 (JetPack 6) and master (JetPack 7) is from its source; this
project has run none of it on a Jetson. Raises SourceError throughout: jetson-utils itself raises
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
"""A format that jetson-utils does not know: then it does not convert."""
CONVERTED = "rgb8"
FORMATS = {"nv12": "nv12", "yuyv": "yuyv", "yuy2": "yuyv", "rgb8": "rgb8", "bgr8": "bgr8"}
"""Its names of the formats that `kernels.pixels` has. It tells neither encoding nor range
of Y'CbCr, so each is taken for BT.601 in limited range."""

# It swaps "none" and "rotate-180" for CSI, because many modules are mounted upside down
# (gstCamera.cpp). With these the picture comes as the sensor reads it.
_FLIP = {"csi": "rotate-180", "v4l2": "none"}

_BUILD = "build github.com/dusty-nv/jetson-utils (branch v1 on JetPack 6, master on 7)"


def parse_uri(uri: str) -> str:
    """csi://0, /dev/video0 or v4l2:///dev/video0 -> what jetson-utils calls it.

    It could open rtsp:// and the like too; a camera in the network is not what was asked for.
    """
    if re.fullmatch(r"csi://\d+", uri):
        return uri
    device = uri.removeprefix("v4l2://")
    if re.fullmatch(r"/dev/video\d+", device):
        return f"v4l2://{device}"
    raise SourceError(f'camera {uri}: jetson-utils is given "csi://0" or "/dev/video0", no other')


def import_jetson_utils() -> ModuleType:
    """The C++ extension itself: master's Python package around it does not work, v1's only hands
    it on."""
    try:
        return importlib.import_module("jetson_utils_python")
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        raise SourceError(f"jetson-utils does not load ({one_line(error)}); {_BUILD}") from error
    if importlib.util.find_spec("jetson_utils") is not None:
        raise SourceError(
            "the installed jetson_utils has no jetson_utils_python: the index's package of that "
            f"name is somebody else's; pip uninstall jetson-utils, then {_BUILD}"
        )
    raise SourceError(
        f"jetson-utils is not installed; {_BUILD}; a venv needs --system-site-packages to see it"
    )


def create_source(library: Any, uri: str, settings: CameraSettings, *, num_buffers: int) -> Any:
    """A videoSource whose pictures lie in mapped memory. The camera starts with its first Capture.

    `uri` is from `parse_uri`. `Open` is never called: it sets its error without holding the GIL.
    No window is opened and DISPLAY is not read: only videoOutput does that.
    """
    protocol, _, device = uri.partition("://")
    # A pipeline that cannot be made is never freed: spare it the vain tries.
    if protocol == "v4l2" and not Path(device).exists():
        raise SourceError(f"camera {device}: no such device")
    # Numbers go by argv: the parser of an empty one returns 0 for each of them, whatever the
    # options say (commandLine.cpp). zeroCopy can only be an option. Its log goes to stderr,
    # because stdout may be carrying our results.
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
    with reported(f"camera {uri} cannot be opened (jetson-utils' own log above says why)"):
        return library.videoSource(uri, argv=argv, options={"zeroCopy": True})


def view_image(name: str, image: Any, source: Any) -> NDArray[np.uint8]:
    """A cudaImage in mapped memory -> an array over it, shaped as `kernels.pixels` says.

    `name` is the camera's, for the error.
    """
    width, height = image.width, image.height
    if not image.mapped:
        raise SourceError(f"{name} gave memory that only the GPU can read")
    if width % 8 or height % 2:  # GStreamer pads rows to four bytes, those of I420's colours too
        raise SourceError(
            f"{name} gave {width}x{height}, whose rows are padded, which jetson-utils ignores; "
            "ask for a width that is a multiple of 8 and an even height"
        )
    shapes = {"nv12": (height // 2 * 3, width), "yuyv": (height, width, 2)}
    return np.asarray(
        _LeasedImage(image, source, shapes.get(FORMATS[image.format], (height, width, 3)))
    )


class _LeasedImage:
    """Lends NumPy the memory of a cudaImage, by its address.

    Not by `__cuda_array_interface__`, nor by the `__array_interface__` that is built on it: each
    picture that is asked for one leaks a dictionary (PyCUDA.cpp). The memory belongs to the
    videoSource, not to the image, so both live as long as the array.
    """

    __slots__ = ("__array_interface__", "_owners")

    def __init__(self, image: Any, source: Any, shape: tuple[int, ...]) -> None:
        self._owners = (image, source)
        # Not read-only, though nobody writes: Numba compiles a kernel anew for read-only arrays.
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "data": (image.ptr, False),
        }


class Conversion:
    """A CUDA stream of its own, on which jetson-utils converts pictures, and an event to wait for.

    Until the event the kernel that converts is only queued, and the picture is not there.
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
    """Whatever is raised inside becomes a SourceError of one line that begins with `what`."""
    try:
        yield
    except Exception as error:
        raise SourceError(f"{what}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

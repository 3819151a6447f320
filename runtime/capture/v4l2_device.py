"""An open V4L2 device, and the raw pictures that it offers.

Agreeing with a V4L2 device on format, size and rate; how its pictures lie in memory then.
"""

from __future__ import annotations

import errno
import logging
import math
import mmap
import os
import select
from collections.abc import Callable, Iterator
from ctypes import Structure
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar

from ...kernels.pixels import find_format, name_format
from ..ioctl import call_driver
from ..messages import SourceError
from . import v4l2_uapi as abi
from .camera import CameraSettings

log = logging.getLogger(__name__)


RAW_FORMATS = {"NV12": "nv12", "YUYV": "yuyv", "RGB3": "rgb8", "BGR3": "bgr8"}
"""What V4L2 calls the layouts of `kernels.pixels`; the fewer bytes, the earlier it is taken."""

_FPS_TOLERANCE = 0.95
"""Share of the wanted rate that counts as reaching it: 29.97 is 30."""
_MAX_ENTRIES = 256

Entry = TypeVar("Entry", bound=Structure)


class Handle:
    """The device's file: ioctl, poll and mmap. `wake` may be called from another thread."""

    def __init__(self, device: str) -> None:
        """Raises SourceError when the device cannot be opened."""
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"camera {device} cannot be opened: {error.strerror}") from error
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def ioctl(self, number: int, argument: Structure | bytes) -> None:
        """Raises OSError; a structure is changed in place."""
        call_driver(self._fd, number, argument)

    def map(self, length: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._fd, length, prot=mmap.PROT_READ, offset=offset)

    def wait(self, timeout_s: float) -> Literal["ready", "late", "woken"]:
        """Until the driver has a picture or an error for us, until the time is over or `wake`."""
        files = [file for file, _ in self._poll.poll(timeout_s * 1000)]
        if self._wake in files:
            return "woken"
        return "ready" if files else "late"

    def wake(self) -> None:
        """This wait and all later ones end at once."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Once, by the thread that waits."""
        os.close(self._fd)
        os.close(self._wake)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """One of our pixel formats, as the device offers it at the wanted size."""

    name: str
    """V4L2's, such as "YUYV"."""
    fastest_fps: float
    """0 when the size is not offered, infinite when the device does not say."""

    def reaches(self, fps: float) -> bool:
        return self.fastest_fps >= _FPS_TOLERANCE * fps


def check_captures(handle: Handle, device: str) -> None:
    """Raises SourceError for anything but a camera that we can stream from."""
    answer = abi.Capability()
    try:
        handle.ioctl(abi.QUERYCAP, answer)
    except OSError as error:
        raise SourceError(f"camera {device} is no V4L2 device: {error.strerror}") from error
    own = answer.capabilities & abi.CAP_DEVICE_CAPS
    caps = answer.device_caps if own else answer.capabilities
    if not caps & abi.CAP_CAPTURE:
        kind = "has only multi-planar formats" if caps & abi.CAP_CAPTURE_MPLANE else "is no camera"
        raise SourceError(f"camera {device} {kind}")
    if not caps & abi.CAP_STREAMING:
        raise SourceError(f"camera {device} cannot stream")


def list_formats(handle: Handle) -> set[str]:
    """V4L2's names of all formats that the device has, compressed ones too."""

    def describe(index: int) -> abi.FormatDescription:
        return abi.FormatDescription(index=index, type=abi.CAPTURE)

    entries = _enumerate(handle, abi.ENUM_FMT, describe)
    return {abi.fourcc_name(entry.pixelformat) for entry in entries}


def list_raw_formats(handle: Handle, width: int, height: int) -> list[RawFormat]:
    """Those of `RAW_FORMATS` that the device has, best first."""
    names = list_formats(handle)
    return [
        RawFormat(name, _fastest_fps(handle, abi.fourcc(name), width, height))
        for name in RAW_FORMATS
        if name in names
    ]


def explain_shortfall(formats: list[RawFormat], width: int, height: int, fps: float) -> str:
    """Why none of `formats` will do, or "" when one does."""
    if any(entry.reaches(fps) for entry in formats):
        return ""
    if not formats:
        return f"it offers none of {', '.join(RAW_FORMATS)}"
    best = max(formats, key=lambda entry: entry.fastest_fps)
    if not best.fastest_fps:
        return f"it offers no raw pictures of {width}x{height}"
    return f"raw pictures of {width}x{height} come at {best.fastest_fps:.3g} of {fps:.3g} a second"


def _enumerate(handle: Handle, number: int, make: Callable[[int], Entry]) -> Iterator[Entry]:
    for index in range(_MAX_ENTRIES):
        entry = make(index)
        try:
            handle.ioctl(number, entry)
        except OSError:  # past the last one, or the driver has no such list
            return
        yield entry


def _fastest_fps(handle: Handle, code: int, width: int, height: int) -> float:
    def size(index: int) -> abi.FrameSize:
        return abi.FrameSize(index=index, pixel_format=code)

    def interval(index: int) -> abi.FrameInterval:
        return abi.FrameInterval(index=index, pixel_format=code, width=width, height=height)

    sizes = list(_enumerate(handle, abi.ENUM_FRAMESIZES, size))
    if sizes and not any(_has_size(entry, width, height) for entry in sizes):
        return 0.0
    shortest = [entry.shortest for entry in _enumerate(handle, abi.ENUM_FRAMEINTERVALS, interval)]
    return max((i.denominator / i.numerator for i in shortest if i.numerator), default=math.inf)


def _has_size(entry: abi.FrameSize, width: int, height: int) -> bool:
    sides = list(entry.sides)
    if entry.type == abi.DISCRETE:
        return sides[:2] == [width, height]
    return all(
        least <= side <= most and (side - least) % max(step, 1) == 0
        for side, (least, most, step) in ((width, sides[:3]), (height, sides[3:]))
    )


_LOG = logging.getLogger(__name__)

_BT601 = frozenset({abi.YCBCR_ENC_601, abi.YCBCR_ENC_XV601, abi.YCBCR_ENC_SYCC})
_BT709 = frozenset(
    {
        abi.YCBCR_ENC_709,
        abi.YCBCR_ENC_XV709,
        # Kr, Kb of SMPTE 240M (0.212, 0.087) and BT.2020 (0.2627, 0.0593) are nearer to those of
        # BT.709 (0.2126, 0.0722) than of BT.601 (0.299, 0.114), and hardly any camera gives them.
        abi.YCBCR_ENC_SMPTE240M,
        abi.YCBCR_ENC_BT2020,
        abi.YCBCR_ENC_BT2020_CONST_LUM,
    }
)
_SPACES_OF_BT709 = frozenset(
    {
        abi.COLORSPACE_REC709,
        abi.COLORSPACE_DCI_P3,
        abi.COLORSPACE_SMPTE240M,
        abi.COLORSPACE_BT2020,
    }
)
"""Colour spaces whose default encoding is in `_BT709`: V4L2_MAP_YCBCR_ENC_DEFAULT."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture in its buffer, as an array of `kernels.pixels`."""

    pixel_format: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    buffer_bytes: int
    """What the driver wants to be given for one picture."""

    @property
    def frame_bytes(self) -> int:
        """From the first pixel to the last."""
        return (self.shape[0] - 1) * self.strides[0] + self.shape[1] * self.strides[1]


def negotiate_format(handle: Handle, device: str, settings: CameraSettings) -> Layout:
    """The best raw format that reaches the rate, else the fastest; the driver takes the size and
    the rate that are nearest to the wish.

    Raises SourceError when there is no raw format, OSError when the device fails.
    """
    width, height, fps = settings.width_px, settings.height_px, settings.fps
    offered = list_raw_formats(handle, width, height)
    if not offered:
        raise SourceError(
            f"camera {device} offers none of {', '.join(RAW_FORMATS)}; "
            "for MJPEG set source.capture to opencv"
        )
    fast = [entry for entry in offered if entry.reaches(fps)]
    chosen = fast[0] if fast else max(offered, key=lambda entry: entry.fastest_fps)
    wanted = abi.Format(type=abi.CAPTURE)
    pix = wanted.fmt.pix
    pix.width, pix.height = width, height
    pix.pixelformat, pix.field = abi.fourcc(chosen.name), abi.FIELD_NONE
    pix.priv = abi.PRIV_MAGIC
    handle.ioctl(abi.S_FMT, wanted)
    name = abi.fourcc_name(pix.pixelformat)
    if name not in RAW_FORMATS:
        raise SourceError(f"camera {device} gives {name!r}, asked for {chosen.name}")
    pixel_format = name_pixel_format(RAW_FORMATS[name], pix)
    layout = lay_out(pixel_format, pix.width, pix.height, pix.bytesperline, pix.sizeimage)
    given_fps = _set_rate(handle, fps)
    _LOG.info(
        "camera %s: %s (%s) %dx%d at %.4g pictures a second",
        device,
        name,
        pixel_format,
        pix.width,
        pix.height,
        given_fps,
    )
    return layout


def name_pixel_format(layout: str, pix: abi.PixelFormat) -> str:
    """The format of `kernels.pixels` for frames in `layout` whose driver answered `pix`.

    What the driver leaves open is resolved as in linux/videodev2.h, V4L2_MAP_YCBCR_ENC_DEFAULT and
    V4L2_MAP_QUANTIZATION_DEFAULT; a number that V4L2 does not have counts as left open.
    """
    extended = pix.priv == abi.PRIV_MAGIC  # a kernel before 3.16 leaves those fields undefined
    encoding = pix.ycbcr_enc if extended else 0
    quantization = pix.quantization if extended else 0
    bt709 = encoding in _BT709 or (encoding not in _BT601 and pix.colorspace in _SPACES_OF_BT709)
    full_range = quantization == abi.QUANTIZATION_FULL_RANGE or (
        quantization != abi.QUANTIZATION_LIM_RANGE and pix.colorspace == abi.COLORSPACE_JPEG
    )
    return name_format(layout, bt709=bt709, full_range=full_range)


def lay_out(
    pixel_format: str, width: int, height: int, row_bytes: int, size_bytes: int = 0
) -> Layout:
    """`row_bytes` from one row to the next and `size_bytes` in all, as the driver says; rows
    follow each other when it says too little (0).

    Raises SourceError for a size that the format cannot have.
    """
    layout = find_format(pixel_format).layout
    if (layout in ("nv12", "yuyv") and width % 2) or (layout == "nv12" and height % 2):
        raise SourceError(f"{pixel_format} pictures of {width}x{height} cannot be read")
    channels = {"nv12": 1, "yuyv": 2}.get(layout, 3)
    rows = height * 3 // 2 if layout == "nv12" else height
    row_bytes = max(row_bytes, width * channels)
    size_bytes = max(size_bytes, rows * row_bytes)
    if layout == "nv12":
        return Layout(pixel_format, (rows, width), (row_bytes, 1), size_bytes)
    return Layout(pixel_format, (rows, width, channels), (row_bytes, channels, 1), size_bytes)


def _set_rate(handle: Handle, fps: float) -> float:
    """The rate that the driver names, or the wish when it knows no rates."""
    period = Fraction(1 / fps).limit_denominator(1_000_000)
    parm = abi.StreamParm(type=abi.CAPTURE)
    frame = parm.parm.capture.timeperframe
    frame.numerator, frame.denominator = period.numerator, period.denominator
    try:
        handle.ioctl(abi.S_PARM, parm)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return fps
    return float(frame.denominator / frame.numerator) if frame.numerator else fps

"""Agreeing with a V4L2 device on format, size and rate; how its pictures lie in memory then."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from fractions import Fraction

from ..messages import SourceError
from . import v4l2_abi as abi
from .v4l2_device import RAW_FORMATS, Handle, list_raw_formats

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture in its buffer, as an array of `kernels.pixels`."""

    pixel_format: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    buffer_bytes: int
    """What the driver wants to be given for one picture."""

    @property
    def picture_bytes(self) -> int:
        """From the first pixel to the last."""
        return (self.shape[0] - 1) * self.strides[0] + self.shape[1] * self.strides[1]


def agree_on_format(handle: Handle, device: str, width: int, height: int, fps: float) -> Layout:
    """The best raw format that reaches the rate, else the fastest; the driver takes the size and
    the rate that are nearest to the wish.

    Raises SourceError when there is no raw format, OSError when the device fails.
    """
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
    handle.ioctl(abi.S_FMT, wanted)
    name = abi.fourcc_name(pix.pixelformat)
    if name not in RAW_FORMATS:
        raise SourceError(f"camera {device} gives {name!r}, asked for {chosen.name}")
    layout = lay_out(RAW_FORMATS[name], pix.width, pix.height, pix.bytesperline, pix.sizeimage)
    given_fps = _set_rate(handle, fps)
    _LOG.info(
        "camera %s: %s %dx%d at %.4g pictures a second",
        device,
        name,
        pix.width,
        pix.height,
        given_fps,
    )
    return layout


def lay_out(
    pixel_format: str, width: int, height: int, row_bytes: int, size_bytes: int = 0
) -> Layout:
    """`row_bytes` from one row to the next and `size_bytes` in all, as the driver says; rows
    follow each other when it says too little (0).

    Raises SourceError for a size that the format cannot have.
    """
    if (pixel_format in ("nv12", "yuyv") and width % 2) or (pixel_format == "nv12" and height % 2):
        raise SourceError(f"{pixel_format} pictures of {width}x{height} cannot be read")
    channels = {"nv12": 1, "yuyv": 2}.get(pixel_format, 3)
    rows = height * 3 // 2 if pixel_format == "nv12" else height
    row_bytes = max(row_bytes, width * channels)
    size_bytes = max(size_bytes, rows * row_bytes)
    if pixel_format == "nv12":
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

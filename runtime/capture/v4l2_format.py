"""Format, size and rate of a V4L2 camera, and the layout of its frames in memory.

In: an open device and the wanted settings. Out: the `Layout` that the driver agreed to.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from fractions import Fraction

from ...kernels.pixels import find_format, name_format
from ..messages import SourceError
from . import v4l2_uapi as abi
from .camera import CameraSettings
from .v4l2_device import RAW_FORMATS, Handle, list_raw_formats

_LOG = logging.getLogger(__name__)

_BT601 = frozenset({abi.YCBCR_ENC_601, abi.YCBCR_ENC_XV601, abi.YCBCR_ENC_SYCC})
_BT709 = frozenset(
    {
        abi.YCBCR_ENC_709,
        abi.YCBCR_ENC_XV709,
        # Kr, Kb of SMPTE 240M (0.212, 0.087) and BT.2020 (0.2627, 0.0593) are nearer to those of
        # BT.709 (0.2126, 0.0722) than of BT.601 (0.299, 0.114), and hardly any camera uses them.
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
"""Color spaces whose default encoding is in `_BT709`: V4L2_MAP_YCBCR_ENC_DEFAULT."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a frame in its buffer, as an array of `kernels.pixels`."""

    pixel_format: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    buffer_bytes: int
    """The size of a buffer that the driver wants for one frame."""

    @property
    def frame_bytes(self) -> int:
        """Bytes from the first pixel to the last."""
        return (self.shape[0] - 1) * self.strides[0] + self.shape[1] * self.strides[1]


def negotiate_format(handle: Handle, device: str, settings: CameraSettings) -> Layout:
    """Set the best raw format that reaches the rate, else the fastest one.

    The driver chooses the nearest size and rate. Raises SourceError if the device has no raw
    format, OSError if it fails.
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
        raise SourceError(f"camera {device} delivers {name!r} instead of {chosen.name}")
    pixel_format = name_pixel_format(RAW_FORMATS[name], pix)
    layout = lay_out(pixel_format, pix.width, pix.height, pix.bytesperline, pix.sizeimage)
    actual_fps = _set_rate(handle, fps)
    _LOG.info(
        "camera %s: %s (%s) %dx%d at %.4g frames a second",
        device,
        name,
        pixel_format,
        pix.width,
        pix.height,
        actual_fps,
    )
    return layout


def name_pixel_format(layout: str, pix: abi.PixelFormat) -> str:
    """Return the format of `kernels.pixels` for frames in `layout` whose driver answered `pix`.

    What the driver does not state is resolved as linux/videodev2.h does
    (V4L2_MAP_YCBCR_ENC_DEFAULT, V4L2_MAP_QUANTIZATION_DEFAULT). A number that V4L2 does not define
    counts as not stated.
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
    """Return the layout for the driver's `row_bytes` (from row to row) and `size_bytes` (in all).

    Values that are too small, such as 0, mean rows without padding. Raises SourceError for a size
    that the format cannot have.
    """
    layout = find_format(pixel_format).layout
    if (layout in ("nv12", "yuyv") and width % 2) or (layout == "nv12" and height % 2):
        raise SourceError(f"{pixel_format} frames of {width}x{height} cannot be read")
    channels = {"nv12": 1, "yuyv": 2}.get(layout, 3)
    rows = height * 3 // 2 if layout == "nv12" else height
    row_bytes = max(row_bytes, width * channels)
    size_bytes = max(size_bytes, rows * row_bytes)
    if layout == "nv12":
        return Layout(pixel_format, (rows, width), (row_bytes, 1), size_bytes)
    return Layout(pixel_format, (rows, width, channels), (row_bytes, channels, 1), size_bytes)


def _set_rate(handle: Handle, fps: float) -> float:
    """Set the rate. Returns the driver's rate, or `fps` if the driver has no rates."""
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

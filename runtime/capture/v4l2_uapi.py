"""The kernel interface of a V4L2 capture device: structures, numbers, flags.

Source: the kernel's include/uapi/linux/videodev2.h. The numbers of ioctls are composed as in
include/uapi/asm-generic/ioctl.h (x86 and ARM). Only what the V4L2 modules use, and only for 64-bit
machines, where timestamps are two longs.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, Union, c_int32, c_long, c_ubyte, c_uint8, c_uint32, c_ulong, sizeof

CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
FIELD_NONE = 1  # whole frames, not every second row

MEMORY_MMAP, MEMORY_USERPTR = 1, 2

CAP_CAPTURE = 0x00000001
CAP_CAPTURE_MPLANE = 0x00001000
CAP_STREAMING = 0x04000000
CAP_DEVICE_CAPS = 0x80000000

FLAG_ERROR = 0x00000040
FLAG_TIMESTAMP_MASK = 0x0000E000
FLAG_TIMESTAMP_UNKNOWN = 0
FLAG_TIMESTAMP_MONOTONIC = 0x00002000

PRIV_MAGIC = 0xFEEDCAFE  # V4L2_PIX_FMT_PRIV_MAGIC: the fields after `priv` are valid

COLORSPACE_SMPTE240M, COLORSPACE_REC709, COLORSPACE_JPEG = 2, 3, 7
COLORSPACE_BT2020, COLORSPACE_DCI_P3 = 10, 12

YCBCR_ENC_601, YCBCR_ENC_709, YCBCR_ENC_XV601, YCBCR_ENC_XV709 = 1, 2, 3, 4
YCBCR_ENC_SYCC, YCBCR_ENC_BT2020, YCBCR_ENC_BT2020_CONST_LUM, YCBCR_ENC_SMPTE240M = 5, 6, 7, 8

QUANTIZATION_FULL_RANGE, QUANTIZATION_LIM_RANGE = 1, 2

DISCRETE = 1  # V4L2_FRMSIZE_TYPE_DISCRETE and V4L2_FRMIVAL_TYPE_DISCRETE; others are ranges


def fourcc(text: str) -> int:
    """ "NV12" -> 0x3231564e."""
    return int.from_bytes(text.encode("ascii"), "little")


def fourcc_name(code: int) -> str:
    return code.to_bytes(4, "little").decode("ascii", "replace").rstrip()


class Capability(Structure):
    """struct v4l2_capability"""

    _fields_ = [
        ("driver", c_ubyte * 16),
        ("card", c_ubyte * 32),
        ("bus_info", c_ubyte * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FormatDescription(Structure):
    """struct v4l2_fmtdesc"""

    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_ubyte * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class Fraction(Structure):
    """struct v4l2_fract"""

    _fields_ = [("numerator", c_uint32), ("denominator", c_uint32)]


class FrameSize(Structure):
    """struct v4l2_frmsizeenum; `sides` are width, height, or min, max and step of both."""

    _fields_ = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("sides", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    ]


class FrameInterval(Structure):
    """struct v4l2_frmivalenum; `shortest` is the interval or the smallest of a range."""

    _fields_ = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("shortest", Fraction),
        ("longest", Fraction),
        ("step", Fraction),
        ("reserved", c_uint32 * 2),
    ]


class PixelFormat(Structure):
    """struct v4l2_pix_format"""

    _fields_ = [
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("colorspace", c_uint32),
        ("priv", c_uint32),
        ("flags", c_uint32),
        ("ycbcr_enc", c_uint32),
        ("quantization", c_uint32),
        ("xfer_func", c_uint32),
    ]


class _FormatUnion(Union):
    # The pointer stands for struct v4l2_window, which gives the union its alignment.
    _fields_ = [("pix", PixelFormat), ("raw", c_uint8 * 200), ("align", ctypes.c_void_p)]


class Format(Structure):
    """struct v4l2_format"""

    _fields_ = [("type", c_uint32), ("fmt", _FormatUnion)]


class CaptureParm(Structure):
    """struct v4l2_captureparm"""

    _fields_ = [
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("timeperframe", Fraction),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint32 * 4),
    ]


class _ParmUnion(Union):
    _fields_ = [("capture", CaptureParm), ("raw", c_uint8 * 200)]


class StreamParm(Structure):
    """struct v4l2_streamparm"""

    _fields_ = [("type", c_uint32), ("parm", _ParmUnion)]


class RequestBuffers(Structure):
    """struct v4l2_requestbuffers"""

    _fields_ = [
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("reserved", c_uint32),
    ]


class TimeVal(Structure):
    """struct timeval"""

    _fields_ = [("tv_sec", c_long), ("tv_usec", c_long)]


class _BufferUnion(Union):
    _fields_ = [("offset", c_uint32), ("userptr", c_ulong), ("fd", c_int32)]


class Buffer(Structure):
    """struct v4l2_buffer"""

    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("timestamp", TimeVal),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _BufferUnion),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    ]


_WRITE, _READ = 1, 2


def _number(direction: int, number: int, argument: type[Structure] | type[c_int32]) -> int:
    """_IOC(direction, 'V', number, sizeof(argument))"""
    return direction << 30 | sizeof(argument) << 16 | ord("V") << 8 | number


QUERYCAP = _number(_READ, 0, Capability)
ENUM_FMT = _number(_READ | _WRITE, 2, FormatDescription)
S_FMT = _number(_READ | _WRITE, 5, Format)
REQBUFS = _number(_READ | _WRITE, 8, RequestBuffers)
QUERYBUF = _number(_READ | _WRITE, 9, Buffer)
QBUF = _number(_READ | _WRITE, 15, Buffer)
DQBUF = _number(_READ | _WRITE, 17, Buffer)
STREAMON = _number(_WRITE, 18, c_int32)
STREAMOFF = _number(_WRITE, 19, c_int32)
S_PARM = _number(_READ | _WRITE, 22, StreamParm)
ENUM_FRAMESIZES = _number(_READ | _WRITE, 74, FrameSize)
ENUM_FRAMEINTERVALS = _number(_READ | _WRITE, 75, FrameInterval)

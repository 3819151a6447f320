"""The structures, ioctl numbers and flags of Linux' display interface that `drm` and `display` use.

Source: the kernel's include/uapi/drm/drm.h and drm_mode.h. The ioctl numbers are composed as in
include/uapi/asm-generic/ioctl.h (x86 and ARM).
"""

from __future__ import annotations

from ctypes import Structure, c_char, c_uint16, c_uint32, c_uint64, sizeof

CONNECTED = 1  # enum drm_connector_status
MODE_TYPE_PREFERRED = 1 << 3
PAGE_FLIP_EVENT = 0x01
EVENT_FLIP_COMPLETE = 0x02


class ModeInfo(Structure):
    """struct drm_mode_modeinfo: a monitor's timing."""

    _fields_ = [
        ("clock", c_uint32),
        ("hdisplay", c_uint16),
        ("hsync_start", c_uint16),
        ("hsync_end", c_uint16),
        ("htotal", c_uint16),
        ("hskew", c_uint16),
        ("vdisplay", c_uint16),
        ("vsync_start", c_uint16),
        ("vsync_end", c_uint16),
        ("vtotal", c_uint16),
        ("vscan", c_uint16),
        ("vrefresh", c_uint32),
        ("flags", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
    ]


class CardResources(Structure):
    """struct drm_mode_card_res"""

    _fields_ = [
        ("fb_id_ptr", c_uint64),
        ("crtc_id_ptr", c_uint64),
        ("connector_id_ptr", c_uint64),
        ("encoder_id_ptr", c_uint64),
        ("count_fbs", c_uint32),
        ("count_crtcs", c_uint32),
        ("count_connectors", c_uint32),
        ("count_encoders", c_uint32),
        ("min_width", c_uint32),
        ("max_width", c_uint32),
        ("min_height", c_uint32),
        ("max_height", c_uint32),
    ]


class GetConnector(Structure):
    """struct drm_mode_get_connector"""

    _fields_ = [
        ("encoders_ptr", c_uint64),
        ("modes_ptr", c_uint64),
        ("props_ptr", c_uint64),
        ("prop_values_ptr", c_uint64),
        ("count_modes", c_uint32),
        ("count_props", c_uint32),
        ("count_encoders", c_uint32),
        ("encoder_id", c_uint32),
        ("connector_id", c_uint32),
        ("connector_type", c_uint32),
        ("connector_type_id", c_uint32),
        ("connection", c_uint32),
        ("mm_width", c_uint32),
        ("mm_height", c_uint32),
        ("subpixel", c_uint32),
        ("pad", c_uint32),
    ]


class GetEncoder(Structure):
    """struct drm_mode_get_encoder"""

    _fields_ = [
        ("encoder_id", c_uint32),
        ("encoder_type", c_uint32),
        ("crtc_id", c_uint32),
        ("possible_crtcs", c_uint32),
        ("possible_clones", c_uint32),
    ]


class Crtc(Structure):
    """struct drm_mode_crtc: scans a frame buffer out to connectors."""

    _fields_ = [
        ("set_connectors_ptr", c_uint64),
        ("count_connectors", c_uint32),
        ("crtc_id", c_uint32),
        ("fb_id", c_uint32),
        ("x", c_uint32),
        ("y", c_uint32),
        ("gamma_size", c_uint32),
        ("mode_valid", c_uint32),
        ("mode", ModeInfo),
    ]


class CreateDumb(Structure):
    """struct drm_mode_create_dumb: a buffer that the CPU draws into."""

    _fields_ = [
        ("height", c_uint32),
        ("width", c_uint32),
        ("bpp", c_uint32),
        ("flags", c_uint32),
        ("handle", c_uint32),
        ("pitch", c_uint32),
        ("size", c_uint64),
    ]


class MapDumb(Structure):
    """struct drm_mode_map_dumb"""

    _fields_ = [("handle", c_uint32), ("pad", c_uint32), ("offset", c_uint64)]


class DestroyDumb(Structure):
    """struct drm_mode_destroy_dumb"""

    _fields_ = [("handle", c_uint32)]


class FrameBuffer(Structure):
    """struct drm_mode_fb_cmd"""

    _fields_ = [
        ("fb_id", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("pitch", c_uint32),
        ("bpp", c_uint32),
        ("depth", c_uint32),
        ("handle", c_uint32),
    ]


class FrameBufferId(Structure):
    """The unsigned int argument of RMFB."""

    _fields_ = [("fb_id", c_uint32)]


class PageFlip(Structure):
    """struct drm_mode_crtc_page_flip"""

    _fields_ = [
        ("crtc_id", c_uint32),
        ("fb_id", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32),
        ("user_data", c_uint64),
    ]


class VblankEvent(Structure):
    """struct drm_event_vblank, with the struct drm_event that it begins with."""

    _fields_ = [
        ("type", c_uint32),
        ("length", c_uint32),
        ("user_data", c_uint64),
        ("tv_sec", c_uint32),
        ("tv_usec", c_uint32),
        ("sequence", c_uint32),
        ("crtc_id", c_uint32),
    ]


def _iowr(number: int, argument: type[Structure]) -> int:
    return 3 << 30 | sizeof(argument) << 16 | ord("d") << 8 | number


GETRESOURCES = _iowr(0xA0, CardResources)
SETCRTC = _iowr(0xA2, Crtc)
GETENCODER = _iowr(0xA6, GetEncoder)
GETCONNECTOR = _iowr(0xA7, GetConnector)
ADDFB = _iowr(0xAE, FrameBuffer)
RMFB = _iowr(0xAF, FrameBufferId)
PAGE_FLIP = _iowr(0xB0, PageFlip)
CREATE_DUMB = _iowr(0xB2, CreateDumb)
MAP_DUMB = _iowr(0xB3, MapDumb)
DESTROY_DUMB = _iowr(0xB4, DestroyDumb)

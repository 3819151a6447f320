"""The structures and ioctl numbers against the kernel's headers."""

from __future__ import annotations

from ctypes import sizeof

from emotion_edge.runtime.sinks.screen import drm_uapi as abi

NUMBERS = {
    "GETRESOURCES": 0xC04064A0,
    "SETCRTC": 0xC06864A2,
    "GETENCODER": 0xC01464A6,
    "GETCONNECTOR": 0xC05064A7,
    "ADDFB": 0xC01C64AE,
    "RMFB": 0xC00464AF,
    "PAGE_FLIP": 0xC01864B0,
    "CREATE_DUMB": 0xC02064B2,
    "MAP_DUMB": 0xC01064B3,
    "DESTROY_DUMB": 0xC00464B4,
}
"""Printed by a C program with Linux 6.1's drm.h. Each number contains its structure's size."""


def test_structures_and_numbers() -> None:
    """Numbers with sizes, and the offsets of fields in the larger structures."""
    assert {name: getattr(abi, name) for name in NUMBERS} == NUMBERS
    assert (sizeof(abi.ModeInfo), sizeof(abi.VblankEvent)) == (68, 32)
    fields = abi.ModeInfo.vdisplay, abi.ModeInfo.type, abi.GetConnector.connection, abi.Crtc.mode
    assert [field.offset for field in fields] == [14, 32, 60, 36]

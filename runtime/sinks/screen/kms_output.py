"""Finds the connected monitor of a card, its preferred mode and what can feed it.

Whatever number the kernel gives is checked before it is used.
"""

from __future__ import annotations

from ctypes import addressof, c_uint32
from dataclasses import dataclass

from . import drm_uapi as abi
from .drm import Handle, KmsError, explain_errors

MIN_SIDE_PX, MAX_SIDE_PX = 64, 16384
_MAX_OBJECTS = 64
_MAX_MODES = 1024


@dataclass(frozen=True, slots=True)
class Output:
    """A connected monitor, how it is fed and its preferred mode."""

    connector_id: int
    crtc_id: int
    width: int
    height: int
    mode: bytes
    """struct drm_mode_modeinfo"""


def find_output(handle: Handle) -> Output | None:
    """The first connected monitor; the driver is asked to look. Raises KmsError."""
    with explain_errors(handle):
        crtcs, connectors = _list_resources(handle)
        for connector_id in connectors:
            if output := _read_connector(handle, connector_id, crtcs):
                return output
    return None


def _list_resources(handle: Handle) -> tuple[list[int], list[int]]:
    """The numbers of the card's CRTCs and connectors."""
    answer = abi.CardResources()
    handle.ioctl(abi.GETRESOURCES, answer)
    counts = answer.count_crtcs, answer.count_connectors
    _check_counts(handle, *counts)
    crtcs, connectors = ((c_uint32 * count)() for count in counts)
    answer = abi.CardResources(
        crtc_id_ptr=addressof(crtcs),
        connector_id_ptr=addressof(connectors),
        count_crtcs=counts[0],
        count_connectors=counts[1],
    )
    handle.ioctl(abi.GETRESOURCES, answer)
    return list(crtcs), list(connectors)


def _read_connector(handle: Handle, connector_id: int, crtcs: list[int]) -> Output | None:
    """Asked for no modes, the driver looks whether a monitor is there, and then tells how many."""
    counts = abi.GetConnector(connector_id=connector_id)
    handle.ioctl(abi.GETCONNECTOR, counts)
    if counts.connection != abi.CONNECTED or not counts.count_modes:
        return None
    _check_counts(handle, counts.count_encoders)
    if counts.count_modes > _MAX_MODES:
        raise KmsError(f"{handle.path} tells of {counts.count_modes} modes")
    modes = (abi.ModeInfo * counts.count_modes)()
    encoders = (c_uint32 * counts.count_encoders)()
    answer = abi.GetConnector(
        connector_id=connector_id,
        modes_ptr=addressof(modes),
        count_modes=counts.count_modes,
        encoders_ptr=addressof(encoders),
        count_encoders=counts.count_encoders,
    )
    handle.ioctl(abi.GETCONNECTOR, answer)
    if answer.count_modes != counts.count_modes:
        return None  # it has just changed: next time
    mode = next((mode for mode in modes if mode.type & abi.MODE_TYPE_PREFERRED), modes[0])
    width, height = mode.hdisplay, mode.vdisplay
    if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in (width, height)):
        raise KmsError(f"{handle.path} tells of a monitor of {width}x{height}")
    crtc_id = _choose_crtc(handle, crtcs, answer.encoder_id, list(encoders))
    return Output(connector_id, crtc_id, width, height, bytes(mode))


def _choose_crtc(handle: Handle, crtcs: list[int], current: int, encoders: list[int]) -> int:
    """The one that feeds the connector already, else the first that can."""
    ways = [_get_encoder(handle, encoder_id) for encoder_id in dict.fromkeys([current, *encoders])]
    in_use = [way.crtc_id for way in ways if way.encoder_id == current]
    possible = [
        crtc_id
        for way in ways
        for position, crtc_id in enumerate(crtcs)
        if way.possible_crtcs >> position & 1
    ]
    for crtc_id in (*in_use, *possible):
        if crtc_id in crtcs:
            return crtc_id
    raise KmsError(f"{handle.path} has nothing that feeds the monitor")


def _get_encoder(handle: Handle, encoder_id: int) -> abi.GetEncoder:
    encoder = abi.GetEncoder(encoder_id=encoder_id)
    if encoder_id:
        handle.ioctl(abi.GETENCODER, encoder)
    return encoder


def _check_counts(handle: Handle, *counts: int) -> None:
    if max(counts) > _MAX_OBJECTS:
        raise KmsError(f"{handle.path} tells of {max(counts)} connectors, encoders or CRTCs")

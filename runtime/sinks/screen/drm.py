"""An open display device, and the search for its monitor.

In: a device path. Out: the device's ioctls, memory and events; the connected monitor with its
preferred mode and a CRTC that can drive it. Every number from the kernel is checked before use.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import Structure, addressof, c_uint32
from dataclasses import dataclass

from ...ioctl import call_driver
from . import drm_uapi as abi

_NOT_MASTER = (errno.EACCES, errno.EPERM)


class KmsError(Exception):
    """The display cannot be used now; the message is the reason in a few words."""


class Handle:
    """The open file of /dev/dri/cardN. Only the first program that opens it may set modes."""

    def __init__(self, path: str) -> None:
        """Open the device. Raises KmsError."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise KmsError(f"no permission for {path}: join group video") from error
        except OSError as error:
            raise KmsError(f"{path} cannot be opened: {error.strerror}") from error
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def ioctl(self, number: int, argument: Structure) -> None:
        """Call the driver, which changes `argument` in place. Raises OSError."""
        call_driver(self._fd, number, argument)

    def map(self, length: int, offset: int) -> mmap.mmap:
        """Map the memory of a buffer. The mapping keeps the device open until it is closed."""
        return mmap.mmap(self._fd, length, offset=offset)

    def read_events(self, timeout_s: float) -> bytes:
        """Read pending events; b"" after the timeout. Raises OSError."""
        if not self._poll.poll(timeout_s * 1000):
            return b""
        return os.read(self._fd, 4096)

    def close(self) -> None:
        """Close the device, once. The kernel shows its console again."""
        os.close(self._fd)


@contextmanager
def explain_errors(handle: Handle) -> Iterator[None]:
    """Turn an OSError of the device into a KmsError."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_MASTER:
            raise KmsError(f"another program has {handle.path}") from error
        raise KmsError(f"{handle.path} failed: {error.strerror or error}") from error


MIN_SIDE_PX, MAX_SIDE_PX = 64, 16384
_MAX_OBJECTS = 64
_MAX_MODES = 1024


@dataclass(frozen=True, slots=True)
class Output:
    """A connected monitor, its CRTC and its preferred mode."""

    connector_id: int
    crtc_id: int
    width: int
    height: int
    mode: bytes
    """struct drm_mode_modeinfo"""


def find_output(handle: Handle) -> Output | None:
    """Return the first connected monitor, after a probe by the driver. Raises KmsError."""
    with explain_errors(handle):
        crtcs, connectors = _list_resources(handle)
        for connector_id in connectors:
            if output := _read_connector(handle, connector_id, crtcs):
                return output
    return None


def _list_resources(handle: Handle) -> tuple[list[int], list[int]]:
    """Return the identifiers of the card's CRTCs and connectors."""
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
    """Return the connector's monitor. The first call, for no modes, makes the driver probe it."""
    counts = abi.GetConnector(connector_id=connector_id)
    handle.ioctl(abi.GETCONNECTOR, counts)
    if counts.connection != abi.CONNECTED or not counts.count_modes:
        return None
    _check_counts(handle, counts.count_encoders)
    if counts.count_modes > _MAX_MODES:
        raise KmsError(f"{handle.path} reports {counts.count_modes} modes")
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
        return None  # it has just changed: at the next poll
    mode = next((mode for mode in modes if mode.type & abi.MODE_TYPE_PREFERRED), modes[0])
    width, height = mode.hdisplay, mode.vdisplay
    if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in (width, height)):
        raise KmsError(f"{handle.path} reports a monitor of {width}x{height}")
    crtc_id = _choose_crtc(handle, crtcs, answer.encoder_id, list(encoders))
    return Output(connector_id, crtc_id, width, height, bytes(mode))


def _choose_crtc(handle: Handle, crtcs: list[int], current: int, encoders: list[int]) -> int:
    """Return the CRTC that drives the connector already, else the first that can."""
    ids = dict.fromkeys([current, *encoders])
    candidates = [_get_encoder(handle, encoder_id) for encoder_id in ids]
    in_use = [encoder.crtc_id for encoder in candidates if encoder.encoder_id == current]
    possible = [
        crtc_id
        for encoder in candidates
        for position, crtc_id in enumerate(crtcs)
        if encoder.possible_crtcs >> position & 1
    ]
    for crtc_id in (*in_use, *possible):
        if crtc_id in crtcs:
            return crtc_id
    raise KmsError(f"{handle.path} has no CRTC for the monitor")


def _get_encoder(handle: Handle, encoder_id: int) -> abi.GetEncoder:
    encoder = abi.GetEncoder(encoder_id=encoder_id)
    if encoder_id:
        handle.ioctl(abi.GETENCODER, encoder)
    return encoder


def _check_counts(handle: Handle, *counts: int) -> None:
    if max(counts) > _MAX_OBJECTS:
        raise KmsError(f"{handle.path} reports {max(counts)} connectors, encoders or CRTCs")

"""The sockets that pages and metrics listen on.

They are opened by the program before anything else is, and outlive the processes that serve them.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket

from ..config import ConfigError
from ..messages import ListenError

BACKLOG = 64
SEND_BUFFER_BYTES = 64 * 1024
"""Of each connection; a reader that stalls holds no more than this and what its own side takes."""


LIBRARIES = {"web": ("aiohttp",), "metrics": ("prometheus-client", "aiohttp")}
"""What the processes import; this one does not."""


def check_libraries(section: str, port: int) -> None:
    """Raise ConfigError if a library is missing for what `section` of the configuration serves."""
    for library in LIBRARIES[section]:
        if not is_installed(library.replace("-", "_")):
            raise ConfigError(
                f"{section}.port is {port}, but {library} is not installed:"
                f" pip install 'emotion-edge[{section}]'"
            )


def is_installed(module: str) -> bool:
    """Return whether `module` can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # Python's answer for one that is blocked
        return False


def open_listener(section: str, address: str, port: int) -> socket.socket:
    """Listen on `address` and `port`; 0 is any free port. `section` of the configuration has both.

    Raises ConfigError for an address that is none, and ListenError for one that cannot be listened
    on now.
    """
    try:
        if not address:
            raise UnicodeError("it is empty")
        family, _, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except (UnicodeError, OverflowError, socket.gaierror) as error:
        reason = getattr(error, "strerror", None) or str(error)
        text = f"{section}.address is {address!r}, which is no address: {reason}"
        if getattr(error, "errno", None) == socket.EAI_AGAIN:  # the name server may come back
            raise ListenError(text) from error
        raise ConfigError(text) from error
    try:
        listener = socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(
            f"{section}.port is {port} on {address!r}, which cannot be listened on:"
            f" {os.strerror(error.errno or errno.EINVAL)}"
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.setblocking(False)
    return listener

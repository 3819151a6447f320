"""Which requests are answered: those that name this machine, and come from no other site's page.

A page of another site can send requests to this machine from a browser on it. It can read no
answer, unless its own name leads here (DNS rebinding): the name that the browser asked for tells.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

LOOPBACK_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost"}


class HostCheck:
    """Knows the names of this machine."""

    def __init__(self, configured: str, names: Iterable[str] | None = None) -> None:
        """`configured` is the address of the configuration, which may be a name. `names` are those
        of the machine."""
        own = {socket.gethostname().lower()} if names is None else set(names)
        short = {name.partition(".")[0] for name in own}
        self._names = {configured.lower(), *own, *short, *(f"{name}.local" for name in short)}

    def is_own(self, host: str, local_address: str) -> bool:
        """Return whether a Host header names this machine, at whose `local_address` the request
        has arrived. The port is not compared: a tunnel has another one."""
        name = find_name(host)
        if name is None:
            return False
        local = _parse_address(local_address)
        loopback = local is not None and local.is_loopback
        address = _parse_address(name)
        if address is not None:
            return address == local or (loopback and address.is_loopback)
        return name in self._names or (loopback and name in LOOPBACK_NAMES)


def find_name(host: str) -> str | None:
    """Return the name or address in a Host header, in lower case, or None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for a number that is no port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname or None


def is_foreign(headers: Mapping[str, str], host: str) -> bool:
    """Return whether a browser sends this on behalf of another site's page. Following a link is
    permitted."""
    site, mode = headers.get("Sec-Fetch-Site", "none"), headers.get("Sec-Fetch-Mode", "")
    if site not in {"none", "same-origin"} and mode != "navigate":
        return True
    origin = headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != host


def only_one(values: Sequence[str]) -> str | None:
    """Return the value of a header that must be there once, else None."""
    return values[0] if len(values) == 1 else None


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address

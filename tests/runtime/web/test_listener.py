"""The addresses and ports that can be listened on."""

from __future__ import annotations

import re
import socket

import pytest

from emotion_edge.runtime.config import ConfigError
from emotion_edge.runtime.messages import ListenError
from emotion_edge.runtime.web.listener import open_listener


def test_loopback_only() -> None:
    """No other interface, whatever the machine has."""
    with open_listener("web", "127.0.0.1", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_port_in_use() -> None:
    """A fault of the machine that may pass, which names the setting and the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^web\.port is {port} "):
            open_listener("web", "127.0.0.1", port)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("", ConfigError),
        ("a" * 70 + ".invalid", ConfigError),
        ("192.0.2.1", ListenError),  # of no interface now
    ],
)
def test_wrong_address(address: str, kind: type[Exception]) -> None:
    """One line, and nothing listens on another address instead."""
    with pytest.raises(kind, match=re.escape(repr(address))) as error:
        open_listener("metrics", address, 0)
    assert str(error.value).startswith("metrics.")
    assert "\n" not in str(error.value)

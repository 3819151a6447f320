"""Which requests are answered: the name in the Host header, and the site that asks."""

from __future__ import annotations

import pytest

from emotion_edge.runtime.web.hosts import HostCheck, is_foreign


@pytest.mark.parametrize(
    ("host", "local", "own"),
    [
        ("127.0.0.1:8080", "127.0.0.1", True),
        ("localhost", "127.0.0.1", True),
        ("LOCALHOST:9", "127.0.0.1", True),  # through a tunnel, from another port
        ("[::1]:8080", "::1", True),
        ("localhost:8080", "::ffff:127.0.0.1", True),
        ("192.168.1.5:8080", "192.168.1.5", True),
        ("[fe80::1]", "fe80::1%eth0", True),
        ("kiosk:8080", "192.168.1.5", True),
        ("kiosk.local", "192.168.1.5", True),
        ("page.example", "192.168.1.5", True),  # the configured name
        ("attacker.example", "127.0.0.1", False),
        ("attacker.example:8080", "192.168.1.5", False),
        ("kiosk.attacker.example", "192.168.1.5", False),
        ("kiosk", "127.0.1.1", True),  # where Debian's /etc/hosts has the name
        ("kiosk.lan", "192.168.1.5", True),
        ("lan", "192.168.1.5", False),
        ("localhost.attacker.example", "127.0.0.1", False),
        ("localhost", "192.168.1.5", False),
        ("127.0.0.1.attacker.example", "127.0.0.1", False),
        ("192.168.1.6", "192.168.1.5", False),
        ("user@127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1/x", "127.0.0.1", False),
        ("127.0.0.1:x", "127.0.0.1", False),
        ("[::1", "::1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_names_of_this_machine(host: str, local: str, own: bool) -> None:
    """Those of the loopback interface only where the request has come through it."""
    assert HostCheck("page.example", ["kiosk.lan"]).is_own(host, local) is own


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),  # no browser
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),  # a link
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, True),
        ({"Origin": "http://here:80"}, False),
        ({"Origin": "http://there"}, True),
        ({"Origin": "null"}, True),
    ],
)
def test_pages_of_other_sites(headers: dict[str, str], foreign: bool) -> None:
    """They can be recognised by what every browser sends."""
    assert is_foreign(headers, "here:80") is foreign

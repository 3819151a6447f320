"""The ports that a configuration listens on."""

from __future__ import annotations

import socket
import sys

import pytest

from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.doctor.check import Check
from emotion_edge.runtime.doctor.ports import list_port_checks


def run(config: Config, *, used: bool = False) -> dict[str, Check]:
    return {name: check() for name, check in list_port_checks(config, lambda: used).items()}


def test_only_what_is_configured() -> None:
    """By default nothing listens."""
    assert run(Config()) == {}
    config = load_config(None, ["output.sinks=[null, 'web:0']", "metrics.port=9100"])
    assert list(run(config)) == ["web:0", "metrics"]


@pytest.mark.parametrize("spec", ["web:x", "web:", "web:70000"])
def test_no_port(spec: str) -> None:
    """The doctor says so and goes on."""
    (check,) = run(load_config(None, [f"output.sinks=['{spec}']"])).values()
    assert check.state == "fail"
    assert spec in check.message


def test_free_taken_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken fails, unless the service has it. So does a missing library."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = load_config(None, [f"output.sinks=['web:{port}']"])
        (taken,) = run(config).values()
        assert (taken.name, taken.state) == ("web", "fail")
        assert taken.message.startswith(f"web.port is {port} ")
        assert [check.state for check in run(config, used=True).values()] == ["ok"]
    (free,) = run(config).values()
    assert free == Check("web", "ok", f"127.0.0.1, port {port}")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    (missing,) = run(config, used=True).values()
    assert missing.state == "fail"
    assert "[web]" in missing.message

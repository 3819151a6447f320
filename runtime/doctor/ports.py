"""Checks of the ports that a configuration listens on: the page's and the metrics'.

In: the configuration. Out: one `Check` each. A port is opened and closed again, unless the service
may have it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..config import Config, ConfigError
from ..messages import ListenError
from ..sinks import read_port
from .check import Check


def list_port_checks(config: Config, is_used: Callable[[], bool]) -> dict[str, Callable[[], Check]]:
    """Return the checks of the ports that `config` names. `is_used`: the service may have them."""
    metrics = config.metrics
    pages = [spec for spec in config.output.sinks if spec.partition(":")[0] == "web"]
    checks: dict[str, Callable[[], Check]] = {
        spec: partial(check_page, spec, config, is_used) for spec in pages
    }
    if metrics.port:
        checks["metrics"] = partial(check_port, "metrics", metrics.address, metrics.port, is_used)
    return checks


def check_page(spec: str, config: Config, is_used: Callable[[], bool]) -> Check:
    """Check the port of an output "web" or "web:PORT"."""
    _, colon, port = spec.partition(":")
    try:
        web = read_port(port, config.web) if colon else config.web
    except ValueError as error:
        return Check("web", "fail", str(error))
    return check_port("web", web.address, web.port, is_used)


def check_port(section: str, address: str, port: int, is_used: Callable[[], bool]) -> Check:
    """Check one port. `section` of the configuration has it."""
    from ..web.listener import check_libraries, open_listener

    try:
        check_libraries(section, port)
        if is_used():
            return Check(section, "ok", "not tried: the service is using it")
        open_listener(section, address, port).close()
    except (ConfigError, ListenError) as error:
        return Check(section, "fail", str(error))
    return Check(section, "ok", f"{address}, port {port}")

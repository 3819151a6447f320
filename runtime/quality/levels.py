"""Quality levels of a run: the description in the bundle and the opened networks of each.

In: a bundle and the configuration. Out: the levels that can run here, best first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from msgspec.structs import replace

from ...engines import ENGINES, open_engine
from ...engines.base import Engine, EngineError, Report
from ...engines.bundles import Bundle, Level
from ...engines.golden import check_golden_output
from ...engines.tensorrt import BuildOptions
from ..config import Config, ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunLevel:
    """A quality level with its networks."""

    level: Level
    engines: Mapping[str, Engine]
    """By network. Levels of the same precision share them."""


def find_level(bundle: Bundle, name: str) -> Level:
    """Return the quality level called `name`; for "", the best. Raises ConfigError."""
    levels = bundle.manifest.levels
    for level in levels:
        if name in ("", level.name):
            return level
    raise ConfigError(f"level is {name!r}, allowed: {', '.join(level.name for level in levels)}")


def drop_unknown_level(config: Config, bundle: Bundle) -> Config:
    """Return the configuration without a `level` that an installed bundle lacks.

    An update or a rollback must not prevent a start. A bundle that the configuration names is only
    changed by the user, so there an unknown level stays an error."""
    names = [level.name for level in bundle.manifest.levels]
    if config.bundle or config.level in ("", *names):
        return config
    log.warning(
        "level is %r, but the bundle %s has only %s: the level is chosen automatically",
        config.level,
        bundle.manifest.name,
        ", ".join(names),
    )
    return replace(config, level="")


def open_levels(
    stack: ExitStack, config: Config, bundle: Bundle, report: Report, *, only_one: bool = False
) -> tuple[RunLevel, ...]:
    """Open and verify the networks of the configured level; without one, of all levels, or with
    `only_one` of the best.

    A level whose networks fail is left out with a warning. Raises EngineError if it is the only
    one, and ConfigError for an unknown level or engine. The networks close with `stack`."""
    if config.engines.name not in ENGINES:
        raise ConfigError(f"engines.name is {config.engines.name!r}, allowed: {', '.join(ENGINES)}")
    wanted = bundle.manifest.levels
    if config.level or only_one:
        wanted = [find_level(bundle, config.level)]
    opened: dict[str, Mapping[str, Engine] | EngineError] = {}
    levels: list[RunLevel] = []
    failures: dict[str, EngineError] = {}
    for level in wanted:
        chosen = config.engines.precision
        precision = level.precision if chosen == "auto" else chosen
        if precision not in opened:
            try:
                opened[precision] = _open_networks(stack, config, bundle, precision, report)
            except EngineError as error:
                opened[precision] = error
        networks = opened[precision]
        if isinstance(networks, EngineError):
            failures[level.name] = networks
        else:
            levels.append(RunLevel(level, networks))
    if not levels:
        raise failures[wanted[-1].name]
    for name, failure in failures.items():
        log.warning("level %s is left out: %s", name, failure)
    return tuple(levels)


def _open_networks(
    stack: ExitStack, config: Config, bundle: Bundle, precision: str, report: Report
) -> dict[str, Engine]:
    with ExitStack() as opened:  # closes the networks of a level of which one fails
        engines = {
            network: opened.enter_context(_open_network(config, bundle, network, precision, report))
            for network in bundle.manifest.networks
        }
        stack.push(opened.pop_all())
        return engines


def _open_network(
    config: Config, bundle: Bundle, network: str, precision: str, report: Report
) -> Engine:
    """Open a network and check its golden output. The engine "auto" falls back to ONNX Runtime when
    TensorRT fails the check. Raises EngineError."""
    chosen = config.engines
    options = BuildOptions(
        (config.level,) if config.level else (), chosen.dla_core if chosen.dla_core >= 0 else None
    )
    engine = open_engine(
        chosen.name, bundle, network, chosen.num_threads, precision, options, report
    )
    if chosen.name != "null":
        try:
            check_golden_output(engine, bundle, network)
        except EngineError as error:
            engine.close()
            if (chosen.name, engine.name) != ("auto", "tensorrt"):
                raise
            log.warning("running on ONNX Runtime instead of TensorRT: %s", error)
            on_onnx = replace(config, engines=replace(chosen, name="onnx"))
            return _open_network(on_onnx, bundle, network, precision, report)
    return engine

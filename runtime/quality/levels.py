"""Quality levels as they run: what the bundle says of each, and the networks opened for it.

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
    """One level and its networks, by name; levels of one precision share them."""

    level: Level
    engines: Mapping[str, Engine]


def find_level(bundle: Bundle, name: str) -> Level:
    """The quality level called `name`, or the best. Raises ConfigError."""
    levels = bundle.manifest.levels
    for level in levels:
        if name in ("", level.name):
            return level
    raise ConfigError(f"level is {name!r}, allowed: {', '.join(level.name for level in levels)}")


def drop_unknown_level(config: Config, bundle: Bundle) -> Config:
    """For a bundle that was chosen on the device, the configuration without a level that it lacks:
    an update, or the way back from one, must not keep the program from starting. A bundle that the
    configuration names itself does not change behind its back, so there it stays an error."""
    names = [level.name for level in bundle.manifest.levels]
    if config.bundle or config.level in ("", *names):
        return config
    log.warning(
        "level is %r, and the bundle %s has %s: the level is chosen by what the machine can do",
        config.level,
        bundle.manifest.name,
        ", ".join(names),
    )
    return replace(config, level="")


def open_levels(
    stack: ExitStack, config: Config, bundle: Bundle, report: Report, *, only_one: bool = False
) -> tuple[RunLevel, ...]:
    """Open and prove the networks of the level that is asked for; else of all, or with `only_one`
    of the best. A level whose networks cannot be opened is left out with a warning, unless none is
    left or it was asked for: then EngineError is raised. ConfigError for names that do not exist.
    The networks close with `stack`."""
    if config.engines.name not in ENGINES:
        raise ConfigError(f"engines.name is {config.engines.name!r}, allowed: {', '.join(ENGINES)}")
    every = bundle.manifest.levels
    wanted = [find_level(bundle, config.level)] if config.level or only_one else every
    opened: dict[str, Mapping[str, Engine] | EngineError] = {}
    levels: list[RunLevel] = []
    failure: EngineError | None = None
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
            failure = networks
            if len(wanted) > 1:
                log.warning("level %s is left out: %s", level.name, networks)
        else:
            levels.append(RunLevel(level, networks))
    if not levels:
        assert failure is not None
        raise failure
    return tuple(levels)


def _open_networks(
    stack: ExitStack, config: Config, bundle: Bundle, precision: str, report: Report
) -> dict[str, Engine]:
    with ExitStack() as mine:  # those of a level that fails half-way are closed at once
        engines = {
            network: mine.enter_context(_open_network(config, bundle, network, precision, report))
            for network in bundle.manifest.networks
        }
        stack.push(mine.pop_all())
        return engines


def _open_network(
    config: Config, bundle: Bundle, network: str, precision: str, report: Report
) -> Engine:
    """Open and prove; "auto" falls back from a TensorRT engine that answers wrongly. Raises
    EngineError."""
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

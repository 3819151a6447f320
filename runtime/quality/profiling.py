"""What each quality level costs on this machine: measured once, kept beside the engines.

In: the levels as they run. Out: a `LevelCost` for each, read from the file of this machine, or
measured. The file is believed only if it is whole and of just this bundle, these versions, this
machine; its name says so too, so that one folder can hold those of several.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...engines.base import EngineError
from ...engines.bundles import Bundle
from ...engines.storage import atomic_write, make_folder
from ...engines.tensorrt import clean_name, find_cache_folder, hash_key, load_tensorrt, open_gpu
from ...kernels import Preprocessor
from ..board import describe_machine
from ..clock import Clock
from .controller import LevelCost
from .cost import MAX_COST_MS, cost_key, measure_levels
from .levels import RunLevel

log = logging.getLogger(__name__)

FORMAT = 1
MAX_BYTES = 64 * 1024
MAX_PROFILES = 4
"""Profiles of one bundle: a step back to another power mode or version needs no measuring."""
START_S = 0.4
"""For all levels together, while somebody waits for the first result."""
COMMAND_S = 2.0
"""For each size and precision, when somebody asks for it."""
MACHINE = ("cpu", "cores", "cores_usable", "architecture", "board", "l4t", "power_mode", "governor")
"""Of `describe_machine`: what costs depend on and a start does not change. Clock limits are left
out, as heat lowers them."""
PACKAGES = ("emotion-edge", "numba", "numpy", "onnxruntime")

Milliseconds = Annotated[float, Meta(ge=0, le=MAX_COST_MS)]


class CostEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `LevelCost`."""

    name: str
    base_ms: Annotated[float, Meta(gt=0, le=MAX_COST_MS)]
    face_ms: Milliseconds
    voice_ms: Milliseconds


class LevelProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    format: int
    key: str
    measured: Literal["start", "command"]
    """In a hurry when a run started, or at leisure by `emotion-edge profile`."""
    measured_of: dict[str, str]
    """What the key was made of."""
    levels: list[CostEntry]


@dataclass(frozen=True, slots=True)
class ProfileSetup:
    """What is measured, and with what."""

    bundle: Bundle
    levels: Sequence[RunLevel]
    preprocessor: Preprocessor
    num_threads: int
    """As configured, for each network; 0: half of the cores."""
    clock: Clock
    dla_core: int = -1
    """As configured."""


def profile_levels(
    setup: ProfileSetup, *, folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[LevelCost, ...]:
    """The costs of every level, from the file or measured now. For the start of a run, when
    everything is warm and no sound has been pushed. Raises EngineError when a network fails."""
    key_parts = describe_setup(setup)
    try:
        file = _find_file(setup, key_parts, folder, environment)
    except EngineError as error:
        log.info("levels are measured, and their costs not kept: %s", error)
        return _measure(setup, START_S)
    names = [one.level.name for one in setup.levels]
    try:
        return _load(file, hash_key(key_parts), names)
    except FileNotFoundError:
        log.info(
            "levels are measured: %s has no profile of this bundle, these versions and this"
            " machine; `emotion-edge profile` does it more exactly",
            file.parent,
        )
    except (OSError, ValueError) as error:
        log.warning("%s: not usable, levels are measured again: %s", file, _explain(error))
    costs = _measure(setup, START_S)
    with suppress(OSError, ValueError):
        return _load(file, hash_key(key_parts), names)  # somebody has measured it meanwhile
    _store(file, key_parts, costs, "start")
    return costs


def remeasure_levels(
    setup: ProfileSetup, *, folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[tuple[LevelCost, ...], Path | None]:
    """Measure at leisure and store it, whatever is there -> costs and file, None where it could
    not be written; the log says why. Raises EngineError when a network fails, or for no home
    folder."""
    key_parts = describe_setup(setup)
    file = _find_file(setup, key_parts, folder, environment)
    kinds = set(map(cost_key, setup.levels))
    costs = _measure(setup, COMMAND_S * len(kinds))
    return costs, file if _store(file, key_parts, costs, "command") else None


def describe_setup(setup: ProfileSetup) -> dict[str, str]:
    """All that the costs depend on. Raises EngineError."""
    machine = describe_machine()
    levels = [
        (one.level, {name: f"{e.name} {e.precision}" for name, e in sorted(one.engines.items())})
        for one in setup.levels
    ]
    parts = {
        "format": str(FORMAT),
        "bundle": setup.bundle.sha256,
        "levels": msgspec.json.encode(levels).decode(),
        "preprocessor": setup.preprocessor.name,
        "num_threads": str(setup.num_threads),
        "dla_core": str(setup.dla_core),
        **{name: str(machine[name]) for name in MACHINE},
        **{name: _find_version(name) for name in PACKAGES},
    }
    if any(e.name == "tensorrt" for one in setup.levels for e in one.engines.values()):
        gpu = open_gpu()
        parts["gpu"] = f"{gpu.name}, {gpu.num_sms} multiprocessors"
        parts["tensorrt"] = load_tensorrt()
    return parts


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a build of another name, such as NVIDIA's for its boards
        return ""


def _find_file(
    setup: ProfileSetup,
    key_parts: Mapping[str, str],
    folder: Path | None,
    environment: Mapping[str, str],
) -> Path:
    key = hash_key(key_parts)
    name = clean_name(setup.bundle.manifest.name)
    return (folder or find_cache_folder(environment)) / f"levels-{name}-{key[:16]}.json"


def _measure(setup: ProfileSetup, seconds: float) -> tuple[LevelCost, ...]:
    return measure_levels(
        setup.levels, setup.bundle.manifest, setup.preprocessor, setup.clock, seconds
    )


def _load(file: Path, key: str, names: Sequence[str]) -> tuple[LevelCost, ...]:
    """Raises OSError, and ValueError with the reason for what must not be believed."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block
    try:
        data = os.read(handle, MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    profile = msgspec.json.decode(data, type=LevelProfile)
    if (profile.format, profile.key) != (FORMAT, key):
        raise ValueError("it is of another machine, version or bundle")
    if [entry.name for entry in profile.levels] != list(names):
        raise ValueError("it is of other levels")
    return tuple(LevelCost(e.name, e.base_ms, e.face_ms, e.voice_ms) for e in profile.levels)


def _store(
    file: Path,
    key_parts: Mapping[str, str],
    costs: Sequence[LevelCost],
    measured: Literal["start", "command"],
) -> bool:
    """In one step, which a power cut does not halve."""
    entries = [CostEntry(c.name, c.base_ms, c.face_ms, c.voice_ms) for c in costs]
    profile = LevelProfile(FORMAT, hash_key(key_parts), measured, dict(key_parts), entries)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")  # another start may write it too
    try:
        make_folder(file.parent, 0o700)
        content = msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"
        atomic_write(file, content, draft=draft)
    except OSError as error:
        log.warning(
            "%s: the profile of the levels is not stored (%s), they are measured at each start:"
            " set EMOTION_EDGE_CACHE to a folder that can be written",
            file.parent,
            _explain(error),
        )
        return False
    with suppress(OSError):
        _drop_old(file)
    return True


def _drop_old(newest: Path) -> None:
    """Those of the same bundle, and what a killed process has left half-written."""
    stem = newest.name.rpartition("-")[0]
    pattern = re.compile(re.escape(stem) + r"-[0-9a-f]{16}\.json(\.\d+\.part)?")
    others = [
        (file.stat().st_mtime_ns, file)
        for file in newest.parent.iterdir()
        if pattern.fullmatch(file.name) and file != newest
    ]
    for _, file in sorted(others, reverse=True)[MAX_PROFILES - 1 :]:
        file.unlink(missing_ok=True)


def _explain(error: Exception) -> str:
    """In one line, without the file's name."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or " ".join(str(error).split())

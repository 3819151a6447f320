"""Profile of the quality levels: their costs, measured once and stored beside the engines.

In: the levels of a run. Out: a `LevelCost` for each, from the profile or measured now. A profile is
valid only if it is complete and of the same bundle, package versions and machine. The key of these
is part of its file name, so that one folder can hold several profiles.
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
from ...engines.bundles import Bundle, Level
from ...engines.storage import atomic_write, make_folder
from ...engines.tensorrt import clean_name, find_cache_folder, hash_key, load_tensorrt, open_gpu
from ...kernels import Preprocessor
from ..board import describe_machine
from ..clock import Clock
from .controller import LevelCost
from .cost import MAX_COST_MS, cost_key, measure_levels
from .levels import RunLevel

log = logging.getLogger(__name__)

FORMAT = 2
MAX_BYTES = 64 * 1024
MAX_PROFILES = 4
"""Profiles per bundle that stay, so that a return to a power mode or version needs no new one."""
START_S = 0.4
"""Duration of the measurement of all levels at the start of a run."""
COMMAND_S = 2.0
"""Duration per face size and precision for `emotion-edge profile`."""
MACHINE = ("cpu", "cores", "cores_usable", "architecture", "board", "l4t", "power_mode", "governor")
"""Keys of `describe_machine` on which costs depend. Clock limits are excluded, because heat changes
them."""
PACKAGES = ("emotion-edge", "numba", "numpy", "onnxruntime")

Milliseconds = Annotated[float, Meta(ge=0, le=MAX_COST_MS)]


class CostEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `LevelCost` in the file."""

    name: str
    base_ms: Annotated[float, Meta(gt=0, le=MAX_COST_MS)]
    face_ms: Milliseconds
    voice_ms: Milliseconds
    more_face_ms: Milliseconds


class LevelProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file."""

    format: int
    key: str
    measured: Literal["start", "command"]
    """At the start of a run, or by `emotion-edge profile`, which takes longer and is more exact."""
    measured_of: dict[str, str]
    """The parts of the key."""
    levels: list[CostEntry]


@dataclass(frozen=True, slots=True)
class ProfileSetup:
    """The levels to measure, and all that their costs depend on."""

    bundle: Bundle
    levels: Sequence[RunLevel]
    preprocessor: Preprocessor
    num_threads: int
    """`engines.num_threads` of the configuration."""
    clock: Clock
    dla_core: int = -1
    """`engines.dla_core` of the configuration."""


def profile_levels(
    setup: ProfileSetup, *, folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[LevelCost, ...]:
    """Return the costs of all levels from the profile, or measure and store them.

    For the start of a run: networks must be warm and the log-mel empty. Raises EngineError when a
    network fails."""
    key_parts = describe_setup(setup)
    try:
        file = _find_file(setup, key_parts, folder, environment)
    except EngineError as error:
        log.info("levels are measured, and their profile is not stored: %s", error)
        return _measure(setup, START_S)
    levels = [run_level.level for run_level in setup.levels]
    try:
        return _load(file, hash_key(key_parts), levels)
    except FileNotFoundError:
        log.info(
            "levels are measured: %s has no profile for this bundle, these versions and this"
            " machine; `emotion-edge profile` makes a more exact one",
            file.parent,
        )
    except (OSError, ValueError) as error:
        log.warning("%s: invalid profile, levels are measured again: %s", file, _explain(error))
    costs = _measure(setup, START_S)
    with suppress(OSError, ValueError):  # `emotion-edge profile` may have stored one meanwhile
        return _load(file, hash_key(key_parts), levels)
    _store(file, key_parts, costs, "start")
    return costs


def remeasure_levels(
    setup: ProfileSetup, *, folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[tuple[LevelCost, ...], Path | None]:
    """Measure all levels anew and store the profile.

    Return the costs and the file, None if it could not be written: the log has the reason. Raises
    EngineError when a network fails, or without a home folder."""
    key_parts = describe_setup(setup)
    file = _find_file(setup, key_parts, folder, environment)
    num_groups = len(set(map(cost_key, setup.levels)))
    costs = _measure(setup, COMMAND_S * num_groups)
    return costs, file if _store(file, key_parts, costs, "command") else None


def describe_setup(setup: ProfileSetup) -> dict[str, str]:
    """Return all that the costs depend on, by name. Raises EngineError."""
    machine = describe_machine()
    levels = []
    for run_level in setup.levels:
        engines = sorted(run_level.engines.items())
        names = {network: f"{engine.name} {engine.precision}" for network, engine in engines}
        levels.append((run_level.level, names))
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
    if any(e.name == "tensorrt" for run_level in setup.levels for e in run_level.engines.values()):
        gpu = open_gpu()
        parts["gpu"] = f"{gpu.name}, {gpu.num_sms} multiprocessors"
        parts["tensorrt"] = load_tensorrt()
    return parts


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a build with another name, such as NVIDIA's for its boards
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


def _load(file: Path, key: str, levels: Sequence[Level]) -> tuple[LevelCost, ...]:
    """Read a profile. Raises OSError, and ValueError with the reason why it is invalid."""
    # Non-blocking: the file may be a pipe.
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(handle, MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    profile = msgspec.json.decode(data, type=LevelProfile)
    if (profile.format, profile.key) != (FORMAT, key):
        raise ValueError("key of another machine, version or bundle")
    if [entry.name for entry in profile.levels] != [level.name for level in levels]:
        raise ValueError("other levels")
    return tuple(
        LevelCost(e.name, e.base_ms, e.face_ms, e.voice_ms, e.more_face_ms, level.faces)
        for e, level in zip(profile.levels, levels, strict=True)
    )


def _store(
    file: Path,
    key_parts: Mapping[str, str],
    costs: Sequence[LevelCost],
    measured: Literal["start", "command"],
) -> bool:
    """Write the profile atomically: a power cut leaves the old or the new one. Return whether that
    succeeded; a failure is logged."""
    entries = [CostEntry(c.name, c.base_ms, c.face_ms, c.voice_ms, c.more_face_ms) for c in costs]
    profile = LevelProfile(FORMAT, hash_key(key_parts), measured, dict(key_parts), entries)
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")  # not shared with another process
    try:
        make_folder(file.parent, 0o700)
        content = msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"
        atomic_write(file, content, draft=draft)
    except OSError as error:
        log.warning(
            "%s: cannot store the profile (%s), levels are measured at each start:"
            " set EMOTION_EDGE_CACHE to a writable folder",
            file.parent,
            _explain(error),
        )
        return False
    with suppress(OSError):
        _drop_old(file)
    return True


def _drop_old(newest: Path) -> None:
    """Delete the oldest profiles of the same bundle, and drafts of killed processes."""
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
    """Return the reason in one line, without the name of the file."""
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or " ".join(str(error).split())

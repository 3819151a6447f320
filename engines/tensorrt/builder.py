"""Build a TensorRT engine from ONNX on the machine that runs it.

In: an `EnginePlan`. Out: the serialized engine, from the cache if possible, or an EngineError with
TensorRT's reason. A build takes minutes on a small board. It reports its progress every few
seconds and can be interrupted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..base import EngineError, Report
from .cache import EngineCache, hash_key
from .compiler import Progress, compile_engine
from .gpu import Gpu, choose_workspace, read_free_bytes, read_free_memory, read_l4t_release
from .plan import EnginePlan, list_key_parts, read_model

log = logging.getLogger(__name__)

MAX_NAME = 60
"""Characters of the bundle's name in a file name."""
REPORT_EVERY_S = 5.0
CANCEL_WAIT_S = 20.0
"""Time for an interrupted build to stop: TensorRT checks between two steps."""


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialized engine and its origin."""

    data: bytes
    file: Path | None
    """In the cache; None where it could not be stored."""
    seconds: float
    """Duration of the build; 0 from the cache."""


def find_cached_engine(
    plan: EnginePlan, gpu: Gpu, version: str, cache: EngineCache
) -> BuiltEngine | None:
    """Load the engine from the cache; None where it must be built. Raises EngineError."""
    prefix, key = _name_engine(plan, list_key_parts(plan, gpu, version, read_l4t_release()))
    data = cache.load(prefix, key)
    return None if data is None else BuiltEngine(data, cache.find_file(prefix, key), 0.0)


def load_or_build_engine(
    plan: EnginePlan,
    gpu: Gpu,
    version: str,
    cache: EngineCache,
    report: Report,
    force: bool = False,
) -> BuiltEngine:
    """Load the engine from the cache, else build and store it. `force` always builds.

    `version` is TensorRT's. Raises EngineError.
    """
    parts = list_key_parts(plan, gpu, version, read_l4t_release())
    prefix, key = _name_engine(plan, parts)
    file = cache.find_file(prefix, key)
    if not force and (data := cache.load(prefix, key)) is not None:
        return BuiltEngine(data, file, 0.0)
    with cache.lock(report):
        # The process that held the lock may have built the same engine.
        if not force and (data := cache.load(prefix, key)) is not None:
            return BuiltEngine(data, file, 0.0)
        began = time.monotonic()
        workspace = choose_workspace(read_free_memory(), read_free_bytes(gpu))
        device = {name: parts[name] for name in ("tensorrt", "gpu", "num_sms", "l4t")}
        timing_name = f"timing-{hash_key(device)[:16]}.cache"
        model = read_model(plan)
        log.info("building %s with %d MB of workspace", plan.title, workspace >> 20)
        data, timing = _build_in_thread(
            plan, model, workspace, cache.load_timing(timing_name), version, gpu, report
        )
        seconds = time.monotonic() - began
        stored = cache.store(prefix, key, parts, data)
        if timing:
            cache.store_timing(timing_name, timing)
    log.info("built %s in %.0f s, %d bytes", plan.title, seconds, len(data))
    return BuiltEngine(data, stored, seconds)


def _name_engine(plan: EnginePlan, parts: Mapping[str, str]) -> tuple[str, str]:
    """Return (prefix, key) of its file in the cache."""
    prefix = f"{plan.bundle_name[:MAX_NAME]}-{plan.network}-{plan.precision}"
    return prefix, hash_key(parts)


def _build_in_thread(
    plan: EnginePlan,
    model: bytes,
    workspace: int,
    timing: bytes,
    version: str,
    gpu: Gpu,
    report: Report,
) -> tuple[bytes, bytes]:
    """Run the builder in a thread, while this one reports and can be interrupted.

    TensorRT releases Python's interpreter lock while it builds, and uses the primary context.
    """
    progress = Progress()
    results: list[tuple[bytes, bytes]] = []
    failures: list[EngineError] = []

    def work() -> None:
        try:
            results.append(compile_engine(plan, model, workspace, timing, version, gpu, progress))
        except EngineError as error:
            failures.append(error)
        except Exception as error:  # noqa: BLE001 - pybind11 raises many kinds, without a base
            failures.append(EngineError(f"{plan.title}: TensorRT failed: {error}"))

    report(f"building {plan.title}")
    worker = threading.Thread(target=work, name="tensorrt-build", daemon=True)
    began = time.monotonic()
    worker.start()
    try:
        while worker.is_alive():
            worker.join(REPORT_EVERY_S)
            if worker.is_alive():
                elapsed = time.monotonic() - began
                report(f"building {plan.title}: {progress.text}, {elapsed:.0f} s")
    except BaseException:
        progress.is_cancelled = True
        worker.join(CANCEL_WAIT_S)
        raise
    if failures:
        raise failures[0]
    return results[0]

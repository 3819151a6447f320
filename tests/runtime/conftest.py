"""What the tests of the runtime share: a recording sink, configurations without models, videos."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emotion_edge.runtime.config import Config, load_config
from emotion_edge.runtime.messages import Estimate
from emotion_edge.runtime.quality import profiling

from .media import write_video


class Collector:
    """A sink that records every estimate and passes it to `on_publish`."""

    def __init__(self) -> None:
        self.estimates: list[Estimate] = []
        self.on_publish: Callable[[Estimate], None] = lambda _: None

    def publish(self, estimate: Estimate) -> None:
        self.estimates.append(estimate)
        self.on_publish(estimate)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _fast_level_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a run measures its levels as briefly as possible."""
    monkeypatch.setattr(profiling, "START_S", 0.0)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def configure(null_bundle: Path) -> Callable[..., Config]:
    """A function (source, settings) -> a configuration with the null engine, and a budget that no
    machine misses."""

    def make(source: object, *settings: str) -> Config:
        fixed = [f"source.name='{source}'", f"bundle='{null_bundle}'", "engines.name=null"]
        return load_config(None, [*fixed, "budget_ms=10000", *settings])

    return make


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs started by the test react to SIGINT. A shell that runs the tests in the background
    ignores it, which child processes inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def no_thread_left() -> Iterator[None]:
    """Fails if a thread that the test started is still alive at its end."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) - before == set()


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """A function (name, arguments of `write_video`) -> path of a new file."""

    def make(name: str, *arguments: object, **options: object) -> Path:
        return write_video(tmp_path / name, *arguments, **options)  # type: ignore[arg-type]

    return make

"""Opening of levels, and what a level switch changes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from emotion_edge.engines.base import EngineError, null_reporter
from emotion_edge.engines.bundles.manifest import Bundle, Level, load_bundle, write_manifest
from emotion_edge.engines.bundles.selection import Selection
from emotion_edge.engines.bundles.store import BundleStore
from emotion_edge.runtime.clock import FakeClock
from emotion_edge.runtime.config import Config, ConfigError, load_config
from emotion_edge.runtime.quality import levels
from emotion_edge.runtime.quality.levels import (
    RunLevel,
    drop_unknown_level,
    find_level,
    open_levels,
)
from emotion_edge.runtime.session import Runtime, open_runtime

LEVELS = [
    Level("high", 64),
    Level("medium", 64, precision="int8"),
    Level("low", 48, voice=False, face_find_hz=2, camera_fps=10),
]


@pytest.fixture
def bundle(null_bundle: Path, tmp_path: Path) -> Bundle:
    """The null bundle with three levels, one of them INT8."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    manifest = load_bundle(null_bundle).manifest
    for name in manifest.files:
        (folder / name).write_bytes((null_bundle / name).read_bytes())
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del fields["format"], fields["files"]
    return write_manifest(folder, {**fields, "levels": LEVELS})


@pytest.fixture
def configure(bundle: Bundle) -> Callable[..., Config]:
    fixed = ["source.name=demo", f"bundle='{bundle.path}'", "engines.name=null"]
    return lambda *settings: load_config(None, [*fixed, *settings])


@pytest.fixture
def open_some(bundle: Bundle) -> Iterator[Callable[[Config], Sequence[RunLevel]]]:
    with ExitStack() as stack:
        yield lambda config: open_levels(stack, config, bundle, null_reporter)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Precisions at which no network opens."""
    precisions: set[str] = set()
    real = levels.open_engine

    def open_engine(name: str, bundle: Bundle, network: str, threads: int, precision: str, *rest):  # type: ignore[no-untyped-def]
        if precision in precisions:
            raise EngineError(f"no {network} network of precision {precision}")
        return real(name, bundle, network, threads, precision, *rest)

    monkeypatch.setattr(levels, "open_engine", open_engine)
    return precisions


def test_levels_of_one_precision_share_their_networks(
    open_some: Callable[[Config], Sequence[RunLevel]], configure: Callable[..., Config]
) -> None:
    """Another precision has networks of its own."""
    high, medium, low = open_some(configure())
    assert [run_level.level.name for run_level in (high, medium, low)] == ["high", "medium", "low"]
    assert high.engines["face"] is low.engines["face"]
    assert high.engines["face"] is not medium.engines["face"]


def test_configured_precision_overrides_the_level(
    open_some: Callable[[Config], Sequence[RunLevel]], configure: Callable[..., Config]
) -> None:
    """All levels share the networks of `engines.precision`."""
    opened = open_some(configure("engines.precision=fp32"))
    assert len({id(run_level.engines["face"]) for run_level in opened}) == 1


def test_level_whose_networks_fail_is_left_out(
    open_some: Callable[[Config], Sequence[RunLevel]],
    configure: Callable[..., Config],
    broken: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning names the level and the reason."""
    broken.add("int8")
    with caplog.at_level(logging.WARNING, "emotion_edge"):
        opened = open_some(configure())
    assert [run_level.level.name for run_level in opened] == ["high", "low"]
    (record,) = caplog.records
    name, reason = record.args or ((), ())
    assert name == "medium"
    assert isinstance(reason, EngineError)


def test_configured_level_must_open(
    open_some: Callable[[Config], Sequence[RunLevel]],
    configure: Callable[..., Config],
    broken: set[str],
) -> None:
    """No other level replaces it. Without any level that opens, the start fails too."""
    broken.add("int8")
    with pytest.raises(EngineError, match="int8"):
        open_some(configure("level=medium"))
    broken.add("auto")
    with pytest.raises(EngineError):
        open_some(configure())


def test_level_by_name(bundle: Bundle) -> None:
    """No name is the best level; an unknown name is an error that lists the known ones."""
    assert find_level(bundle, "").name == "high"
    assert find_level(bundle, "low").name == "low"
    with pytest.raises(ConfigError, match=r"level is 'best'.*: high, medium, low"):
        find_level(bundle, "best")


def test_level_of_another_bundle(
    bundle: Bundle, configure: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    """An installed bundle that lacks the configured level is one warning. It stays an error if the
    configuration names the bundle too."""
    with caplog.at_level(logging.WARNING, "emotion_edge"):
        for known in (Config(), Config(level="low"), configure("level=best")):
            assert drop_unknown_level(known, bundle) is known
        assert caplog.records == []
        assert drop_unknown_level(Config(level="best"), bundle) == Config()
    (record,) = caplog.records
    assert record.args == ("best", "null", "high, medium, low")


def test_start_after_a_rollback(
    null_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The previous bundle lacks the level of the new one. The program starts, and the controller
    chooses the level."""
    monkeypatch.setenv("EMOTION_EDGE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("EMOTION_EDGE_CACHE", str(tmp_path / "cache"))
    store = BundleStore(tmp_path / "state")
    name = load_bundle(null_bundle).sha256[:16]
    shutil.copytree(null_bundle, store.find_folder(name))
    store.write_selection(Selection(current=name))
    config = load_config(None, ["engines.name=null", "level=newest"])
    with (
        caplog.at_level(logging.WARNING, "emotion_edge"),
        open_runtime(config, FakeClock(), controlled=True) as runtime,
    ):
        assert [run_level.level.name for run_level in runtime.levels] == ["high", "low"]
        assert runtime.quality is not None
    assert len([line for line in caplog.messages if "newest" in line]) == 1


def test_level_switch(configure: Callable[..., Config]) -> None:
    """It changes the pipeline, the period of the face tracker and the frame rate."""

    def describe(runtime: Runtime) -> tuple[object, ...]:
        accepted = sum(runtime.rate_limiter.accepts(n * 1_000_000_000 // 30) for n in range(30))
        runtime.rate_limiter.skipped = 0
        level = runtime.pipeline.level
        return level.name, level.face_px, runtime.face_tracker.period_ns, accepted

    with open_runtime(configure(), FakeClock(), controlled=True) as runtime:
        assert describe(runtime) == ("high", 64, 125_000_000, 30)
        runtime.use_level(2)
        assert describe(runtime)[:3] == ("low", 48, 500_000_000)
        assert runtime.level.name == "low"
        assert not runtime.pipeline.is_voice_due(0)
        runtime.use_level(0)
        assert describe(runtime)[:3] == ("high", 64, 125_000_000)
        assert runtime.pipeline.is_voice_due(0)

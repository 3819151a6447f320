"""Fixtures for the tests of all folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest

from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.manifest import Level, ModelEntry, write_manifest
from emotion_edge.kernels import has_gpu
from emotion_edge.kernels.spec import ImageSpec, MelSpec

TESTS = Path(__file__).parent

# No test depends on the speed of the machine.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

if not has_gpu():
    # Before anything imports Numba: its CUDA kernels then run in Python.
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--many",
        type=int,
        nargs="?",
        const=10_000,
        default=0,
        help="cases of each fuzzer in tests/fuzz (default: a few hundred; without N 10000)",
    )


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep profiles, engines and bundles of the tests apart from those of the user or a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CACHE_DIRECTORY", raising=False)
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("EMOTION_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EMOTION_EDGE_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and data sets, which is not part of the repository.

    EMOTION_EDGE_DATA names it; the default is shared/data beside the checkout. Skips without it.
    """
    named = os.environ.get("EMOTION_EDGE_DATA")
    parents = (TESTS.parent.parent, Path.cwd().parent)
    folders = [Path(named)] if named else [parent / "shared" / "data" for parent in parents]
    for folder in folders:
        if folder.is_dir():
            return folder.resolve()
    pytest.skip(f"no real data in {' or '.join(map(str, folders))}; set EMOTION_EDGE_DATA")


def write_null_bundle(folder: Path, labels: Sequence[str] = LABELS) -> Path:
    """Write a bundle for the null engine, which does not read the files of the networks."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {}
    for name in ("face", "voice"):
        (folder / f"{name}.onnx").write_bytes(b"no network")
        models[name] = ModelEntry(f"{name}.onnx", 1.0, 0.5, [0.0] * len(labels))
    write_manifest(
        folder,
        {
            "name": "null",
            "labels": list(labels),
            "image": ImageSpec(),
            "mel": MelSpec(),
            "levels": [Level("high", 64), Level("low", 48, voice=False)],
            "models": models,
            "abstain_below": 0.0,
            "metrics": {},
            "provenance": {},
        },
    )
    return folder


@pytest.fixture(scope="session")
def null_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for --bundle together with --set engines.name=null."""
    return write_null_bundle(tmp_path_factory.mktemp("bundle"))

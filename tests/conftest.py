"""What tests in every folder share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from emotion_edge.engines.bundles.manifest import LABELS, Level, ModelEntry, write_manifest
from emotion_edge.kernels import has_gpu
from emotion_edge.kernels.spec import ImageSpec, MelSpec

TESTS = Path(__file__).parent

# How long an example takes, and how long it takes to make, is the machine's business.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

if not has_gpu():
    # Before anything loads Numba: its CUDA kernels then run in Python. It changes nothing else.
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Profiles, engines and bundles of the tests are not those of the user, nor of a device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CACHE_DIRECTORY", raising=False)
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("EMOTION_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EMOTION_EDGE_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and data sets, which is not part of the repository.

    EMOTION_EDGE_DATA names it, else it is looked for beside the checkout. Skips where it is not.
    """
    named = os.environ.get("EMOTION_EDGE_DATA")
    beside = (TESTS.parent.parent, Path.cwd().parent)
    places = [Path(named)] if named else [folder / "shared" / "data" for folder in beside]
    for place in places:
        if place.is_dir():
            return place.resolve()
    pytest.skip(f"no real data in {' or '.join(map(str, places))}; set EMOTION_EDGE_DATA")


def write_null_bundle(folder: Path) -> Path:
    """A bundle for the null engine: its networks are files that nobody opens."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {}
    for name in ("face", "voice"):
        (folder / f"{name}.onnx").write_bytes(b"no network")
        models[name] = ModelEntry(f"{name}.onnx", 1.0, 0.5, [0.0] * len(LABELS))
    write_manifest(
        folder,
        {
            "name": "null",
            "labels": list(LABELS),
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
    """A folder to give as --bundle together with --set engines.name=null."""
    return write_null_bundle(tmp_path_factory.mktemp("bundle"))

"""The bundle of a recipe in its place: which version it gets there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("torch", reason="torch is in the train extra")

from emotion_edge.engines.bundles import load_bundle
from emotion_edge.training.export import rewrite_bundle
from emotion_edge.training.steps.run import _deliver

from ...engines.conftest import write_bundle_folder


def test_version_grows_with_the_content(tmp_path: Path) -> None:
    """Another bundle in the same place gets one more, the same one is left alone, and a given
    version counts."""
    plain, out = write_bundle_folder(tmp_path / "plain"), tmp_path / "out"
    bundle = rewrite_bundle(plain, tmp_path / "work", lambda manifest, _: manifest)
    assert _deliver(bundle, out, None).manifest.version == 1
    first = load_bundle(out)
    assert _deliver(bundle, out, None) == first
    other = rewrite_bundle(
        bundle,
        tmp_path / "other",
        lambda manifest, _: msgspec.structs.replace(manifest, abstain_below=0.4),
    )
    assert _deliver(other, out, None).manifest.version == 2
    assert load_bundle(out).manifest.abstain_below == 0.4
    assert _deliver(other, out, 7).manifest.version == 7
    assert _deliver(other, out, None).manifest.version == 7
    assert _deliver(bundle, out, None).manifest.version == 8

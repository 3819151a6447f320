"""Damaged bundles: a bundle as good as before, or a BundleError in one line."""

from __future__ import annotations

import json
import random
import tarfile
from pathlib import Path

import msgspec
import pytest

from emotion_edge.engines.bundles.archive import open_archive, open_bundle_source
from emotion_edge.engines.bundles.manifest import DEFAULT_BUNDLE, MANIFEST, parse_manifest
from emotion_edge.engines.bundles.schema import BundleError
from emotion_edge.engines.bundles.selection import Selection, read_selection

from ..conftest import write_null_bundle
from .conftest import Fuzz, assert_one_line
from .mutations import damage_bytes, damage_tree

FILE = Path("bundle.json")


def parse(data: bytes) -> None:
    try:
        manifest = parse_manifest(data, FILE)
    except BundleError as error:
        assert_one_line(error)
        return
    again = parse_manifest(msgspec.json.encode(manifest), FILE)
    assert again == manifest
    assert manifest.mel.num_frames * manifest.mel.num_mels <= 3_000 * 256


def test_values_of_a_manifest(fuzz: Fuzz) -> None:
    """Any value in any field."""
    tree = json.loads((DEFAULT_BUNDLE / MANIFEST).read_bytes())

    def case(rng: random.Random) -> None:
        parse(json.dumps(damage_tree(tree, rng), ensure_ascii=rng.random() < 0.5).encode())

    fuzz(1_500, case)


def test_bytes_of_a_manifest(fuzz: Fuzz) -> None:
    """Any bytes at any place."""
    data = (DEFAULT_BUNDLE / MANIFEST).read_bytes()
    fuzz(2_000, lambda rng: parse(damage_bytes(data, rng)))


def test_selection(fuzz: Fuzz, tmp_path: Path) -> None:
    """The file of the selected bundle."""
    good = Selection("0123456789abcdef", "fedcba9876543210", on_trial=True, version=7)
    file = tmp_path / "selection.json"

    def case(rng: random.Random) -> None:
        file.write_bytes(damage_bytes(msgspec.json.encode(good), rng, most=3))
        try:
            selection = read_selection(file)
        except BundleError as error:
            assert_one_line(error)
        else:
            assert {len(selection.current), len(selection.previous)} <= {0, 16}

    fuzz(500, case)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives(fuzz: Fuzz, tmp_path: Path, form: int) -> None:
    """Headers and content of an archive."""
    folder, file = write_null_bundle(tmp_path / "null"), tmp_path / "bundle.tar"
    with tarfile.open(file, "w", format=form) as archive:
        archive.add(folder, ".")
    good = file.read_bytes()
    known = {path.name for path in folder.iterdir()} | {"bundle.json.sig"}

    def case(rng: random.Random) -> None:
        file.write_bytes(damage_bytes(good, rng, most=3))
        try:
            with open_bundle_source(file) as handle, open_archive(handle, file) as archive:
                for name in archive.extents:
                    assert "/" not in name
                    list(archive.read_file(name))
                assert set(archive.extents) <= known or archive.num_bytes < len(good) * 2
        except BundleError as error:
            assert_one_line(error)

    fuzz(400, case)

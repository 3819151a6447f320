"""Cut the power at every change that an operation makes to the disk, and check what is left.

A program of its own: it forks one child for each cut, which threads do not survive. In: an empty
folder. Out: the numbers of checked disks, or a traceback.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from emotion_edge.engines.base import null_reporter
from emotion_edge.engines.bundles import LABELS
from emotion_edge.engines.bundles.archive import open_archive, open_bundle_source
from emotion_edge.engines.bundles.manifest import Level, ModelEntry, load_bundle, write_manifest
from emotion_edge.engines.bundles.selection import Selection
from emotion_edge.engines.bundles.startup import BundleChoice, choose_bundle
from emotion_edge.engines.bundles.store import BundleStore
from emotion_edge.engines.storage import atomic_write
from emotion_edge.kernels.spec import ImageSpec, MelSpec

from .fragile_disk import FragileDisk

MAX_PROFILES = ("promised", "names", "files", "chance", "all")
Operation = Callable[[Path], object]
Check = Callable[[Path], object]


def write_bundle(folder: Path, name: str) -> Path:
    """Write a bundle with a placeholder network."""
    folder.mkdir()
    (folder / "face.onnx").write_bytes(name.encode() * 100)
    fields = {
        "name": name,
        "labels": list(LABELS),
        "image": ImageSpec(),
        "mel": MelSpec(),
        "levels": [Level("high", 64)],
        "models": {"face": ModelEntry("face.onnx", 1.0, 0.5, [0.0] * len(LABELS))},
        "abstain_below": 0.0,
        "metrics": {},
        "provenance": {},
    }
    write_manifest(folder, fields)
    return folder


def install(state: Path, bundle: Path) -> bool:
    with open_bundle_source(bundle) as handle, open_archive(handle, bundle) as archive:
        return BundleStore(state).install(archive, None, lambda _: None, null_reporter)


def start(state: Path) -> BundleChoice:
    return choose_bundle(starting=True, environment={"EMOTION_EDGE_STATE": str(state)})


def cut_everywhere(work: Path, base: Path, operation: Operation) -> Iterator[tuple[Path, bool]]:
    """Each disk that may be found when the power goes, and whether the operation was over."""
    step, is_over = 0, False
    while not is_over:
        step += 1
        state = work / "state"
        shutil.copytree(base, state)

        def give_up(disk: FragileDisk) -> None:
            for kept in MAX_PROFILES[:-1]:
                disk.write_image(work / kept, kept, step)  # noqa: B023 - called in this round
            os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            disk = FragileDisk(state, step, give_up)
            operation(state)
            for kept in MAX_PROFILES[:-1]:
                disk.write_image(work / kept, kept, step)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        is_over = status == 0
        state.rename(work / MAX_PROFILES[-1])
        for kept in MAX_PROFILES:
            yield work / kept, is_over
            shutil.rmtree(work / kept)


def read(state: Path) -> Selection:
    return BundleStore(state).read_selection()


def check_file(work: Path) -> int:
    """One file: the old content or the new one, and the new one when the call is over."""
    base = work / "base"
    base.mkdir(parents=True)
    (base / "file").write_bytes(b"old")
    count = 0
    for disk, is_over in cut_everywhere(work, base, lambda d: atomic_write(d / "file", b"new")):
        allowed = {b"new"} if is_over else {b"old", b"new"}
        assert (disk / "file").read_bytes() in allowed, (disk.name, count)
        count += 1
    return count


def check_store(work: Path) -> int:
    """Everything that changes the store: a start always finds a whole bundle, one of those that
    are allowed; a bundle can be installed at once, and nothing half done stays."""
    work.mkdir()
    bundles = {name: write_bundle(work / f"bundle-{name}", name) for name in "OPABC"}
    stores = {"two": work / "two", "trial": work / "trial", "bad": work / "bad"}
    stores["two"].mkdir()
    for name in "OPA":
        install(stores["two"], bundles[name])
        start(stores["two"]).mark_good()
    shutil.copytree(stores["two"], stores["trial"])
    install(stores["trial"], bundles["B"])
    shutil.copytree(stores["trial"], stores["bad"])
    for _ in range(2):
        start(stores["bad"])
    damaged = shutil.copytree(stores["trial"], work / "damaged")
    current = damaged / "bundles" / read(damaged).current / "face.onnx"
    current.unlink()
    current.write_bytes(b"?")
    fresh = work / "fresh"
    fresh.mkdir()

    def roll_back(state: Path) -> None:
        BundleStore(state).roll_back(None, lambda _: None, null_reporter)

    cases: list[tuple[Path, Operation, str, str]] = [
        (fresh, lambda state: install(state, bundles["B"]), "-B", "B"),
        (stores["two"], lambda state: install(state, bundles["B"]), "AB", "B"),
        (stores["two"], lambda state: install(state, bundles["P"]), "AP", "P"),
        (stores["two"], roll_back, "AP", "P"),
        (stores["trial"], start, "B", "B"),
        (stores["trial"], lambda state: start(state).mark_good(), "B", "B"),
        (stores["bad"], start, "A", "A"),
        (stores["bad"], lambda state: install(state, bundles["C"]), "AC", "C"),
        (damaged, lambda state: install(state, bundles["B"]), "AB", "B"),
    ]
    names = {load_bundle(folder).sha256: name for name, folder in bundles.items()}
    count = 0
    for number, (base, operation, allowed, wanted) in enumerate(cases):
        for disk, is_over in cut_everywhere(_folder(work / str(number)), base, operation):
            where = (number, disk.name, count)
            store = BundleStore(disk)
            if base != damaged:
                for name in {*store.list_names(), read(disk).current}:
                    store.load(name, None)  # whatever has its name is whole
            found = names.get(start(disk).bundle.sha256, "-")
            assert found in (wanted if is_over else allowed), (where, found)
            assert read(disk).failed_starts <= 2, where
            install(disk, bundles["C"])
            assert names[start(disk).bundle.sha256] == "C", where
            left = {path.name[0] for path in (disk / "bundles").iterdir()}
            assert "." not in left, (where, left)
            install(disk, bundles["O"])
            assert len(list((disk / "bundles").glob("[0-9a-f]" * 16))) <= 3, where
            count += 1
    return count


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    logging.disable()
    here = Path(sys.argv[1])
    counts = {"file": check_file(here / "file"), "store": check_store(here / "store")}
    sys.stdout.write(msgspec.json.encode(counts).decode() + "\n")

"""Provenance of a bundle: data sets with their licences, versions, and the commit of the code.

Out: plain mappings for the bundle's `provenance`, without host names and absolute paths.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent.parent
LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxslim", "numpy")
GIT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class DataSet:
    """A training data set."""

    name: str
    licence: str
    source: str


FERPLUS = DataSet(
    "FER+",
    "labels MIT; pictures collected from the web, research use only",
    "labels: Barsoum et al. 2016, arXiv:1608.01041; pictures: FER2013, Goodfellow et al. 2013,"
    " arXiv:1307.0414",
)
RAVDESS = DataSet(
    "RAVDESS",
    "CC BY-NC-SA 4.0: no commercial use",
    "Livingstone and Russo 2018, doi:10.1371/journal.pone.0196391",
)
ESC = DataSet(
    "ESC",
    "ESC-10 CC BY 3.0, the rest of ESC-50 CC BY-NC 3.0",
    "noise: Piczak 2015, doi:10.1145/2733373.2806390",
)
DATA_SETS_OF: Mapping[str, tuple[DataSet, ...]] = {
    "face": (FERPLUS,),
    "voice": (RAVDESS,),
    "fusion": (RAVDESS,),
}
"""Data sets of each network, unless a recipe gives others."""


def describe_origin(given: Mapping[str, Any], networks: Iterable[str]) -> dict[str, Any]:
    """Complete the entries of a recipe, `given`, by data sets, versions and commit.

    Entries of `given` are not overwritten. "commit" is missing outside of a checkout.
    """
    commit = read_commit(CHECKOUT)
    return {
        "data_sets": list_data_sets(networks),
        "versions": list_versions(),
        **({"commit": commit} if commit else {}),
        **given,
    }


def list_data_sets(networks: Iterable[str]) -> list[dict[str, Any]]:
    """Describe the data sets of `networks`, each one once."""
    used: dict[DataSet, list[str]] = {}
    for network in networks:
        for data_set in DATA_SETS_OF[network]:
            used.setdefault(data_set, []).append(network)
    return describe_data_sets(used)


def describe_data_sets(used: Mapping[DataSet, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the entry "data_sets": each data set with the networks trained on it."""
    return [{**asdict(data_set), "networks": list(names)} for data_set, names in used.items()]


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that write the files."""
    versions = {"python": platform.python_version()}
    return {**versions, **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def read_commit(root: Path) -> str | None:
    """Return HEAD of the checkout at `root`, with "-dirty" when files differ. None without git, or
    if `root` is not the top of a checkout: an installed package may lie inside another one."""
    top = _run_git(root, "rev-parse", "--show-toplevel")
    head = _run_git(root, "rev-parse", "HEAD")
    if top is None or head is None or Path(top).resolve() != root.resolve():
        return None
    return f"{head}-dirty" if _run_git(root, "status", "--porcelain") else head


def _run_git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()

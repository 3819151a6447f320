"""Where a bundle comes from: data sets with their licences, versions, and the state of the code.

Out: plain mappings for the bundle's `provenance`. No host names, no absolute paths.
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
    """What a network learned from."""

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
"""What each network learns from at least, where a recipe does not say more."""


def describe_origin(given: Mapping[str, Any], networks: Iterable[str]) -> dict[str, Any]:
    """`given`, what a recipe says of itself, completed with data sets, versions and commit.

    "data_sets" and "versions" that are in `given` are left as they are. "commit" is missing
    outside of a checkout.
    """
    commit = read_commit(CHECKOUT)
    return {
        "data_sets": list_data_sets(networks),
        "versions": list_versions(),
        **({"commit": commit} if commit else {}),
        **given,
    }


def list_data_sets(networks: Iterable[str]) -> list[dict[str, Any]]:
    """Every data set of `DATA_SETS_OF` once, as `describe_data_sets`."""
    used: dict[DataSet, list[str]] = {}
    for network in networks:
        for data_set in DATA_SETS_OF[network]:
            used.setdefault(data_set, []).append(network)
    return describe_data_sets(used)


def describe_data_sets(used: Mapping[DataSet, Sequence[str]]) -> list[dict[str, Any]]:
    """For "data_sets": each with the names of the networks that learned from it."""
    return [{**asdict(data_set), "networks": list(names)} for data_set, names in used.items()]


def list_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    return {**versions, **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def read_commit(root: Path) -> str | None:
    """HEAD of the checkout at `root`, with "-dirty" when files differ from it; None when `root`
    is no checkout (an installed package may lie inside somebody else's) or git is missing."""
    top = _ask_git(root, "rev-parse", "--show-toplevel")
    head = _ask_git(root, "rev-parse", "HEAD")
    if top is None or head is None or Path(top).resolve() != root.resolve():
        return None
    return f"{head}-dirty" if _ask_git(root, "status", "--porcelain") else head


def _ask_git(root: Path, *question: str) -> str | None:
    command = ["git", "-C", str(root), *question]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()

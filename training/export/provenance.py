"""Provenance of a bundle: data sets with their licences, people, versions, and the code's commit.

Out: plain mappings for the bundle's `provenance`, without host names and absolute paths. People are
named as `data` names them ("ravdess:01"), or by a hash of a salt and the name.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...engines.bundles import FUSION, Manifest
from ..data import SUFFIXES, esc_fold, list_spellings, name_actor

CHECKOUT = Path(__file__).parent.parent.parent
LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxslim", "numpy")
GIT_TIMEOUT_S = 10

PEOPLE, SALT, NOT_CALIBRATED = "people", "people_salt", "not_calibrated"
"""Entries of the provenance."""
ROLES = ("training", "validation", "calibration")
"""What people of a bundle were used for. Validation: early stopping, temperatures, fusion weights;
calibration: INT8."""
HASH_PREFIX = "sha256:"
HASH_DIGITS = 16
MAX_LISTED_PEOPLE = 4_000
"""A longer list is replaced by its length, because a manifest is limited in size."""

People = Mapping[str, Mapping[str, Iterable[str]]]
"""Names by network and role."""


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
OWN = "not stated: ask whose data it is"
"""Licence of data that is not published."""


UNKNOWN = DataSet("unknown data", "unknown", "the weights came without a description")


def describe_origin(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the entries of a recipe, `given`, by versions and commit.

    Entries of `given` are not overwritten. "commit" is missing outside of a checkout.
    """
    commit = read_commit(CHECKOUT)
    return {"versions": list_versions(), **({"commit": commit} if commit else {}), **given}


def describe_data_sets(used: Mapping[DataSet, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the entry "data_sets": each data set with the networks trained on it."""
    return [{**asdict(data_set), "networks": list(names)} for data_set, names in used.items()]


def add_shared_data(
    provenance: Mapping[str, Any],
    networks: Sequence[str],
    shared: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Add to the entry "data_sets" what the `shared` networks ("face detector") of the bundle that
    ships were trained on, of its `rows`, and unknown data for those of `networks` without any."""
    own = [
        {**row, "networks": list(row.get("networks") or ())}
        for row in provenance.get("data_sets") or ()
        if isinstance(row, Mapping)
    ]
    stated = {name for row in own for name in row["networks"]}
    unstated = [name for name in networks if name not in stated]
    if unstated:
        own.append({**asdict(UNKNOWN), "networks": unstated})
    for row in rows:
        used = [name for name in row.get("networks") or () if name.startswith(tuple(shared))]
        same = next((each for each in own if each.get("name") == row.get("name")), None)
        if same is not None:
            same["networks"] += [name for name in used if name not in same["networks"]]
        elif used:
            own.append({**row, "networks": used})
    return {**provenance, "data_sets": own}


def describe_noise(root: Path) -> DataSet:
    """Describe a folder of noise recordings."""
    files = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    first = next(files, None)
    if first is not None and esc_fold(first) is not None:
        return ESC
    return DataSet(root.name, OWN, "noise: a folder of recordings")


def describe_people(people: People, salt: str = "") -> dict[str, Any]:
    """Return the entries `PEOPLE` and, with a `salt`, `SALT` of a provenance.

    With a salt the names are hashed: who knows a name can find out whether it is among them. The
    name "", of people whom nobody knows, is left out.
    """
    described: dict[str, dict[str, Any]] = {}
    for network, by_role in people.items():
        described[network] = {}
        for role, names in by_role.items():
            known = sorted({_hash_name(name, salt) for name in names if name})
            described[network][role] = known if len(known) <= MAX_LISTED_PEOPLE else len(known)
    return {PEOPLE: described, **({SALT: salt} if salt else {})}


def add_people(
    provenance: Mapping[str, Any], role: str, people: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Return `provenance` with the `people` of each network in `role`, hashed where the others are.
    Those that were there in the same role are replaced."""
    salt = str(provenance.get(SALT, ""))
    added = describe_people({network: {role: names} for network, names in people.items()}, salt)
    merged = {name: dict(by_role) for name, by_role in _read_people(provenance).items()}
    for network, by_role in added[PEOPLE].items():
        merged[network] = {**merged.get(network, {}), **by_role}
    return {**provenance, PEOPLE: merged}


def find_overlap(manifest: Manifest, people: Iterable[str], network: str) -> dict[str, list[str]]:
    """Return those of `people` that the bundle has used for `network`, by role.

    A person counts in the first of `ROLES` only. "fusion" stands for every network of the bundle.
    """
    salt = str(manifest.provenance.get(SALT, ""))
    stored_as = {
        name: {_hash_name(each, salt) for each in list_spellings(name)} for name in people if name
    }
    names = [*manifest.networks, FUSION] if network == FUSION else [network]
    overlap = {}
    for role in ROLES:
        used: set[str] = set()
        for name in names:
            used |= _list_used(manifest.provenance, name, role)
        found = [name for name, spellings in stored_as.items() if spellings & used]
        for name in found:
            del stored_as[name]
        if found:
            overlap[role] = found
    return overlap


def count_people(provenance: Mapping[str, Any], network: str) -> dict[str, int]:
    """Return the number of people in each role that is recorded for a network."""
    recorded = _read_people(provenance).get(network, {})
    sizes = {role: recorded.get(role) for role in ROLES if role in recorded}
    counts = {
        role: value if isinstance(value, int) else len(value)
        for role, value in sizes.items()
        if isinstance(value, int | list)
    }
    trained = _list_actors(provenance, network)
    return {"training": len(trained), **counts} if trained else counts


def _hash_name(name: str, salt: str) -> str:
    if not salt:
        return name
    return HASH_PREFIX + hashlib.sha256(f"{salt}{name}".encode()).hexdigest()[:HASH_DIGITS]


def _read_people(provenance: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the entry `PEOPLE`; anything unexpected in it is ignored."""
    people = provenance.get(PEOPLE)
    if not isinstance(people, Mapping):
        return {}
    return {name: value for name, value in people.items() if isinstance(value, Mapping)}


def _list_used(provenance: Mapping[str, Any], network: str, role: str) -> set[str]:
    stored = _read_people(provenance).get(network, {}).get(role)
    used = {str(name) for name in stored} if isinstance(stored, list) else set()
    return used | (_list_actors(provenance, network) if role == ROLES[0] else set())


def _list_actors(provenance: Mapping[str, Any], network: str) -> set[str]:
    """Return the actors of RAVDESS that older bundles list among the settings of a network."""
    settings = provenance.get(network)
    actors = settings.get("actors") if isinstance(settings, Mapping) else None
    if not isinstance(actors, list):
        return set()
    salt = str(provenance.get(SALT, ""))
    return {_hash_name(name_actor(actor), salt) for actor in actors if isinstance(actor, int)}


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

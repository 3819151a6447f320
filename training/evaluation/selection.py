"""What of a data set is to be judged, and which modality of it.

In: what the command line says, and what a data set shows. Out: `ExampleSet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engines.bundles import FUSION, Bundle
from ..errors import DatasetError
from .material import Example

MODALITIES = (FUSION, "voice", "face")
"""Where a data set shows as much of two, the first of them is judged."""


@dataclass(frozen=True, slots=True)
class Selection:
    """`modality` "" is for the data set to say, `yunet` is the file of a face detector, "" for
    OpenCV's cascade; `split` of FER+ or a folder, `actors` of RAVDESS, None for all."""

    dataset: str
    root: Path
    split: str = "valid"
    actors: Sequence[int] | None = None
    modality: str = ""
    yunet: str = ""


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """What will be judged, and how that is to be told."""

    examples: Sequence[Example]
    modality: str
    scope: Mapping[str, Any]
    """Which part of the data set it is."""
    protocol: str
    """What a reader must know to repeat it, and how far the figures reach."""
    skipped: int = 0
    """Examples that were left out before any was loaded."""


def choose_modality(selection: Selection, bundle: Bundle, shown: Mapping[str, Sized]) -> str:
    """The modality asked for, else the one that most examples show and the bundle can judge.

    `shown`: examples by modality, of which at least one has some. Raises DatasetError.
    """
    names = [name for name in MODALITIES if len(shown.get(name, ()))]
    seen = " and ".join(names)
    if selection.modality and selection.modality not in names:
        raise DatasetError(f"--modality {selection.modality}: {selection.root} shows only {seen}")
    wanted = [selection.modality] if selection.modality else names
    models = set(bundle.manifest.models)
    able = [name for name in wanted if name in models or (name == FUSION and len(models) == 2)]
    if not able:
        only = " and ".join(sorted(models))
        raise DatasetError(
            f"{bundle.path} has only a {only} network, wanted: {' or '.join(wanted)}"
        )
    return max(able, key=lambda name: len(shown[name]))

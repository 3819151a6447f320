"""Which part of a data set is scored, and by which modality.

In: command-line options, and the examples of a data set by modality. Out: `ExampleSet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...engines.bundles import FUSION, Bundle
from ..data import LabelNames
from ..errors import DatasetError
from .material import Example

MODALITIES = (FUSION, "voice", "face")
"""Of two modalities with equally many examples the first is scored."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which examples to score."""

    dataset: str
    root: Path
    split: str = "valid"
    """Of FER+ or a folder."""
    actors: Sequence[int] | None = None
    """Of RAVDESS; None for all."""
    modality: str = ""
    """"" for the one with most examples."""
    yunet: str = ""
    """File of a YuNet face detector; "" for the bundle's detector."""
    label_map: Mapping[str, str] = field(default_factory=dict)
    """The data's names of labels -> those of the bundle, as `map` of a recipe."""

    def names(self, bundle: Bundle) -> LabelNames:
        """Return how names of the data stand for labels of the bundle. Raises DatasetError for a
        map to a label that the bundle lacks."""
        labels = tuple(bundle.manifest.labels)
        for name, label in self.label_map.items():
            if label and label not in labels:
                raise DatasetError(
                    f"map.{name} is {label!r}, allowed: the labels of {bundle.path},"
                    f" {', '.join(labels)}"
                )
        return LabelNames(labels, self.label_map)


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """The examples to score, and how to describe them."""

    examples: Sequence[Example]
    modality: str
    scope: Mapping[str, Any]
    """Which part of the data set they are."""
    protocol: str
    """What is needed to repeat the measurement, and what it does not show."""
    skipped: int = 0
    """Number of examples left out before any was loaded."""
    origin: str = ""
    """Beginning of messages, such as the folder and a colon."""


def choose_modality(selection: Selection, bundle: Bundle, examples: Mapping[str, Sized]) -> str:
    """Return the modality of the selection, else the one with most examples that the bundle has a
    network for.

    `examples` are by modality, at least one of which is not empty. Raises DatasetError.
    """
    names = [name for name in MODALITIES if len(examples.get(name, ()))]
    present = " and ".join(names)
    if selection.modality and selection.modality not in names:
        raise DatasetError(f"--modality {selection.modality}: {selection.root} has only {present}")
    wanted = [selection.modality] if selection.modality else names
    models = set(bundle.manifest.models)
    able = [name for name in wanted if name in models or (name == FUSION and len(models) == 2)]
    if not able:
        only = " and ".join(sorted(models))
        raise DatasetError(
            f"{bundle.path} has only a {only} network, wanted: {' or '.join(wanted)}"
        )
    return max(able, key=lambda name: len(examples[name]))

"""People whom a bundle has seen before: the examples of an evaluation in, notes on it out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ...engines.bundles import Manifest
from ..export import FERPLUS, find_overlap
from .material import Example

log = logging.getLogger(__name__)

TRAINING_IMAGES = (
    "The bundle's face network was trained on the split train of FER+: these metrics do not show"
    " how it does on other images."
)
MAX_NAMED = 24
"""Names in a note."""

NOTES = {
    "training": "The bundle was trained on {some} of the {all} people scored here ({names}): these"
    " metrics do not show how it does on others.",
    "validation": "{some} of the {all} people scored here are validation people of the bundle"
    " ({names}), on whom its temperatures and weights were chosen: it may do worse on others.",
    "calibration": "The bundle's INT8 networks were calibrated on {some} of the {all} people scored"
    " here ({names}): these metrics may not show how INT8 does on others.",
}
"""By the role of `provenance`."""


def note_images(manifest: Manifest, dataset: str, split: str) -> list[str]:
    """Return a note, logged as a warning, when the images of FER+ scored here are those that the
    bundle's face network was trained on. Nobody knows who is in them."""
    rows = manifest.provenance.get("data_sets")
    names = {
        row.get("name")
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping) and "face" in (row.get("networks") or ())
    }
    if dataset != "ferplus" or split != "train" or FERPLUS.name not in names:
        return []
    log.warning("%s", TRAINING_IMAGES)
    return [TRAINING_IMAGES]


def note_people(manifest: Manifest, modality: str, examples: Sequence[Example]) -> list[str]:
    """Return one note for each role in which the bundle has used people of the examples, and log
    it as a warning."""
    subjects = {example.person: example.subject for example in examples if example.person}
    overlap = find_overlap(manifest, subjects, modality)
    notes = []
    for role, people in overlap.items():
        names = sorted((subjects[name] for name in people), key=lambda name: (len(name), name))
        shown = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
        notes.append(NOTES[role].format(some=len(names), all=len(subjects), names=shown))
    for note in notes:
        log.warning("%s", note)
    return notes

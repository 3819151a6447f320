"""Names that data sets give the emotions, and the labels that they stand for.

In: the labels of a recipe or bundle, and its `map`. Out: `LabelNames`, which finds the label of a
name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...engines.bundles import LABELS

SPELLINGS = (
    ("angry", "anger"),
    ("disgust", "disgusted"),
    ("fear", "fearful"),
    ("happy", "happiness"),
    ("sad", "sadness"),
    ("surprise", "surprised"),
)
"""Names of one emotion, the canonical one first."""
BROADER = {"calm": "neutral"}
"""Names that count as another one, unless they have a label of their own."""


def fold_name(name: str) -> str:
    """Return the form in which names are compared: letter case and Unicode form do not count."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def canonical_name(name: str) -> str:
    """Return the first of the name's `SPELLINGS`, else the name in its folded form."""
    folded = fold_name(name)
    return next((group[0] for group in SPELLINGS if folded in group), folded)


@dataclass(frozen=True, slots=True)
class LabelNames:
    """The labels, and how the names of a data set are mapped to them."""

    labels: tuple[str, ...] = LABELS
    map: Mapping[str, str] = field(default_factory=dict)
    """Name -> label, or "" to leave its examples out."""

    def find(self, name: str) -> str | None:
        """Return the label of a name, "" for one that is left out, None for an unknown one.

        The map comes first, then the labels themselves, then other spellings, then `BROADER`.
        """
        folded = fold_name(name)
        given = {fold_name(each): label for each, label in self.map.items()}
        known = {**{fold_name(label): label for label in self.labels}, **given}
        if folded in known:
            return known[folded]
        group = next((group for group in SPELLINGS if folded in group), ())
        for spelling in group:
            if spelling in known:
                return known[spelling]
        broader = BROADER.get(folded)
        return None if broader is None else known.get(broader)

    def describe(self) -> str:
        """Return the names that are allowed, for messages."""
        names = dict.fromkeys([*self.labels, *self.map])
        for group in SPELLINGS:
            if any(name in names for name in group):
                names |= dict.fromkeys(group)
        names |= {name: None for name, broader in BROADER.items() if broader in names}
        return ", ".join(names)

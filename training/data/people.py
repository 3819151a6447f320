"""Names of people that are unique over data sets, as a bundle's provenance lists them.

A name is that of the data set, a colon and that of the subject, such as "ravdess:01". The name of a
folder is its path or any end of it, such as "mine:anna" and "home/mine:anna". "" stands for someone
whom nobody knows, as in FER+.
"""

from __future__ import annotations

from pathlib import Path


def name_actor(actor: int) -> str:
    """Return the name of an actor of RAVDESS."""
    return f"ravdess:{actor:02d}"


def name_subject(root: Path, subject: str) -> str:
    """Return the longest name of a subject of the folder `root` with a manifest."""
    return f"{root.resolve().as_posix()}:{subject}"


def list_spellings(name: str) -> list[str]:
    """Return all names of the person whose longest name is `name`."""
    data, colon, subject = name.partition(":")
    parts = data.split("/")
    return [f"{'/'.join(parts[i:])}{colon}{subject}" for i in range(len(parts))]

"""Reading from sources in tests."""

from __future__ import annotations

from typing import Protocol, TypeVar

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")


class Readable(Protocol[Item_co]):
    def read(self) -> Item_co | None: ...


def read_next(source: Readable[Item]) -> Item:
    """Read an item, which must exist."""
    item = source.read()
    assert item is not None
    return item


def read_many(source: Readable[Item], count: int) -> list[Item]:
    return [read_next(source) for _ in range(count)]

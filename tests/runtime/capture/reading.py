"""Reading from sources in tests."""

from __future__ import annotations

from typing import Protocol, TypeVar

Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")


class Readable(Protocol[Item_co]):
    def read(self) -> Item_co | None: ...


def read_next(source: Readable[Item] | None) -> Item:
    """Read an item. Source and item must exist."""
    assert source is not None
    item = source.read()
    assert item is not None
    return item


def read_many(source: Readable[Item] | None, count: int) -> list[Item]:
    return [read_next(source) for _ in range(count)]

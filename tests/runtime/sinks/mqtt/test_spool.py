"""The spool: order, bounds, and a file that fails in every way."""

from __future__ import annotations

import itertools
import logging
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emotion_edge.runtime.sinks.mqtt import spool as spool_module
from emotion_edge.runtime.sinks.mqtt.delivery import Delivery
from emotion_edge.runtime.sinks.mqtt.spool import Limits, Record, Spool

DAY_NS = 86_400_000_000_000
LIMITS = Limits(1000, DAY_NS)
OpenSpool = Callable[..., Spool]


def make_record(number: int, size: int = 20) -> Record:
    return Record(f"run-{number}", f"{number} ".encode().ljust(size, b"."))


def list_numbers(spool: Spool, limit: int = 10_000) -> list[int]:
    return [int(record.payload.split()[0]) for record in spool.read(limit, ())]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mqtt" / "spool.sqlite"


@pytest.fixture
def open_spool(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenSpool]:
    """A function (limits) -> a spool on `file`. It tries a file that failed again at once."""
    monkeypatch.setattr(spool_module, "RETRY_NS", 0)
    spools: list[Spool] = []

    def make(limits: Limits = LIMITS) -> Spool:
        spools.append(Spool(file, limits))
        return spools[-1]

    yield make
    for spool in spools:
        spool.close()


def fill(spool: Spool, numbers: range, size: int = 20) -> None:
    for number in numbers:
        spool.add(make_record(number, size))
    spool.flush()


def test_records_survive_in_order(open_spool: OpenSpool) -> None:
    """Those that were removed do not come back."""
    spool = open_spool()
    fill(spool, range(5))
    spool.remove("run-1")
    spool.add(make_record(5))
    assert list_numbers(spool) == [0, 2, 3, 4, 5]
    assert list_numbers(spool, 2) == [0, 2]
    assert [record.id for record in spool.read(2, {"run-0", "run-3"})] == ["run-2", "run-4"]
    spool.remove("run-5")  # it was not written yet
    spool.close()
    again = open_spool()
    assert (again.stored, list_numbers(again)) == (4, [0, 2, 3, 4])
    fill(again, range(6, 8))
    assert list_numbers(again) == [0, 2, 3, 4, 6, 7]
    assert not again.dropped


def test_too_many(open_spool: OpenSpool) -> None:
    """The oldest are dropped, and counted."""
    spool = open_spool(Limits(10, DAY_NS))
    fill(spool, range(8))
    fill(spool, range(8, 25))
    assert list_numbers(spool) == list(range(15, 25))
    assert spool.dropped == {"full": 15, "old": 0}


@pytest.mark.parametrize(
    ("same_boot", "waited_ns", "clock_ns", "kept"),
    [
        (True, 2 * DAY_NS, 0, 0),
        (True, DAY_NS // 2, 500 * DAY_NS, 3),  # somebody has set the clock
        (False, 0, 2 * DAY_NS, 0),
        (False, 0, -500 * DAY_NS, 3),  # the clock is not set yet
    ],
)
def test_too_old(
    open_spool: OpenSpool,
    monkeypatch: pytest.MonkeyPatch,
    same_boot: bool,
    waited_ns: int,
    clock_ns: int,
    kept: int,
) -> None:
    """Within one boot the age is that of a clock that nobody sets."""
    spool = open_spool()
    fill(spool, range(3))
    spool.close()
    now_ns, time_ns = Spool._now_ns, spool_module.time.time_ns
    monkeypatch.setattr(Spool, "_now_ns", staticmethod(lambda: now_ns() + waited_ns))
    monkeypatch.setattr(spool_module.time, "time_ns", lambda: time_ns() + clock_ns)
    monkeypatch.setattr(spool_module, "TRIM_NS", 0)
    if not same_boot:
        monkeypatch.setattr(spool_module, "read_boot_id", lambda: "another")
    again = open_spool()
    assert again.stored == kept
    assert again.dropped["old"] == 3 - kept


@pytest.fixture
def full_disk(file: Path) -> Iterator[Callable[[int], None]]:
    """A function that limits the size of any file, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(num_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk(
    open_spool: OpenSpool,
    full_disk: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was written stays readable, the rest waits in memory, bounded; it is one line in the
    log. Once there is room everything is written."""
    monkeypatch.setattr(spool_module, "MAX_UNSAVED", 50)
    spool = open_spool()
    fill(spool, range(10))
    full_disk(1)
    for number in range(10, 30):
        fill(spool, range(number, number + 1), size=1000)
    assert spool.fault
    assert list_numbers(spool) == list(range(30))
    spool.remove("run-0")
    fill(spool, range(30, 80))
    assert spool.dropped == {"unsaved": 20}
    assert list_numbers(spool) == [*range(1, 10), *range(30, 80)]
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    full_disk(1 << 40)
    spool.flush()
    assert spool.fault == ""
    spool.close()
    assert list_numbers(open_spool()) == [*range(1, 10), *range(30, 80)]


def test_folder_that_cannot_be_made(
    open_spool: OpenSpool, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Records wait in memory, with one line, until there is a folder."""
    file.parent.write_text("in the way")
    spool = open_spool()
    fill(spool, range(3))
    fill(spool, range(3, 6))
    assert str(file) in spool.fault
    assert len(caplog.records) == 1
    assert list_numbers(spool) == list(range(6))
    file.parent.unlink()
    fill(spool, range(6, 7))
    assert spool.fault == ""
    spool.close()
    assert list_numbers(open_spool()) == list(range(7))


def test_two_runs_on_one_file(open_spool: OpenSpool) -> None:
    """The second one has a fault, and takes the file over when the first ends."""
    first, second = open_spool(), open_spool()
    fill(first, range(3))
    fill(second, range(3, 5))
    assert second.fault
    assert list_numbers(second) == [3, 4]
    first.close()
    second.flush()
    assert second.fault == ""
    assert (second.stored, list_numbers(second)) == (5, list(range(5)))


def damage_text(file: Path) -> None:
    """Change one letter of one record."""
    content = file.read_bytes()
    file.write_bytes(content.replace(b"50 ..", b"51 ..", 1))


def damage_page(file: Path) -> None:
    """Overwrite pages in the middle of the table."""
    content = bytearray(file.read_bytes())
    middle = content.index(b"50 ....") // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    file.write_bytes(content)


def replace_file(file: Path) -> None:
    file.write_bytes(b"no database at all" * 1000)


def cut_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [damage_text, damage_page, replace_file, cut_file])
def test_damaged_file(open_spool: OpenSpool, file: Path, damage: Callable[[Path], None]) -> None:
    """What can be read of it is kept, in order; the rest is counted. New records are taken."""
    spool = open_spool()
    fill(spool, range(100), size=200)
    spool.close()
    damage(file)
    again = open_spool()
    again.read(1000, ())
    numbers = list_numbers(again)
    lost = 100 - len(numbers)
    assert numbers == sorted(numbers)
    if damage is damage_text:
        assert numbers == [*range(50), *range(51, 100)]
    if damage is damage_page:
        assert numbers[0] == 0
        assert numbers[-1] == 99
    assert lost > 0
    assert 1 <= again.dropped["damaged"] <= lost
    fill(again, range(100, 103))
    again.close()
    assert list_numbers(open_spool())[-3:] == [100, 101, 102]


def test_what_waits_is_synced(open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most `SYNC_NS` after it was added; what the broker has meanwhile costs no sync."""
    syncs: list[bool] = []
    monkeypatch.setattr(Spool, "sync", lambda spool: syncs.append(True))
    now_ns = itertools.count(0, spool_module.SYNC_NS // 4)
    monkeypatch.setattr(Spool, "_now_ns", staticmethod(lambda: next(now_ns)))
    spool = open_spool()
    for number in range(20):
        fill(spool, range(number, number + 1))
        spool.remove(f"run-{number}")
        spool.flush()
    assert not syncs
    fill(spool, range(100, 101))
    for _ in range(5):
        spool.flush()
    assert syncs


def test_nothing_is_stored_when_nothing_may_be(open_spool: OpenSpool, file: Path) -> None:
    """With a limit of 0 records wait in memory only."""
    spool = open_spool(Limits(0, DAY_NS))
    fill(spool, range(3))
    assert list_numbers(spool) == [0, 1, 2]
    spool.close()
    assert not file.parent.exists()
    assert spool.dropped == {"unsaved": 3}


# Delivery


class Wire:
    """Records what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, record: Record) -> None:
        self.sent.append(record.id)

    def take(self) -> list[int]:
        sent, self.sent = self.sent, []
        return [int(id_.removeprefix("run-")) for id_ in sent]


def test_window_and_order(open_spool: OpenSpool) -> None:
    """The broker's limit bounds what is in flight; after a loss all of it is sent again first."""
    spool, wire = open_spool(), Wire()
    fill(spool, range(10))
    delivery = Delivery(spool)
    delivery.fill(wire.send, 0)
    assert wire.take() == []
    delivery.begin(3, None)
    delivery.fill(wire.send, 7)
    delivery.acknowledge("run-0")
    delivery.acknowledge("run-1")
    delivery.acknowledge("run-1")
    assert delivery.find_oldest_ns() == 7
    delivery.fill(wire.send, 0)
    assert wire.take() == [0, 1, 2, 3, 4]
    delivery.end()
    assert delivery.find_oldest_ns() is None
    delivery.begin(3, None)
    delivery.fill(wire.send, 0)
    assert wire.take() == [2, 3, 4]
    assert delivery.refused == 0


def test_refused_records(open_spool: OpenSpool) -> None:
    """They are given up and counted: by the broker's answer, by its limit, or because the
    connection ends over one of them, which is found by sending them one by one."""
    spool, wire = open_spool(), Wire()
    fill(spool, range(2))
    fill(spool, range(2, 3), size=2000)
    fill(spool, range(3, 6))
    delivery = Delivery(spool)
    delivery.begin(2, 1000)
    delivery.fill(wire.send, 0)
    delivery.acknowledge("run-0", "not authorized")
    delivery.acknowledge("run-1")
    delivery.fill(wire.send, 0)
    delivery.fill(wire.send, 0)
    assert wire.take() == [0, 1, 3, 4]
    assert delivery.refused == 2
    delivery.end("malformed packet")
    delivery.begin(20, None)
    delivery.fill(wire.send, 0)
    assert wire.take() == [3]
    delivery.acknowledge("run-3")
    delivery.end("malformed packet")  # with none in flight
    delivery.begin(20, None)
    delivery.fill(wire.send, 0)
    assert wire.take() == [4]
    delivery.end("malformed packet")
    assert delivery.refused == 3
    delivery.begin(20, None)
    delivery.fill(wire.send, 0)
    assert wire.take() == [5]

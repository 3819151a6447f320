"""The records that the broker does not have yet, in a file that survives restarts and power cuts.

In: records with their ids, in order. Out: the oldest ones, until each is removed. It is bounded by
number and age: the oldest are dropped, and counted by cause.

The file is an SQLite database with a write-ahead log. Each record is committed when it is added, so
that `kill -9` loses none. What waits is synced to the disk at least every `SYNC_NS`, so that a
power cut loses no more than that; it never damages the file, and only ever repeats what was sent.
While the file cannot be written, at most `MAX_UNSAVED` records wait in memory.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import zlib
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...faults import FaultLog
from .spool_file import (
    DAMAGE,
    close_database,
    count_records,
    open_database,
    salvage_database,
    sync,
)

log = logging.getLogger(__name__)

MAX_UNSAVED = 1000
MAX_REMOVED = 100
SYNC_NS = 5_000_000_000
TRIM_NS = 60_000_000_000
"""Between two looks for records that are too old."""
RETRY_NS = 5_000_000_000
"""A file that failed is tried again after this time, so that a fault costs no time."""
MISTAKES = (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    records: int
    """0: nothing is kept in the file."""
    age_ns: int


class Spool:
    """The spool of one broker. One thread uses it; any thread may read `fault`, `stored` and
    `dropped`. No method raises for a file that fails."""

    def __init__(self, file: Path, limits: Limits) -> None:
        self.dropped: Counter[str] = Counter()
        """Records that were lost in this run: "full" (by number), "old" (by age), "unsaved" (they
        could not be written), "damaged" (they could not be read)."""
        self._file = file
        self._limits = limits
        self._faults = FaultLog(log, f"mqtt spool {file} can be written again")
        self._database: sqlite3.Connection | None = None
        self._saved = 0
        self._unsaved: deque[tuple[Record, int, int]] = deque()
        """Records with their times of the wall clock and since boot."""
        self._removed: set[str] = set()
        """Ids that are still in the file."""
        self._synced_ns = self._trimmed_ns = self._now_ns()
        self._retry_ns = 0
        self._is_synced = True
        self._boot = read_boot_id()
        if limits.records:
            self.flush()

    @property
    def fault(self) -> str:
        return self._faults.fault

    @property
    def stored(self) -> int:
        """Number of records that wait."""
        return max(0, self._saved - len(self._removed)) + len(self._unsaved)

    def add(self, record: Record) -> None:
        """Take a record; `flush` writes it."""
        if len(self._unsaved) >= MAX_UNSAVED:
            self._unsaved.popleft()
            self.dropped["unsaved"] += 1
        self._unsaved.append((record, time.time_ns(), self._now_ns()))

    def remove(self, id: str) -> None:  # noqa: A002  the key's name
        """Forget a record that the broker has."""
        for entry in self._unsaved:
            if entry[0].id == id:
                self._unsaved.remove(entry)
                return
        self._removed.add(id)
        if len(self._removed) >= MAX_REMOVED:
            self.flush()

    def read(self, limit: int, skip: Collection[str]) -> list[Record]:
        """Return the oldest `limit` records but those in `skip`, in order."""
        records: list[Record] = []
        if self._saved and (self._database is not None or self._now_ns() >= self._retry_ns):
            with self._guarded(reading=True):
                records = self._read(limit, skip)
        for record, _, _ in self._unsaved:
            if len(records) >= limit:
                break
            if record.id not in skip:
                records.append(record)
        return records[:limit]

    def flush(self) -> None:
        """Write what has changed, and drop what is beyond the limits."""
        now_ns = self._now_ns()
        if not self._limits.records or now_ns < self._retry_ns:
            return
        with self._guarded():
            self._require()
            if self._unsaved or self._removed:
                self._write()
            if now_ns - self._trimmed_ns >= TRIM_NS or self._saved > self._limits.records:
                self._trim(now_ns)
            if not self._is_synced and now_ns - self._synced_ns >= SYNC_NS:
                self.sync()
            self._faults.log_transition("")

    def sync(self) -> None:
        """Wait until everything is on the disk. Raises sqlite3.Error."""
        if self._database is not None and not self._is_synced:
            sync(self._database)
            self._is_synced = True
        self._synced_ns = self._now_ns()

    def close(self) -> None:
        """Write and sync the rest. What cannot be written is dropped, and counted."""
        self._retry_ns = 0
        self.flush()
        if self._unsaved:
            self.dropped["unsaved"] += len(self._unsaved)
            log.warning("mqtt: %d records could not be written and are lost", len(self._unsaved))
        with self._guarded():
            self.sync()
        self._close_database()

    def _write(self) -> None:
        """Write removals and additions in one transaction."""
        database = self._require()
        rows = [
            (record.id, time_ns, self._boot, up_ns, zlib.crc32(record.payload), record.payload)
            for record, time_ns, up_ns in self._unsaved
        ]
        with database:
            database.execute("BEGIN IMMEDIATE")
            removed = 0
            for id_ in self._removed:
                removed += database.execute("DELETE FROM records WHERE id = ?", (id_,)).rowcount
            database.executemany(
                "INSERT INTO records (id, time_ns, boot, uptime_ns, crc, payload)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
        self._saved += len(rows) - removed
        self._removed.clear()
        self._unsaved.clear()
        if not self._saved:
            self._is_synced = True  # nothing waits; at worst, what was sent is sent once more
        elif self._is_synced:
            self._is_synced, self._synced_ns = False, self._now_ns()

    def _trim(self, now_ns: int) -> None:
        """Drop the oldest records that are too many or too old.

        The age within this boot is measured by a clock that nobody sets; a device without a
        battery starts in the past until it has asked for the time."""
        database = self._require()
        with database:
            database.execute("BEGIN IMMEDIATE")
            old = database.execute(
                "DELETE FROM records WHERE CASE WHEN boot = ? THEN ? - uptime_ns"
                " ELSE ? - time_ns END > ?",
                (self._boot, now_ns, time.time_ns(), self._limits.age_ns),
            ).rowcount
            over = max(0, self._saved - old - self._limits.records)
            full = database.execute(
                "DELETE FROM records WHERE seq IN (SELECT seq FROM records ORDER BY seq LIMIT ?)",
                (over,),
            ).rowcount
        self._saved -= old + full
        self.dropped["old"] += old
        self.dropped["full"] += full
        self._trimmed_ns = now_ns
        self._is_synced = self._is_synced and not old + full

    def _read(self, limit: int, skip: Collection[str]) -> list[Record]:
        rows = self._require().execute(
            "SELECT id, crc, payload FROM records ORDER BY seq LIMIT ?",
            (limit + len(skip) + len(self._removed),),
        )
        records = []
        for id_, crc, payload in rows.fetchall():
            if id_ in skip or id_ in self._removed:
                continue
            if not isinstance(payload, bytes) or zlib.crc32(payload) != crc:
                self.dropped["damaged"] += 1
                self._removed.add(id_)
                log.warning("mqtt spool %s: record %s is damaged and left out", self._file, id_)
                continue
            records.append(Record(id_, payload))
        return records[:limit]

    @contextmanager
    def _guarded(self, *, reading: bool = False) -> Iterator[None]:
        """Turn an error of the file into a fault. What was read stays readable while the disk is
        full; a file that cannot be read is opened again later."""
        try:
            yield
        except (sqlite3.OperationalError, *DAMAGE, OSError) as error:
            if isinstance(error, MISTAKES):
                raise
            self._note_error(error, reading)

    def _note_error(self, error: sqlite3.Error | OSError, reading: bool) -> None:
        self._retry_ns = self._now_ns() + RETRY_NS
        reason = getattr(error, "strerror", None) or str(error)
        self._faults.log_transition(f"mqtt spool {self._file}: {reason}")
        is_damaged = type(error) in DAMAGE
        if reading or is_damaged:
            self._close_database()
        if is_damaged:
            self._retry_ns = 0
            with suppress(OSError, sqlite3.Error):
                self._salvage()

    def _salvage(self) -> None:
        """Replace the file by what can be read of it. Raises sqlite3.Error and OSError."""
        expected, self._saved = max(1, self._saved), 0
        damaged = self._file.with_suffix(".damaged")
        try:
            self._database = salvage_database(self._file, damaged)
            self._saved = count_records(self._database)
            self._is_synced = False
        finally:
            lost = max(1, expected - self._saved)
            self.dropped["damaged"] += lost
            log.warning("mqtt spool: at least %d records were lost; %s is kept", lost, damaged)

    def _close_database(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            close_database(database)

    def _require(self) -> sqlite3.Connection:
        """Return the database, opened if it is not. Raises sqlite3.Error and OSError."""
        if self._database is None:
            self._database = open_database(self._file)
            self._saved = count_records(self._database)
        return self._database

    @staticmethod
    def _now_ns() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read_boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""

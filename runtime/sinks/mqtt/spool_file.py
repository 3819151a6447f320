"""The file of a spool: an SQLite database with a write-ahead log.

In: its path. Out: an open database, empty or with the records of before; of a damaged file those
that can be read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from ....engines.storage import make_folder

DAMAGE = (sqlite3.DatabaseError, sqlite3.InternalError)
"""The types of the errors of a damaged file. The first is the base of others too."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    time_ns INTEGER NOT NULL,
    boot TEXT NOT NULL,
    uptime_ns INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    payload BLOB NOT NULL
)
"""


def open_database(file: Path) -> sqlite3.Connection:
    """Open or make the file, for one process at a time. Raises sqlite3.Error and OSError."""
    make_folder(file.parent, 0o700)
    database = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        # The lock of the file keeps a second run out, and needs no shared memory.
        database.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        database.execute("PRAGMA journal_mode=WAL").fetchall()
        # A commit does not wait for the disk: `sync` does.
        database.execute("PRAGMA synchronous=NORMAL").fetchall()
        database.execute(SCHEMA)
        count_records(database)  # takes the lock
    except BaseException:
        close_database(database)
        raise
    return database


def count_records(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM records").fetchone()[0])


def sync(database: sqlite3.Connection) -> None:
    """Wait until everything that was committed is on the disk. Raises sqlite3.Error."""
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def close_database(database: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        database.close()


def salvage_database(file: Path, damaged: Path) -> sqlite3.Connection:
    """Move the damaged file to `damaged`, and return a new one with its readable records. Raises
    sqlite3.Error and OSError."""
    for suffix in ("-wal", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{file}{suffix}", f"{damaged}{suffix}")  # noqa: PTH105  texts
    database = open_database(file)
    with (
        suppress(sqlite3.DatabaseError),
        database,
        closing(sqlite3.connect(damaged, timeout=0)) as source,
    ):
        database.execute("BEGIN IMMEDIATE")
        for row in read_both_ways(source):
            database.execute("INSERT OR IGNORE INTO records VALUES (?,?,?,?,?,?,?)", row)
    return database


def read_both_ways(database: sqlite3.Connection) -> Iterator[tuple[object, ...]]:
    """Yield the readable rows: those before the first damaged page, and those after the last."""
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.DatabaseError):
            yield from database.execute(f"SELECT * FROM records ORDER BY seq {order}")

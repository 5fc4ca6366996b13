"""State store and embedding cache in the same SQLite file as the rows."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vectable.drivers.sqlite import SqliteDriver
from vectable.errors import Conflict
from vectable.interfaces import Entry

_CHUNK = 500
_THREADED = 64
"""From so many keys on, a read leaves the event loop's thread."""


class SqliteStateStore:
    """`StateStore` over an open driver. A commit is one transaction; revisions grow over the whole store."""

    def __init__(self, driver: SqliteDriver) -> None:
        self._driver = driver

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries that exist among `keys`."""
        if len(keys) == 1:
            return self._get_one(keys[0])
        found: dict[str, Entry] = {}
        with self._driver.reading() as connection:
            for chunk in _chunks(list(dict.fromkeys(keys))):
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(
                    f"SELECT key, value, revision FROM state WHERE key IN ({marks})", chunk
                ).fetchall()
                found.update((key, Entry(value, revision)) for key, value, revision in rows)
        return found

    def _get_one(self, key: str) -> dict[str, Entry]:
        # One statement is one moment by itself: no transaction around it, which every search would pay for.
        with self._driver.translated:
            connection = self._driver.take()
            try:
                row = connection.execute("SELECT value, revision FROM state WHERE key = ?", (key,)).fetchone()
            finally:
                self._driver.give(connection)
        return {} if row is None else {key: Entry(*row)}

    async def scan(self, prefix: str) -> dict[str, Entry]:
        """Every entry whose key starts with `prefix`, ordered by key (code points)."""
        with self._driver.reading() as connection:
            rows = connection.execute(
                "SELECT key, value, revision FROM state WHERE key >= ?1 AND substr(key, 1, ?2) = ?1"
                " AND (?3 IS NULL OR key < ?3) ORDER BY key",
                (prefix, len(prefix), _after_prefix(prefix)),
            ).fetchall()
        return {key: Entry(value, revision) for key, value, revision in rows}

    async def commit(
        self,
        expects: Mapping[str, int] | None = None,
        puts: Mapping[str, bytes] | None = None,
        deletes: Sequence[str] = (),
    ) -> None:
        """All or nothing, durable when it returns. Raises Conflict when a key is not at the revision expected
        (0: absent)."""
        expected, values, gone = dict(expects or {}), dict(puts or {}), list(deletes)

        def run(connection: sqlite3.Connection) -> None:
            _check_revisions(connection, expected)
            (revision,) = connection.execute(
                "UPDATE meta SET value = value + 1 WHERE name = 'state_revision' RETURNING value"
            ).fetchone()
            connection.executemany("DELETE FROM state WHERE key = ?", [(key,) for key in gone])
            connection.executemany(
                "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET value = excluded.value, revision = excluded.revision",
                [(key, value, revision) for key, value in values.items()],
            )

        await self._driver.write(run)


def _check_revisions(connection: sqlite3.Connection, expected: Mapping[str, int]) -> None:
    for key, revision in expected.items():
        row = connection.execute("SELECT revision FROM state WHERE key = ?", (key,)).fetchone()
        current = row[0] if row else 0
        if current != revision:
            raise Conflict(
                f"{key!r} changed meanwhile",
                hint="read it again and retry",
                context={"key": key, "expected": revision, "revision": current},
            )


def _after_prefix(prefix: str) -> str | None:
    """The least text greater than every text that starts with `prefix`; None where there is none."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[: end - 1] + chr(code)
    return None


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


class SqliteVectorCache:
    """`VectorCache` over an open driver: the persistent tier, shared by every process that has the file."""

    def __init__(self, driver: SqliteDriver) -> None:
        self._driver = driver

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors known among `keys`."""
        if len(keys) < _THREADED:
            return self._get(keys)
        return await asyncio.to_thread(self._get, keys)

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        with self._driver.reading() as connection:
            return _known(connection, "key, vector", keys)

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Keeps `items`, in the place of what was known under the same keys. Durable when it returns."""
        if not items:
            return
        created = int(time.time())
        rows = [(key, vector, model, created) for key, vector in items.items()]
        keys = [row[0] for row in rows]
        added = sum(len(row[1]) for row in rows)

        def run(connection: sqlite3.Connection) -> None:
            known = _known(connection, "key, length(vector)", keys)
            if known:
                connection.executemany("DELETE FROM cache WHERE key = ?", [(key,) for key in known])
            connection.executemany(
                "INSERT INTO cache (key, vector, model, created) VALUES (?, ?, ?, ?)", rows
            )
            _resize(connection, len(rows) - len(known), added - sum(known.values()))

        await self._driver.write(run)

    async def scan(self, after: bytes = b"", limit: int = 1_000) -> Sequence[tuple[bytes, bytes, str]]:
        """(key, vector, model) of the next entries behind the key `after`, by key; at most `limit`."""
        with self._driver.reading() as connection:
            return connection.execute(
                "SELECT key, vector, model FROM cache WHERE key > ? ORDER BY key LIMIT ?", (after, limit)
            ).fetchall()

    async def clear(self) -> int:
        """Drops everything; how many entries there were."""

        def run(connection: sqlite3.Connection) -> int:
            entries, _ = _size(connection)
            connection.execute("DELETE FROM cache")
            connection.execute("UPDATE meta SET value = 0 WHERE name IN ('cache_entries', 'cache_bytes')")
            return entries

        return await self._driver.write(run)

    async def size(self) -> tuple[int, int]:
        """(entries, bytes of vectors); takes the same time however many there are."""
        with self._driver.reading() as connection:
            return _size(connection)

    async def prune(self, max_bytes: int) -> int:
        """Drops the oldest entries until at most `max_bytes` of vectors remain; how many were dropped."""

        def run(connection: sqlite3.Connection) -> int:
            excess = _size(connection)[1] - max_bytes
            last, dropped, freed = 0, 0, 0
            if excess <= 0:
                return 0
            for id_, length in connection.execute("SELECT id, length(vector) FROM cache ORDER BY id"):
                last, dropped, freed = id_, dropped + 1, freed + length
                if freed >= excess:
                    break
            connection.execute("DELETE FROM cache WHERE id <= ?", (last,))
            _resize(connection, -dropped, -freed)
            return dropped

        return await self._driver.write(run)


def _known(connection: sqlite3.Connection, columns: str, keys: Sequence[bytes]) -> dict[bytes, Any]:
    """The second of `columns` by the first, the key."""
    found: dict[bytes, Any] = {}
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        found.update(connection.execute(f"SELECT {columns} FROM cache WHERE key IN ({marks})", chunk))
    return found


def _size(connection: sqlite3.Connection) -> tuple[int, int]:
    rows = dict(connection.execute("SELECT name, value FROM meta WHERE name LIKE 'cache%'").fetchall())
    return rows["cache_entries"], rows["cache_bytes"]


def _resize(connection: sqlite3.Connection, entries: int, size: int) -> None:
    connection.executemany(
        "UPDATE meta SET value = value + ? WHERE name = ?",
        [(entries, "cache_entries"), (size, "cache_bytes")],
    )

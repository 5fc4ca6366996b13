"""State store and embedding cache in the same PostgreSQL database as the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vectable.drivers.postgres import Connection, PostgresDriver
from vectable.errors import Conflict
from vectable.interfaces import Entry

_XID = "pg_current_xact_id_if_assigned()::text::bigint"
"""The transaction's number, by which the driver learns what became of a COMMIT nobody answered."""


class PostgresStateStore:
    """`StateStore` over an open driver. A commit is one transaction; revisions grow over the whole store."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries that exist among `keys`, as of one moment."""
        if not keys:
            return {}

        async def run(connection: Connection) -> dict[str, Entry]:
            rows = await connection.fetch(
                "SELECT key, value, revision FROM vectable.state WHERE key = ANY ($1::text[])", list(keys)
            )
            return {key: Entry(value, revision) for key, value, revision in rows}

        return await self._driver.read(run)

    async def scan(self, prefix: str) -> dict[str, Entry]:
        """Every entry whose key starts with `prefix`, ordered by key (code points)."""

        async def run(connection: Connection) -> dict[str, Entry]:
            rows = await connection.fetch(
                "SELECT key, value, revision FROM vectable.state"
                " WHERE key >= $1::text AND starts_with(key, $1::text)"
                " AND ($2::text IS NULL OR key < $2::text) ORDER BY key",
                prefix,
                _after_prefix(prefix),
            )
            return {key: Entry(value, revision) for key, value, revision in rows}

        return await self._driver.read(run)

    async def commit(
        self,
        expects: Mapping[str, int] | None = None,
        puts: Mapping[str, bytes] | None = None,
        deletes: Sequence[str] = (),
    ) -> None:
        """All or nothing, durable when it returns. Raises Conflict when a key is not at the revision expected
        (0: absent), OutcomeUnknown when the server vanished while it committed."""
        expected, values, gone = dict(expects or {}), dict(puts or {}), list(deletes)

        async def run(connection: Connection) -> int | None:
            conflict, wanted, actual, xid = await connection.fetchrow(
                f"SELECT conflict, expected, actual, {_XID}"
                " FROM vectable.state_commit($1::text[], $2::bigint[], $3::text[], $4::bytea[], $5::text[])",
                list(expected),
                list(expected.values()),
                list(values),
                list(values.values()),
                gone,
            )
            if conflict is not None:
                raise Conflict(
                    f"{conflict!r} changed meanwhile",
                    hint="read it again and retry",
                    context={"key": conflict, "expected": wanted, "revision": actual},
                )
            return None if xid is None else int(xid)

        await self._driver.transaction(run, xid_of=lambda xid: xid)


def _after_prefix(prefix: str) -> str | None:
    """The least text greater than every text that starts with `prefix`; None where there is none."""
    for end in range(len(prefix), 0, -1):
        code = ord(prefix[end - 1]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000
        if code <= 0x10FFFF:
            return prefix[: end - 1] + chr(code)
    return None


class PostgresVectorCache:
    """`VectorCache` over an open driver: the persistent tier, shared by everybody who uses the database."""

    def __init__(self, driver: PostgresDriver) -> None:
        self._driver = driver

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors known among `keys`."""
        if not keys:
            return {}

        async def run(connection: Connection) -> dict[bytes, bytes]:
            rows = await connection.fetch(
                "SELECT key, vector FROM vectable.cache WHERE key = ANY ($1::bytea[])", list(keys)
            )
            return {key: vector for key, vector in rows}  # noqa: C416 - records, not pairs

        return await self._driver.read(run)

    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None:
        """Keeps `items`, in the place of what was known under the same keys. Durable when it returns."""
        if not items:
            return
        keys, vectors = list(items), list(items.values())

        async def run(connection: Connection) -> int | None:
            await connection.execute(
                "SELECT vectable.cache_put($1::bytea[], $2::bytea[], $3)", keys, vectors, model
            )
            return None

        await self._driver.transaction(run)

    async def scan(self, after: bytes = b"", limit: int = 1_000) -> Sequence[tuple[bytes, bytes, str]]:
        """(key, vector, model) of the next entries behind the key `after`, by key; at most `limit`."""

        async def run(connection: Connection) -> Sequence[tuple[bytes, bytes, str]]:
            rows = await connection.fetch(
                "SELECT key, vector, model FROM vectable.cache WHERE key > $1 ORDER BY key LIMIT $2",
                after,
                limit,
            )
            return [(key, vector, model) for key, vector, model in rows]

        return await self._driver.read(run)

    async def size(self) -> tuple[int, int]:
        """(entries, bytes of vectors); takes the same time however many there are."""

        async def run(connection: Connection) -> tuple[int, int]:
            entries, size = await connection.fetchrow("SELECT entries, bytes FROM vectable.cache_size")
            return int(entries), int(size)

        return await self._driver.read(run)

    async def clear(self) -> int:
        """Drops everything; how many entries there were."""

        async def run(connection: Connection) -> int:
            return await _drop(connection, None)

        return await self._driver.transaction(run, statement_timeout_ms=0)

    async def prune(self, max_bytes: int) -> int:
        """Drops the oldest entries until at most `max_bytes` of vectors remain; how many were dropped."""

        async def run(connection: Connection) -> int:
            # A running sum along the index on `id` stops at the first entry that may stay.
            last = await connection.fetchval(
                "SELECT id FROM (SELECT id, sum(octet_length(vector))"
                "  OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS freed FROM vectable.cache) AS oldest,"
                " vectable.cache_size AS size"
                " WHERE size.bytes > $1 AND freed >= size.bytes - $1 ORDER BY id LIMIT 1",
                max_bytes,
            )
            return 0 if last is None else await _drop(connection, int(last))

        return await self._driver.transaction(run, statement_timeout_ms=0)


async def _drop(connection: Connection, last: int | None) -> int:
    """Removes entries up to the id `last` (None: all), and says how many there were."""
    dropped: int = await connection.fetchval(
        "WITH gone AS (DELETE FROM vectable.cache WHERE $1::bigint IS NULL OR id <= $1"
        "  RETURNING octet_length(vector) AS size),"
        " freed AS (SELECT count(*) AS entries, coalesce(sum(size), 0) AS bytes FROM gone)"
        " UPDATE vectable.cache_size AS s"
        "  SET entries = s.entries - freed.entries, bytes = s.bytes - freed.bytes"
        " FROM freed RETURNING freed.entries",
        last,
    )
    return dropped

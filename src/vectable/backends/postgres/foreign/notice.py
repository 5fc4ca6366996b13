"""Taking note of what others changed: keys come off the queue, and our lines and cells follow.

One transaction each, so that one that dies halfway has not happened. Their table is only read, and our queue
is the only thing their writers and we both touch: nobody waits for anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vectable.backends.postgres.foreign.place import Theirs, digest, value_of
from vectable.backends.postgres.foreign.record import Attached, queue, sidecar
from vectable.backends.postgres.layout import KEY, REVISION, XID, cells_name, physical
from vectable.backends.postgres.values import decoder
from vectable.core.key import KeyBytes, encode_key
from vectable.core.recipe import content_key, render
from vectable.core.schema import Table
from vectable.drivers.postgres import Connection, ours
from vectable.errors import InvalidInput

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """What a batch of keys turned out to be. `rows`: by our key, the parts of theirs, the transaction that
    wrote the row, its digest, and its values by column."""

    rows: dict[KeyBytes, tuple[Sequence[str], str, bytes, dict[str, Any]]] = field(default_factory=dict)
    gone: set[KeyBytes] = field(default_factory=set)
    taken: int = 0


async def take(
    connection: Connection, table: Table, attached: Attached, theirs: Theirs | None, limit: int
) -> tuple[int, list[KeyBytes]]:
    """Takes up to `limit` keys off the queue and makes our lines and cells say what is true of them now: (how
    many keys, those of rows whose cells want something new)."""
    await connection.execute(_FEW)
    seen = await _look(connection, table, attached, theirs, limit)
    await _forget(connection, table, seen.gone)
    return seen.taken, await _note(connection, table, attached, seen)


_FEW = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
"""Whatever the planner thinks of tables that grew by far since it looked: a batch is few rows, found by their
keys."""


async def _look(
    connection: Connection, table: Table, attached: Attached, theirs: Theirs | None, limit: int
) -> _Seen:
    names = ", ".join(f"k{i}" for i in range(len(attached.key)))
    waiting, rows = queue(table.id), sidecar(table.id)
    same = " AND ".join(f"r.k{i} = u.k{i}" for i in range(len(attached.key)))
    types = {c.id: c.type for c in table.stored_columns}
    read = list(dict.fromkeys([*attached.key, *attached.sources]))
    if theirs is None:
        found, joined = ["NULL"] * (3 + len(attached.key) + len(read)), ""
    else:
        parts = [f"{part}::text" for part in theirs.stored_key]
        values = [value_of(id_, types[id_], theirs, attached) for id_ in read]
        found = [f"{theirs.stored_key[0]} IS NOT NULL", "f.xmin::text", digest(theirs, table, attached)]
        found += parts + values
        joined = f" LEFT JOIN {theirs.name} AS f ON {theirs.equals('u')}"
    # What is seen of theirs is of the same moment as what is seen of the queue.
    batch = await connection.fetch(
        f"WITH taken AS (DELETE FROM {waiting} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {waiting}"
        f" WHERE NOT whole ORDER BY xid LIMIT $1::bigint FOR UPDATE SKIP LOCKED)) RETURNING {names}),"
        f" keys AS (SELECT {names}, count(*) AS n FROM taken GROUP BY {names})"
        f" SELECT u.n, r.{KEY}, {', '.join(found)} FROM keys AS u LEFT JOIN {rows} AS r ON {same}{joined}",
        limit,
    )
    seen = _Seen()
    columns = {c.id: c for c in table.stored_columns}
    for count, line, there, xmin, made_from, *rest in batch:
        seen.taken += count
        key = None
        if there:
            parts, values = rest[: len(attached.key)], rest[len(attached.key) :]
            row = {}
            for id_, value in zip(read, values, strict=True):
                convert = decoder(columns[id_].type)
                row[columns[id_].name] = value if value is None or convert is None else convert(value)
            key = _key(table, row)
            if key is not None:
                seen.rows[key] = (parts, xmin, made_from, row)
        if line is not None and line != key:
            seen.gone.add(line)
    seen.gone -= seen.rows.keys()
    return seen


def _key(table: Table, row: dict[str, Any]) -> KeyBytes | None:
    try:
        return encode_key(tuple(row[c.name] for c in table.key_columns))
    except InvalidInput as error:
        log.warning("a row of %s is left out, its key cannot be kept: %s", table.full_name, error.detail)
        return None


async def _forget(connection: Connection, table: Table, keys: set[KeyBytes]) -> None:
    if not keys:
        return
    gone = sorted(keys)
    await connection.execute(f"DELETE FROM {sidecar(table.id)} WHERE {KEY} = ANY ($1::bytea[])", gone)
    for _, version in table.versions:
        await connection.execute(
            f"DELETE FROM {ours(cells_name(version.id))} WHERE key = ANY ($1::bytea[])", gone
        )
    await connection.execute(
        f"INSERT INTO {ours(physical('d', table.id))} (key) SELECT unnest($1::bytea[])", gone
    )


async def _note(connection: Connection, table: Table, attached: Attached, seen: _Seen) -> list[KeyBytes]:
    if not seen.rows:
        return []
    keys = sorted(seen.rows)
    at = range(len(attached.key))
    names = ", ".join(f"k{i}" for i in at)
    given = ", ".join(f"${i + 2}::text[]" for i in range(len(attached.key) + 1))
    cast = ", ".join(f"k{i}::{type_}" for i, type_ in enumerate(attached.key_types))
    kept = ", ".join(f"k{i} = excluded.k{i}" for i in at)
    last = len(attached.key) + 3
    await connection.execute(
        f"INSERT INTO {sidecar(table.id)} ({KEY}, {names}, seen, digest)"
        f" SELECT key, {cast}, seen::xid, digest"
        f" FROM unnest($1::bytea[], {given}, ${last}::bytea[]) AS u (key, {names}, seen, digest) ORDER BY key"
        f" ON CONFLICT ({KEY}) DO UPDATE SET {kept}, seen = excluded.seen, digest = excluded.digest,"
        f" {XID} = DEFAULT, {REVISION} = DEFAULT",
        keys,
        *([seen.rows[key][0][i] for key in keys] for i in at),
        [seen.rows[key][1] for key in keys],
        [seen.rows[key][2] for key in keys],
    )
    changed: dict[KeyBytes, None] = {}
    for column, version in table.versions:
        if column.embedding is None:
            continue
        wants = []
        for key in keys:
            content = render(column.embedding.template, seen.rows[key][3])
            wants.append(
                None if content is None else content_key(version.identity or "", version.prompt, content)
            )
        cells = ours(cells_name(version.id))
        # As `Cell.wanting` has it: what wants something else keeps its vector until there is a new one.
        written = await connection.fetch(
            f"INSERT INTO {cells} AS c (key, want) SELECT key, want"
            " FROM unnest($1::bytea[], $2::bytea[]) AS u (key, want)"
            f" WHERE want IS NOT NULL OR EXISTS (SELECT FROM {cells} AS o WHERE o.key = u.key) ORDER BY key"
            " ON CONFLICT (key) DO UPDATE SET want = excluded.want, error = NULL, attempts = 0,"
            " have = CASE WHEN excluded.want IS NOT NULL THEN c.have END,"
            " vector = CASE WHEN excluded.want IS NOT NULL THEN c.vector END, xid = DEFAULT"
            " WHERE c.want IS DISTINCT FROM excluded.want RETURNING key",
            keys,
            wants,
        )
        changed.update(dict.fromkeys(row[0] for row in written))
    return list(changed)


async def compare(
    connection: Connection,
    table: Table,
    attached: Attached,
    theirs: Theirs | None,
    since: str | None = None,
) -> None:
    """Queues the keys of rows that are not as they were noticed, or are gone; with `since` (a condition over
    `f`) only among those, and none that are gone."""
    waiting, rows = queue(table.id), sidecar(table.id)
    names = ", ".join(f"k{i}" for i in range(len(attached.key)))
    lines = ", ".join(f"r.k{i}" for i in range(len(attached.key)))
    if theirs is None:
        await connection.execute(f"INSERT INTO {waiting} ({names}) SELECT {lines} FROM {rows} AS r")
        return
    stored, equal = ", ".join(theirs.stored_key), theirs.equals("r")
    differs = f"(r.{KEY} IS NULL OR r.seen <> f.xmin)"
    if since is not None:
        differs = f"{differs} AND {since}"
    parts = [f"SELECT {stored} FROM {theirs.name} AS f LEFT JOIN {rows} AS r ON {equal} WHERE {differs}"]
    if "text" in theirs.key_types:
        # A key may equal another that is spelt otherwise: then both are looked at.
        parts.append(f"SELECT {lines} FROM {theirs.name} AS f JOIN {rows} AS r ON {equal} WHERE {differs}")
    if since is None:
        parts.append(
            f"SELECT {lines} FROM {rows} AS r LEFT JOIN {theirs.name} AS f ON {equal}"
            f" WHERE {theirs.stored_key[0]} IS NULL"
        )
    await connection.execute(f"INSERT INTO {waiting} ({names}) {' UNION ALL '.join(parts)}")

"""What a table of others is: its columns, its key, and what we are allowed to do with it. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vectable.backends.postgres.foreign.types import Mapped, mapped
from vectable.drivers.postgres.connection import Connection
from vectable.drivers.postgres.names import SCHEMA, qualified, quote
from vectable.errors import AccessDenied, Conflict, InvalidInput, TableNotFound, Unsupported, did_you_mean

_KINDS = {
    "v": ("a view", "attach the table it shows"),
    "m": ("a materialised view", "attach the table it is made from"),
    "f": ("a table of another server", "attach it on that server"),
    "S": ("a sequence", "attach a table"),
    "i": ("an index", "attach its table"),
    "I": ("an index", "attach its table"),
    "c": ("a type", "attach a table"),
}
_WATERMARKS = ("updated_at", "modified_at", "last_modified", "updated", "modified")


@dataclass(frozen=True, slots=True)
class SeenColumn:
    """A column of theirs. `stored_type` is a type of the system's own that equals `type` where compared, or
    None where there is none (an enum, a domain, a type of an extension)."""

    name: str
    number: int
    type: str
    base: str
    nullable: bool
    generated: bool
    mapped: Mapped
    stored_type: str | None
    collation: str | None = None
    """Its own, qualified and quoted, where it is not the database's default."""


@dataclass(frozen=True, slots=True)
class SeenTable:
    """A table of theirs. `key`: positions in `columns` of a primary key's, else of a unique index's without
    nulls."""

    schema: str
    name: str
    number: int
    partitioned: bool
    columns: tuple[SeenColumn, ...]
    key: tuple[int, ...]
    may_trigger: bool
    updated_at: str | None


async def inspect(connection: Connection, name: str, schema: str | None = None) -> SeenTable:
    """The table `name` of `schema`; without a schema, the one in `public` with exactly that name, else
    `schema.name`. Raises TableNotFound, Unsupported (views, foreign tables, no key), AccessDenied (no
    SELECT), Conflict (ours)."""
    found = await _find(connection, name, schema)
    schema, table, oid, kind, may_read, may_trigger = found
    shown = qualified(schema, table)
    if schema == SCHEMA or await _is_ours(connection, schema, table):
        raise Conflict(
            f"{shown} is a table of Vectable's own", hint="it needs no attaching: use it by its name"
        )
    if kind not in ("r", "p"):
        what, hint = _KINDS.get(kind, ("not a table", "attach a table"))
        raise Unsupported(f"{shown} is {what}, whose changes cannot be noticed", hint=hint)
    if not may_read:
        role = await connection.fetchval("SELECT quote_ident(current_user)")
        raise AccessDenied(
            f"the role may not read {shown}",
            hint=f"its owner may run: GRANT USAGE ON SCHEMA {quote(schema)} TO {role};"
            f" GRANT SELECT, TRIGGER ON {shown} TO {role};",
        )
    columns = await columns_of(connection, oid)
    key = await _key(connection, oid, shown, columns)
    return SeenTable(schema, table, oid, kind == "p", columns, key, may_trigger, _watermark(columns))


async def _find(
    connection: Connection, name: str, schema: str | None
) -> tuple[str, str, int, str, bool, bool]:
    places = [(schema, name)] if schema is not None else [("public", name)]
    if schema is None and "." in name:
        places.append((name.split(".", 1)[0], name.split(".", 1)[1]))
    for place, table in places:
        row = await connection.fetchrow(_FIND, place, table)
        if row is not None:
            return (row[0], row[1], row[2], row[3].decode(), row[4], row[5])
    rows = await connection.fetch(_KNOWN)
    known = [r[1] if r[0] == "public" else f"{r[0]}.{r[1]}" for r in rows]
    raise TableNotFound(
        f"there is no table {name!r} in this database", hint=did_you_mean(name, known, "tables")
    )


_FIND = """
SELECT n.nspname, c.relname, c.oid::bigint, c.relkind,
       has_schema_privilege(n.oid, 'USAGE')
         AND (has_table_privilege(c.oid, 'SELECT')),
       has_table_privilege(c.oid, 'TRIGGER')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2"""

_KNOWN = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'vectable')
  AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2 LIMIT 1000"""


async def _is_ours(connection: Connection, schema: str, table: str) -> bool:
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM vectable.tables"
        " WHERE rows_schema = $1 AND rows_name = $2 AND attached IS NULL)",
        schema,
        table,
    )
    return bool(found)


_COLUMNS = """
WITH RECURSIVE whole AS (
    SELECT a.attnum, a.attname, a.attnotnull, a.attgenerated, a.atttypid AS type, a.atttypmod AS typmod,
           format_type(a.atttypid, a.atttypmod) AS shown, a.attcollation AS collation
    FROM pg_attribute a WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
), based AS (
    SELECT attnum, type, typmod FROM whole
    UNION ALL
    SELECT b.attnum, t.typbasetype, t.typtypmod FROM based b JOIN pg_type t ON t.oid = b.type
    WHERE t.typtype = 'd'
)
SELECT w.attname, w.attnum, w.shown, w.attnotnull, w.attgenerated <> '',
       e.typname AS base, t.typcategory = 'A' AND t.typelem <> 0 AS is_array, b.typmod,
       CASE WHEN declared.typtype = 'b' AND dn.nspname = 'pg_catalog'
            THEN format_type(declared.oid, NULL) END,
       (SELECT format('%I.%I', cn.nspname, c.collname) FROM pg_collation c
        JOIN pg_namespace cn ON cn.oid = c.collnamespace
        WHERE c.oid = w.collation AND c.collname <> 'default')
FROM whole w JOIN based b USING (attnum) JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd'
JOIN pg_type e ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
JOIN pg_type declared ON declared.oid = w.type JOIN pg_namespace dn ON dn.oid = declared.typnamespace
ORDER BY w.attnum"""


async def columns_of(connection: Connection, oid: int) -> tuple[SeenColumn, ...]:
    """The columns of the table with that number, in its order."""
    found = []
    for row in await connection.fetch(_COLUMNS, oid):
        name, number, shown, not_null, generated, base, is_array, typmod, stored, collation = row
        precision, scale = _numeric(typmod) if base == "numeric" and not is_array else (None, None)
        found.append(
            SeenColumn(
                name=name,
                number=number,
                type=shown,
                base=base,
                nullable=not not_null,
                generated=generated,
                mapped=mapped(base, array=is_array, precision=precision, scale=scale),
                stored_type=stored,
                collation=collation,
            )
        )
    return tuple(found)


def _numeric(typmod: int) -> tuple[int | None, int | None]:
    """(precision, scale) of a numeric's type modifier."""
    if typmod < 4:
        return None, None
    scale = (typmod - 4) & 0x7FF
    return (typmod - 4) >> 16, (scale ^ 1024) - 1024


_KEY = """
SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1], i.indisprimary FROM pg_index i
WHERE i.indrelid = $1::bigint::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL AND (i.indimmediate OR i.indisprimary)
  AND (SELECT bool_and(a.attnotnull) FROM pg_attribute a
       WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid"""


async def _key(
    connection: Connection, oid: int, shown: str, columns: Sequence[SeenColumn]
) -> tuple[int, ...]:
    rows = await connection.fetch(_KEY, oid)
    if not rows:
        raise Unsupported(
            f"{shown} has no primary key, so its rows cannot be told apart",
            hint="its owner may add one, or a unique index over columns that are not null",
        )
    numbers = {c.number: at for at, c in enumerate(columns)}
    return tuple(numbers[number] for number in rows[0][0])


def _watermark(columns: Sequence[SeenColumn]) -> str | None:
    for wanted in _WATERMARKS:
        for column in columns:
            if column.name.lower() == wanted and column.base in ("timestamptz", "timestamp"):
                return column.name
    return None


def check_watermark(table: SeenTable, name: str) -> str:
    """`name`, if it is a column that can tell when a row changed. Raises InvalidInput."""
    for column in table.columns:
        if column.name == name and column.base in ("timestamptz", "timestamp"):
            return name
    moments = [c.name for c in table.columns if c.base in ("timestamptz", "timestamp")]
    raise InvalidInput(
        f"{name!r} is no column of timestamps of {qualified(table.schema, table.name)}",
        hint="columns of timestamps: " + (", ".join(moments) or "none; leave it out"),
    )

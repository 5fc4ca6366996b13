"""Where the rows of an attached table are: theirs, joined with a line of ours for each, on their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vectable.backends.postgres.foreign.inspect import SeenColumn, columns_of
from vectable.backends.postgres.foreign.record import Attached, queue, sidecar, sidecar_name
from vectable.backends.postgres.layout import KEY, Place, physical
from vectable.backends.postgres.standing import changed_since
from vectable.backends.postgres.values import CASTS
from vectable.core.schema import ColumnType, Table
from vectable.drivers.postgres import SCHEMA, Connection, literal, ours, qualified, quote

_TEXTS = frozenset({ColumnType.STRING, ColumnType.STRINGS})


@dataclass(frozen=True, slots=True)
class Theirs:
    """Their table as it is now. Everything is SQL over `f`, a row of it, and `r`, the line of ours."""

    number: int
    schema: str
    table: str
    columns: Mapping[str, SeenColumn]
    """By our column's id; those that are gone, or have a type that means something else now, are left out."""
    key: tuple[SeenColumn, ...]
    key_types: tuple[str, ...]
    """What each part is stored as, in the queue and beside our key."""

    @property
    def name(self) -> str:
        """Qualified and quoted."""
        return qualified(self.schema, self.table)

    @property
    def stored_key(self) -> list[str]:
        """Each part of the key as it is stored."""
        return [f"f.{quote(c.name)}::{t}" for c, t in zip(self.key, self.key_types, strict=True)]

    def equals(self, other: str) -> str:
        """The condition that `f` has the key stored in the columns k0, k1, … of `other`."""
        parts = []
        for i, (column, stored) in enumerate(zip(self.key, self.key_types, strict=True)):
            cast = f"::{column.type}" if stored == "text" != column.type else ""
            collate = f" COLLATE {column.collation}" if column.collation else ""
            parts.append(f"f.{quote(column.name)} = {other}.k{i}{cast}{collate}")
        return " AND ".join(parts)


async def find_theirs(connection: Connection, table: Table, attached: Attached) -> Theirs | None:
    """Their table as it is now, under whatever name; None where it, or its key, is gone."""
    foreign = attached.foreign
    for number, schema, name in await connection.fetch(_FIND, foreign.number, foreign.place, foreign.name):
        seen = await columns_of(connection, number)
        found = _matched(seen, table, attached, by_number=number == foreign.number)
        if all(id_ in found for id_ in attached.key):
            key = tuple(found[id_] for id_ in attached.key)
            return Theirs(number, schema, name, found, key, attached.key_types)
    return None


# By its name first: those who build a table anew give it the old one's name.
_FIND = """
SELECT c.oid::bigint, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND (c.oid = $1::bigint::oid OR n.nspname = $2 AND c.relname = $3)
ORDER BY n.nspname = $2 AND c.relname = $3 DESC"""


def _matched(
    seen: Sequence[SeenColumn], table: Table, attached: Attached, *, by_number: bool
) -> dict[str, SeenColumn]:
    numbers, names = {c.number: c for c in seen}, {c.name: c for c in seen}
    types = {c.id: c.type for c in table.stored_columns}
    found = {}
    for id_, known in attached.foreign.columns.items():
        column = numbers.get(known.number) if by_number else names.get(known.name)
        if column is None:
            continue
        type_ = column.mapped.key_type if id_ in attached.key else column.mapped.type
        if types.get(id_, type_) is type_:
            found[id_] = column
    return found


def attached_place(
    table: Table, generation: int, attached: Attached, versions: frozenset[str], theirs: Theirs | None
) -> Place:
    """The place of an attached table. Where theirs is gone, it has no rows."""
    rows, waiting = sidecar(table.id), queue(table.id)
    types = {c.id: c.type for c in table.stored_columns}
    if theirs is None:
        source = f"(SELECT * FROM {rows} WHERE FALSE) AS r"
    else:
        source = f"{rows} AS r JOIN {theirs.name} AS f ON {theirs.equals('r')}"
    same = " AND ".join(f"r.k{i} = q.k{i}" for i in range(len(attached.key)))
    keys = (
        f"SELECT r.{KEY} FROM {waiting} AS q JOIN {rows} AS r ON {same} WHERE {changed_since('q.xid', '$1')}"
    )
    whole = f"SELECT FROM {waiting} AS q WHERE q.whole AND {changed_since('q.xid', '$1')}"
    every = f"SELECT r.{KEY} FROM {rows} AS r WHERE EXISTS ({whole})"
    return Place(
        generation=generation,
        rows=rows,
        source=source,
        expressions={id_: value_of(id_, types[id_], theirs, attached) for id_ in types},
        tombstones=ours(physical("d", table.id)),
        versions=versions,
        schema=SCHEMA,
        name=sidecar_name(table.id),
        moved="FALSE" if theirs is None else moved(theirs, table, attached),
        told=(keys, every),
        queue=waiting,
    )


def value_of(id_: str, type_: ColumnType, theirs: Theirs | None, attached: Attached) -> str:
    """A column's value over `f`, as our type; null where it is gone."""
    column = None if theirs is None else theirs.columns.get(id_)
    if column is None:
        sql = f"NULL::{CASTS[type_]}"
    else:
        mapped = column.mapped
        read = mapped.read_key if id_ in attached.key else mapped.read
        sql = read(f"f.{quote(column.name)}")
    return f'({sql} COLLATE "C")' if type_ in _TEXTS else f"({sql})"


def digest(theirs: Theirs, table: Table, attached: Attached) -> str:
    """What a row is embedded from, in 32 bytes; over `f`."""
    types = {c.id: c.type for c in table.stored_columns}
    parts = [literal(",".join(attached.sources))]
    parts += [value_of(id_, types[id_], theirs, attached) for id_ in attached.sources if id_ in types]
    return f"sha256(convert_to(ROW({', '.join(parts)})::text, 'UTF8'))"


def moved(theirs: Theirs, table: Table, attached: Attached) -> str:
    """Whether a row has other contents than those it was noticed with, over `f` and `r`. Most rows are told
    apart by the transaction that wrote them; what is left, by what they are embedded from."""
    if not attached.sources:
        return "FALSE"
    return f"(r.seen <> f.xmin AND r.digest IS DISTINCT FROM {digest(theirs, table, attached)})"

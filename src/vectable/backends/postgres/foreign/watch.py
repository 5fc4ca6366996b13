"""What tells us of changes: triggers on the table of others that do nothing but put keys into our queue.

Nothing of ours depends on their table or its types, so its owner may change and drop it as before. A trigger
that fails (a key column was renamed) queues a note that everything is to be compared; their write goes on.
No NOTIFY: it makes all commits of a database wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from vectable.backends.postgres.foreign.inspect import SeenColumn
from vectable.backends.postgres.foreign.place import Theirs
from vectable.backends.postgres.foreign.record import function, function_name, queue
from vectable.drivers.postgres import READ_ALIKE, SCHEMA, Connection, literal, quote

_CUT = frozenset({"character", "bit"})
"""Types that without a length mean a length of one."""


def key_types(key: Sequence[SeenColumn]) -> tuple[str, ...]:
    """The type each part of their key has where we keep it: theirs if it is the system's, else text."""
    found = [column.stored_type for column in key]
    return tuple(t if t is not None and t not in _CUT else "text" for t in found)


async def may_watch(connection: Connection, theirs: Theirs) -> bool:
    """Whether the role may put triggers on their table and each of its partitions, and those would hear of
    every row: none do of what is written to tables that inherit from it."""
    return bool(
        await connection.fetchval(
            "SELECT has_table_privilege(c.oid, 'TRIGGER') AND CASE c.relkind WHEN 'p' THEN"
            "  (SELECT bool_and(has_table_privilege(p.relid, 'TRIGGER')) FROM pg_partition_tree(c.oid) p)"
            "  ELSE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) END"
            " FROM pg_class c WHERE c.oid = $1::bigint::oid",
            theirs.number,
        )
    )


async def is_watched(connection: Connection, table_id: str, theirs: Theirs) -> bool:
    """Whether every trigger is there, and fires."""
    found = await connection.fetchval(
        "SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " JOIN pg_namespace n ON n.oid = p.pronamespace WHERE t.tgrelid = $1::bigint::oid"
        " AND n.nspname = $2 AND p.proname = $3 AND t.tgenabled IN ('O', 'A')",
        theirs.number,
        SCHEMA,
        function_name(table_id),
    )
    return int(found) == len(_events(by_row=False))


async def start_watching(connection: Connection, table_id: str, theirs: Theirs) -> None:
    """Puts the triggers on their table, within the caller's transaction, and notes that all is to be
    compared: what changed before may have been missed. Waits for their writers: set a lock timeout."""
    by_row = bool(
        await connection.fetchval(
            "SELECT c.relkind = 'p' OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)"
            " FROM pg_class c WHERE c.oid = $1::bigint::oid",
            theirs.number,
        )
    )
    await connection.execute(_function(table_id, theirs, by_row=by_row))
    if not by_row:
        # Whoever adds a partition puts the triggers on it, and must be allowed to.
        await connection.execute(f"REVOKE ALL ON FUNCTION {function(table_id)}() FROM PUBLIC")
    for event, clause in _events(by_row=by_row):
        name = f"vectable_{event.lower()}_{table_id}"
        await connection.execute(
            f"CREATE OR REPLACE TRIGGER {quote(name)} AFTER {event} ON {theirs.name}"
            f" {clause} EXECUTE FUNCTION {function(table_id)}()"
        )
    await connection.execute(f"INSERT INTO {queue(table_id)} (whole) VALUES (true)")


def _events(*, by_row: bool) -> list[tuple[str, str]]:
    """Events with how their triggers are called: once per statement, with all its rows; of partitions, and
    what inherits, once per row, since a statement may name the whole or a part alone."""
    truncate = ("TRUNCATE", "FOR EACH STATEMENT")
    if by_row:
        return [(event, "FOR EACH ROW") for event in ("INSERT", "UPDATE", "DELETE")] + [truncate]
    return [
        ("INSERT", "REFERENCING NEW TABLE AS news FOR EACH STATEMENT"),
        ("UPDATE", "REFERENCING OLD TABLE AS olds NEW TABLE AS news FOR EACH STATEMENT"),
        ("DELETE", "REFERENCING OLD TABLE AS olds FOR EACH STATEMENT"),
        truncate,
    ]


def _function(table_id: str, theirs: Theirs, *, by_row: bool) -> str:
    waiting = queue(table_id)
    names = ", ".join(f"k{i}" for i in range(len(theirs.key)))
    into = f"INSERT INTO {waiting} ({names})"
    new, old = _keys(theirs, "NEW"), _keys(theirs, "OLD")
    if by_row:
        inserted, deleted = f"{into} SELECT {new}", f"{into} SELECT {old}"
        updated = f"{into} SELECT {new} UNION SELECT {old}"
    else:
        news, olds = f"SELECT {_keys(theirs, 'n')} FROM news n", f"SELECT {_keys(theirs, 'o')} FROM olds o"
        inserted, deleted, updated = f"{into} {news}", f"{into} {olds}", f"{into} {news} UNION {olds}"
    # A key that is kept as text is written as we read it, whatever the writer's session has set.
    alike = READ_ALIKE if "text" in theirs.key_types else {}
    settings = "".join(f" SET {name} = {literal(value)}" for name, value in alike.items())
    return f"""CREATE OR REPLACE FUNCTION {function(table_id)}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp{settings} AS $vectable$
    BEGIN
        IF TG_OP = 'INSERT' THEN {inserted};
        ELSIF TG_OP = 'UPDATE' THEN {updated};
        ELSIF TG_OP = 'DELETE' THEN {deleted};
        ELSE INSERT INTO {waiting} (whole) VALUES (true);
        END IF;
        RETURN NULL;
    EXCEPTION WHEN OTHERS THEN
        BEGIN
            INSERT INTO {waiting} (whole) VALUES (true);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        RETURN NULL;
    END $vectable$"""


def _keys(theirs: Theirs, row: str) -> str:
    parts = []
    for column, type_ in zip(theirs.key, theirs.key_types, strict=True):
        name = f"{row}.{quote(column.name)}"
        parts.append(f"{name}::text" if type_ == "text" else name)
    return ", ".join(parts)

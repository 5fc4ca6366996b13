"""What tells us of changes: a queue of keys, and triggers on the table of others that do nothing but fill it.

Nothing of ours depends on their table or its types, so its owner may change and drop it as before. A trigger
that fails (a key column was renamed) queues a note that everything is to be compared; their write goes on.
No NOTIFY: it makes all commits of a database wait for each other.
"""

from __future__ import annotations

from vectable.backends.postgres.foreign.inspect import SeenTable
from vectable.backends.postgres.layout import physical
from vectable.drivers.postgres.connection import Connection
from vectable.drivers.postgres.names import ours, qualified, quote

_WRITER_WAIT = "2s"
"""Installing a trigger waits for writers, and writers for it: no longer than that."""
_CUT = frozenset({"character", "bit"})
"""Types that without a length mean a length of one."""


def queue_name(table_id: str) -> str:
    """The queue of an attached table, in our schema."""
    return physical("q", table_id)


def key_types(table: SeenTable) -> list[str]:
    """The type each part of their key has where we keep it: theirs if it is the system's, else text."""
    found = [table.columns[at].stored_type for at in table.key]
    return [t if t is not None and t not in _CUT else "text" for t in found]


async def start_watching(connection: Connection, table_id: str, table: SeenTable) -> None:
    """Makes the queue and, where the role may, the triggers; within the caller's transaction. May be
    repeated."""
    columns = "".join(f", k{i} {t}" for i, t in enumerate(key_types(table)))
    await connection.execute(
        f"CREATE TABLE IF NOT EXISTS {ours(queue_name(table_id))} (id bigint GENERATED ALWAYS AS IDENTITY"
        " PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), whole boolean NOT NULL DEFAULT false"
        f"{columns})"
    )
    if not table.may_trigger:
        return
    function = physical("f", table_id)
    await connection.execute(_function(table_id, table))
    await connection.execute(f"REVOKE ALL ON FUNCTION {ours(function)}() FROM PUBLIC")
    await connection.execute(f"SET LOCAL lock_timeout = '{_WRITER_WAIT}'")
    for event, clause in _events(table):
        name = f"vectable_{event.lower()}_{table_id}"
        await connection.execute(
            f"CREATE OR REPLACE TRIGGER {quote(name)} AFTER {event} ON {qualified(table.schema, table.name)}"
            f" {clause} EXECUTE FUNCTION {ours(function)}()"
        )


async def stop_watching(connection: Connection, table_id: str) -> None:
    """Removes the triggers and the queue, also where the table is gone or the role does not own it: triggers
    go with their function."""
    await connection.execute(f"SET LOCAL lock_timeout = '{_WRITER_WAIT}'")
    await connection.execute(f"DROP FUNCTION IF EXISTS {ours(physical('f', table_id))}() CASCADE")
    await connection.execute(f"DROP TABLE IF EXISTS {ours(queue_name(table_id))}")


def _events(table: SeenTable) -> list[tuple[str, str]]:
    """Events with how their triggers are called: once per statement, with all its rows; of partitions once
    per row, since a statement may name a partition alone."""
    truncate = ("TRUNCATE", "FOR EACH STATEMENT")
    if table.partitioned:
        return [(event, "FOR EACH ROW") for event in ("INSERT", "UPDATE", "DELETE")] + [truncate]
    return [
        ("INSERT", "REFERENCING NEW TABLE AS news FOR EACH STATEMENT"),
        ("UPDATE", "REFERENCING OLD TABLE AS olds NEW TABLE AS news FOR EACH STATEMENT"),
        ("DELETE", "REFERENCING OLD TABLE AS olds FOR EACH STATEMENT"),
        truncate,
    ]


def _function(table_id: str, table: SeenTable) -> str:
    queue = ours(queue_name(table_id))
    names = ", ".join(f"k{i}" for i in range(len(table.key)))
    into = f"INSERT INTO {queue} ({names})"
    new, old = _keys(table, "NEW"), _keys(table, "OLD")
    if table.partitioned:
        inserted, deleted = f"{into} SELECT {new}", f"{into} SELECT {old}"
        updated = f"{into} SELECT {new} UNION SELECT {old}"
    else:
        news, olds = f"SELECT {_keys(table, 'n')} FROM news n", f"SELECT {_keys(table, 'o')} FROM olds o"
        inserted, deleted, updated = f"{into} {news}", f"{into} {olds}", f"{into} {news} UNION {olds}"
    return f"""CREATE OR REPLACE FUNCTION {ours(physical("f", table_id))}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $vectable$
    BEGIN
        IF TG_OP = 'INSERT' THEN {inserted};
        ELSIF TG_OP = 'UPDATE' THEN {updated};
        ELSIF TG_OP = 'DELETE' THEN {deleted};
        ELSE INSERT INTO {queue} (whole) VALUES (true);
        END IF;
        RETURN NULL;
    EXCEPTION WHEN OTHERS THEN
        BEGIN
            INSERT INTO {queue} (whole) VALUES (true);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        RETURN NULL;
    END $vectable$"""


def _keys(table: SeenTable, row: str) -> str:
    parts = []
    for at, type_ in zip(table.key, key_types(table), strict=True):
        name = f"{row}.{quote(table.columns[at].name)}"
        parts.append(f"{name}::text" if type_ == "text" else name)
    return ", ".join(parts)

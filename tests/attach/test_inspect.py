"""What is seen of a table that others own, and what its values are read as, on a real server."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest

from vectable.backends.postgres.foreign.inspect import inspect
from vectable.core.schema import ColumnType
from vectable.drivers.postgres import PostgresDriver, quote
from vectable.errors import TableNotFound, Unsupported


@pytest.fixture
async def driver(postgres_url: str) -> AsyncIterator[PostgresDriver]:
    found = PostgresDriver(postgres_url, pool_least=1)
    await found.open()
    yield found
    await found.close()


async def test_types_are_read_as_ours(driver: PostgresDriver) -> None:
    async with driver.connection() as connection:
        await connection.execute("""
            CREATE SCHEMA shop;
            CREATE TYPE shop.mood AS ENUM ('good', 'bad');
            CREATE DOMAIN shop.label AS varchar(20);
            CREATE TABLE shop.all_types (
                id uuid, part int2, name shop.label, price numeric(10, 2), count numeric(8, 0), odd numeric,
                f float8, day date, at timestamptz, local timestamp, mood shop.mood, tags text[], n int[],
                x float8[], j jsonb, raw bytea, ok boolean, span interval,
                twice int GENERATED ALWAYS AS (part * 2) STORED, PRIMARY KEY (part, id));
            INSERT INTO shop.all_types VALUES
                ('00000000-0000-0000-0000-000000000001', 7, 'a', 1.25, 12, 'NaN',
                'Infinity', '2024-02-29', 'infinity', '2024-01-01 12:00', 'bad', ARRAY['x', NULL, 'y'],
                '{{1,2},{3,4}}', '{1,NaN}', '{"a": 1}', '\\x00ff', true, '1 day')""")
        seen = await inspect(connection, "shop.all_types")
        assert [seen.columns[at].name for at in seen.key] == ["part", "id"]
        names = [c.name for c in seen.columns]
        reads = ", ".join(c.mapped.read(f"t.{quote(c.name)}") for c in seen.columns)
        row: Any = await connection.fetchrow(f"SELECT {reads} FROM shop.all_types AS t")
    values = dict(zip(names, row, strict=True))
    assert values == {
        "id": "00000000-0000-0000-0000-000000000001", "part": 7, "name": "a", "price": 1.25, "count": 12,
        "odd": None, "f": None, "day": "2024-02-29", "at": None,
        "local": dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC), "mood": "bad", "tags": ["x", "y"],
        "n": [1, 2, 3, 4], "x": [1.0], "j": '{"a": 1}', "raw": b"\x00\xff", "ok": True, "span": "1 day",
        "twice": 14,
    }  # fmt: skip
    types = {c.name: c.mapped.type for c in seen.columns}
    assert types["price"] is ColumnType.FLOAT
    assert types["count"] is ColumnType.INT
    assert types["tags"] is ColumnType.STRINGS
    assert {c.name for c in seen.columns if c.generated} == {"twice"}
    assert {c.name for c in seen.columns if c.stored_type is None} == {"name", "mood"}


async def test_what_has_no_key_or_no_rows_of_its_own_is_refused(driver: PostgresDriver) -> None:
    async with driver.connection() as connection:
        await connection.execute(
            "CREATE TABLE public.loose (a int); CREATE VIEW public.seen AS SELECT 1 AS a;"
            "CREATE TABLE public.fallback (a int NOT NULL UNIQUE, b int UNIQUE);"
            "CREATE TABLE public.parted (a int PRIMARY KEY, updated_at timestamptz) PARTITION BY RANGE (a)"
        )
        with pytest.raises(Unsupported, match="no primary key"):
            await inspect(connection, "loose")
        with pytest.raises(Unsupported, match="is a view"):
            await inspect(connection, "seen")
        with pytest.raises(TableNotFound, match="parted"):
            await inspect(connection, "partde")
        assert (await inspect(connection, "fallback")).key == (0,)
        parted = await inspect(connection, "parted")
        assert (parted.partitioned, parted.updated_at) == (True, "updated_at")


@pytest.mark.parametrize("name", ['a"; DROP TABLE x; --', "select", "Größe.ü", "x" * 63, "a' b", "MiXed"])
async def test_names_may_be_anything(driver: PostgresDriver, name: str) -> None:
    async with driver.connection() as connection:
        await connection.execute(f"CREATE TABLE public.{quote(name)} ({quote(name)} text PRIMARY KEY)")
        seen = await inspect(connection, name)
        assert (seen.schema, seen.name, seen.columns[0].name) == ("public", name, name)

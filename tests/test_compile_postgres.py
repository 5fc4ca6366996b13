"""Filters as PostgreSQL's SQL: the texts as a table, and each run on a real server against the oracle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import given

from tests.core.filter_samples import TABLE, TEXTS, clauses, column_clauses, list_clauses, predicates, rows
from vectable.backends.compile.sql import POSTGRES, POSTGRES_FOREIGN, Compiled, Dialect, compile_sql
from vectable.core.evaluate import matches, row_test
from vectable.core.predicate import (
    FALSE,
    TRUE,
    Clause,
    Field,
    Predicate,
    Target,
    bind,
    parse_filter,
)
from vectable.core.predicate.pattern import fold_case
from vectable.core.schema import ColumnType, Index
from vectable.drivers.postgres import Address
from vectable.testing.postgres_server import PostgresDatabases

_STORED = {
    ColumnType.STRING: "text", ColumnType.INT: "bigint", ColumnType.FLOAT: "double precision",
    ColumnType.BOOL: "boolean", ColumnType.TIMESTAMP: "timestamptz", ColumnType.JSON: "jsonb",
    ColumnType.STRINGS: "text[]", ColumnType.INTS: "bigint[]", ColumnType.FLOATS: "double precision[]",
    ColumnType.IMAGE: "bytea", ColumnType.VECTOR: "bytea",
}  # fmt: skip
_COLUMNS = [(c.name, c.type) for c in TABLE.columns] + [("emb.state", ColumnType.STRING)]
INDEXED = TABLE.model_copy(
    update={
        "indexes": (
            Index(name="m", column=next(c.id for c in TABLE.columns if c.name == "meta"), type="btree"),
        )
    }
)


def column_sql(target: Target) -> str:
    return '"' + target.name + '"'


class Server:
    """One connection to the real server, with a table of every column type."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._run(asyncpg.connect(**Address.parse(url).arguments))
        columns = ", ".join(f'"{name}" {_STORED[type_]}' for name, type_ in _COLUMNS)
        self._run(self._connection.execute(f"CREATE TEMPORARY TABLE r ({columns})"))
        marks = ", ".join(
            f"${i + 1}::text::jsonb" if type_ is ColumnType.JSON else f"${i + 1}"
            for i, (_, type_) in enumerate(_COLUMNS)
        )
        self._insert = f"INSERT INTO r VALUES ({marks})"

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def fill(self, found: Sequence[dict[str, Any]]) -> None:
        self._run(self._connection.execute("TRUNCATE r"))
        self._run(
            self._connection.executemany(
                self._insert, [[_stored(r[n], t) for n, t in _COLUMNS] for r in found]
            )
        )

    def selected(self, sql: Compiled) -> set[str]:
        return {
            row[0]
            for row in self._run(self._connection.fetch(f"SELECT id FROM r WHERE {sql.text}", *sql.params))
        }

    def plan(self, sql: Compiled) -> str:
        self._run(self._connection.execute("SET enable_seqscan = off"))
        found = self._run(self._connection.fetch(f"EXPLAIN SELECT id FROM r WHERE {sql.text}", *sql.params))
        return "\n".join(row[0] for row in found)

    def execute(self, sql: str) -> None:
        self._run(self._connection.execute(sql))

    def close(self) -> None:
        self._run(self._connection.close())
        self._loop.close()


def _stored(value: Any, type_: ColumnType) -> Any:
    if value is None:
        return None
    if type_ is ColumnType.VECTOR:
        return b"vector"
    return json.dumps(value) if type_ is ColumnType.JSON else value


@pytest.fixture(scope="module")
def server(postgres_databases: PostgresDatabases) -> Iterator[Server]:
    name = postgres_databases.create()
    made = Server(postgres_databases.url_of(name))
    yield made
    made.close()
    postgres_databases.drop(name)


t = Field
NOON = "2026-01-31T12:00:00Z"
_META_A1 = '("meta" -> $1::text -> 1)'
# A scalar is no array of one member, whatever jsonb says.
_META_A0 = "jsonb_path_query_first(\"meta\", $1::text::jsonpath, '{}', TRUE)"
_AT = '"meta" @? $1::text::jsonpath'
_PATH_A = 'strict $."a"'
_META_A = '("meta" -> $1::text)'
TABLE_OF_TEXTS: list[tuple[Predicate, str, tuple[Any, ...], Predicate | None]] = [
    (t("title") == "O'Neil", '"title" = $1::text', ("O'Neil",), None),
    (t("title") < "b", '"title" < $1::text COLLATE "C"', ("b",), None),
    (t("title").in_(["a", "b"]), '"title" = ANY ($1::text[])', (["a", "b"],), None),
    (t("title").not_in(["a"]), '"title" <> ALL ($1::text[])', (["a"],), None),
    (
        t("title").startswith("a%"),
        '("title" >= $1::text COLLATE "C" AND "title" < $2::text COLLATE "C")',
        ("a%", "a&"),
        None,
    ),
    (t("title").contains("%"), 'strpos("title", $1::text) > 0', ("%",), None),
    (t("title").like("a_c"), '"title" LIKE $1::text', ("a_c",), None),
    (t("title").ilike("aK_%."), '"title" ~ $1::text', ("^[aA][kK\u212a]..*\\.$",), None),
    (t("title").ilike("é%"), '"title" ~ $1::text', ("^..*$",), t("title").ilike("é%")),
    (
        t("title").between("a", "b"),
        '"title" BETWEEN ($1::text COLLATE "C") AND ($2::text COLLATE "C")',
        ("a", "b"),
        None,
    ),
    (t("stars") < 5.5, '"stars" <= $1::bigint', (5,), None),
    (t("stars").between(1, 2), '"stars" BETWEEN $1::bigint AND $2::bigint', (1, 2), None),
    (t("score") >= 7, '"score" >= $1::double precision', (7.0,), None),
    (t("open") == True, '"open" = $1::boolean', (True,), None),  # noqa: E712
    (t("tags").contains("x"), '"tags" @> ARRAY[$1::text]', ("x",), None),
    (t("counts").contains(1.5), "FALSE", (), None),
    (t("counts").contains(1.0), '"counts" @> ARRAY[$1::bigint]', (1,), None),
    (t("tags") == ["x"], '"tags" = $1::text[]', (["x"],), None),
    (t("counts").in_([[1], [2]]), '"counts" IN ($1::bigint[], $2::bigint[])', ([1], [2]), None),
    (t("counts").not_in([[0.5]]), '"counts" IS NOT NULL', (), None),
    (t("meta").is_null(), '"meta" IS NULL', (), None),
    (t("meta")["a"].is_null(), f"{_META_A} = 'null'::jsonb", ("a",), None),
    (t("meta")["a"].is_not_null(), f"{_META_A} <> 'null'::jsonb", ("a",), None),
    (t("meta")["a"] == 1, f"{_META_A} = $2::text::jsonb", ("a", "1"), None),
    (t("meta")["a"][1] != "x", f"{_META_A1} <> ALL ($2::text[]::jsonb[])", ("a", ['"x"', "null"]), None),
    (t("meta")["a"][0].is_null(), f"{_META_A0} = 'null'::jsonb", ('strict $."a"[0]',), None),
    (t("meta")["a"].in_([1, True]), f"{_META_A} = ANY ($2::text[]::jsonb[])", ("a", ["1", "true"]), None),
    (t("meta")["a"] == 2**60, f"{_META_A} IS NOT NULL", ("a",), t("meta")["a"] == 2**60),
    (t("meta")["a"] < 5, _AT, ('strict $."a" ? (@ < 5)',), None),
    (t("meta")["a"].startswith('"'), _AT, (_PATH_A + ' ? (@ starts with "\\"")',), None),
    (t("meta")["a"].contains(1), _AT, ('strict $."a"[*] ? (@ == 1)',), None),
    (t("meta")["a"].ilike("x"), _AT, (_PATH_A + ' ? (@ like_regex "^[xX]$" flag "s")',), None),
    (t("emb").state == "ready", '"emb.state" = $1::text', ("ready",), None),
    (t("emb").is_null(), '"emb" IS NULL', (), None),
    (
        ((t("stars") == 1) | (t("order") == 2)) & ~(t("title") == "x"),
        '(("stars" = $1::bigint OR "order" = $2::bigint) AND ("title" = $3::text) IS NOT TRUE)',
        (1, 2, "x"),
        None,
    ),
    (TRUE, "TRUE", (), None),
    (FALSE, "FALSE", (), None),
]  # fmt: skip


def compiled(where: Any, dialect: Dialect = POSTGRES, table: Any = TABLE, start: int = 1) -> Compiled:
    return compile_sql(bind(parse_filter(where), TABLE), table, column_sql, dialect, start)


@pytest.mark.parametrize(("where", "text", "params", "left"), TABLE_OF_TEXTS)
def test_texts_for_postgres(
    server: Server, where: Predicate, text: str, params: tuple[Any, ...], left: Predicate | None
) -> None:
    found = compiled(where)
    assert (found.text, found.params, found.residual) == (text, params, left)
    server.fill([])
    assert server.selected(found) == set()


def test_placeholders_are_numbered_from_where_the_caller_says() -> None:
    where = (t("stars") == 1) & (t("title") == "x")
    assert compiled(where, start=4).text == '("stars" = $4::bigint AND "title" = $5::text)'


def check(server: Server, found: list[dict[str, Any]], predicate: Predicate, dialect: Dialect = POSTGRES,
          table: Any = TABLE) -> Compiled:  # fmt: skip
    server.fill(found)
    bound = bind(parse_filter(predicate), TABLE)
    sql = compile_sql(bound, table, column_sql, dialect)
    holds = row_test(bound)
    wanted = {row["id"] for row in found if holds(row)}
    got = server.selected(sql)
    assert wanted <= got, "not a superset"
    by_id = {row["id"]: row for row in found}
    also = row_test(TRUE if sql.residual is None else sql.residual)
    assert {i for i in got if also(by_id[i])} == wanted
    return sql


@given(found=rows(), predicate=predicates())
@pytest.mark.parametrize("dialect", [POSTGRES, POSTGRES_FOREIGN])
def test_superset_and_residual_make_the_filter(
    server: Server, dialect: Dialect, found: list[dict[str, Any]], predicate: Predicate
) -> None:
    check(server, found, predicate, dialect)


@given(found=rows(), predicate=predicates())
def test_the_same_where_an_index_over_json_may_serve(
    server: Server, found: list[dict[str, Any]], predicate: Predicate
) -> None:
    check(server, found, predicate, table=INDEXED)


@given(
    found=rows(), predicate=predicates(column_clauses.filter(lambda c: c.operator != "ilike") | list_clauses)
)
def test_columns_and_lists_are_pushed_exactly(
    server: Server, found: list[dict[str, Any]], predicate: Predicate
) -> None:
    assert check(server, found, predicate).exact


@given(found=rows(), clause=clauses)
def test_each_clause_alone(server: Server, found: list[dict[str, Any]], clause: Clause) -> None:
    check(server, found, clause)


def _rows_of_texts(texts: Sequence[str]) -> list[dict[str, Any]]:
    empty = dict.fromkeys([c.name for c in TABLE.columns]) | {"emb.state": "empty"}
    found: list[dict[str, Any]] = [
        {**empty, "id": str(i), "title": text, "meta": {"a": text}} for i, text in enumerate(texts)
    ]
    return [*found, {**empty, "id": "null"}]


def _field(column: str) -> Field:
    return t("meta")["a"] if column == "meta.a" else t(column)


_COMPARED = ["=", "!=", "<", "<=", ">", ">=", "starts_with", "contains"]


@pytest.mark.parametrize("column", ["title", "meta.a"])
@pytest.mark.parametrize("operator", _COMPARED)
def test_every_text_against_every_text(server: Server, operator: Any, column: str) -> None:
    found = _rows_of_texts(TEXTS)
    server.fill(found)
    for text in TEXTS:
        clause = Clause(column=column, operator=operator, value=text)
        sql = compile_sql(clause, TABLE, column_sql, POSTGRES)
        wanted = {row["id"] for row in found if matches(clause, row)}
        if sql.exact:
            assert server.selected(sql) == wanted, repr(text)
        else:
            assert len(text) > 1_000
            assert wanted <= server.selected(sql)


@pytest.mark.parametrize("column", ["title", "meta.a"])
def test_patterns_of_ascii_are_exact_over_all_of_unicode(server: Server, column: str) -> None:
    every = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    chunks = ["".join(every[i : i + 4_000]) for i in range(0, len(every), 4_000)]
    folding = [c for c in every if fold_case(c).isascii()]
    found = _rows_of_texts([*folding, *chunks])
    server.fill(found)
    for character in map(chr, range(1, 128)):
        pattern = "\\" + character if character in "\\%_" else character
        for where in (_field(column).ilike(pattern), _field(column).ilike(f"%{pattern}%")):
            sql = compiled(where)
            assert sql.exact
            bound = bind(parse_filter(where), TABLE)
            assert server.selected(sql) == {row["id"] for row in found if matches(bound, row)}, repr(
                character
            )


def test_long_lists_travel_as_one_parameter(server: Server) -> None:
    texts = [*TEXTS[::2], *(f"{i}'\"\\" for i in range(9_000))]
    found = _rows_of_texts(TEXTS)
    for where in (t("title").in_(texts), ~t("title").in_(texts), t("meta")["a"].not_in(texts)):
        sql = check(server, found, where)
        assert len(sql.params) <= 2
        assert sql.exact


_INDEXES = {"tags": "r_tags", "meta": "r_meta"}


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (t("tags").contains("x"), "tags"),
        (t("meta")["a"] == "x", "meta"),
        (t("meta")["a"].in_(["x", 1]), "meta"),
        (t("meta")["a"][0] == 5, "meta"),
        (t("meta")["a"].contains(5), "meta"),
    ],
)
def test_inverted_indexes_serve(server: Server, where: Any, index: str) -> None:
    server.execute("CREATE INDEX IF NOT EXISTS r_tags ON r USING gin (tags)")
    server.execute("CREATE INDEX IF NOT EXISTS r_meta ON r USING gin (meta)")
    assert f"Bitmap Index Scan on {_INDEXES[index]}" in server.plan(compiled(where, table=INDEXED))

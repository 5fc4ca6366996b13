"""Definitions: created, changed and dropped in steps that survive crashes and other processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.conftest import Engine
from vectable.core.context import LOCAL
from vectable.core.schema import Table
from vectable.engine.definitions import describe
from vectable.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    TableNotFound,
    UnknownColumn,
)
from vectable.interfaces import SchemaChange

COLUMNS = {"title": "string", "stars": {"type": "int", "nullable": False, "default": 0}}


async def test_a_table_is_described_as_it_was_created(engine: Engine) -> None:
    columns = {**COLUMNS, "emb": {"type": "vector", "dimensions": 3, "metric": "dot"}}
    described = describe(await engine.catalog.create(LOCAL, "library.books", columns))
    assert described["namespace"] == "library"
    assert described["name"] == "books"
    assert described["key"] == ["id"]
    assert described["columns"] == {
        "id": {"type": "string", "nullable": False},
        "title": {"type": "string", "nullable": True},
        "stars": {"type": "int", "nullable": False, "default": 0},
        "emb": {"type": "vector", "nullable": True, "dimensions": 3, "metric": "inner_product"},
    }
    assert described["created_at"].endswith("Z")


async def test_a_name_is_taken_once(engine: Engine) -> None:
    first = await engine.catalog.create(LOCAL, "t", COLUMNS)
    with pytest.raises(AlreadyExists):
        await engine.catalog.create(LOCAL, "t", COLUMNS)
    assert (await engine.catalog.create(LOCAL, "t", COLUMNS, if_exists="ok")).id == first.id


async def test_of_two_creators_at_once_one_wins(engine: Engine) -> None:
    other = engine.again()
    outcomes = await asyncio.gather(
        *(e.catalog.create(LOCAL, "t", COLUMNS) for e in (engine, other)), return_exceptions=True
    )
    assert {type(o) for o in outcomes} == {Table, AlreadyExists}


async def test_a_misspelt_table_says_what_exists(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "code_layouts", COLUMNS)
    with pytest.raises(TableNotFound, match="did you mean 'code_layouts'"):
        await engine.catalog.get(LOCAL, "code_layout")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a b": "string"}, "cannot name a column"),
        ({"a": "text"}, "unknown type"),
        ({"a": {"type": "int", "defualt": 1}}, "did you mean 'default'"),
        ({"a": {"type": "int", "default": "x"}}, "expected an integer"),
        ({"a": {"type": "vector"}}, "needs dimensions"),
        ({"a": {"type": "vector", "dimensions": 0}}, "needs dimensions"),
        ({"a": {"type": "vector", "dimensions": 3, "metric": "hamming"}}, "unknown metric"),
        ({"a": {"type": "string", "dimensions": 3}}, "only vector columns"),
        ({"score": "float"}, "choose another"),
        ({"a": 3}, "give a type"),
    ],
)
async def test_a_bad_column_is_refused_precisely(engine: Engine, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await engine.catalog.create(LOCAL, "t", columns)
    assert await engine.catalog.list(LOCAL) == []


async def test_keys_of_several_parts_are_never_null(engine: Engine) -> None:
    table = await engine.catalog.create(
        LOCAL, "t", {"a": "string", "b": "int", "c": "string"}, key=["a", "b"]
    )
    assert [c.name for c in table.key_columns] == ["a", "b"]
    assert [c.nullable for c in table.columns] == [False, False, True]
    with pytest.raises(InvalidInput, match="cannot be part of a key"):
        await engine.catalog.create(LOCAL, "u", {"a": "json"}, key=["a"])


async def test_renaming_keeps_rows_and_frees_the_name(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x"}])
    await engine.catalog.rename(LOCAL, "t", "other.u")
    assert await engine.rows("other.u") == [{"id": "a", "title": "x", "stars": 0}]
    with pytest.raises(TableNotFound):
        await engine.catalog.get(LOCAL, "t")
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    with pytest.raises(AlreadyExists):
        await engine.catalog.rename(LOCAL, "t", "other.u")


async def test_a_dropped_table_comes_back_empty(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": "a"}])
    await engine.catalog.drop(LOCAL, "t")
    with pytest.raises(TableNotFound):
        await engine.catalog.drop(LOCAL, "t")
    await engine.catalog.drop(LOCAL, "t", missing_ok=True)
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    assert await engine.rows("t") == []


async def test_columns_are_added_renamed_and_dropped_under_rows(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "title": "x", "stars": 3}])
    await engine.catalog.add_columns(LOCAL, "t", {"lang": "string", "n": {"type": "int", "default": 7}})
    await engine.catalog.rename_column(LOCAL, "t", "title", "heading")
    await engine.catalog.drop_columns(LOCAL, "t", ["stars"])
    assert await engine.rows("t") == [{"id": "a", "heading": "x", "lang": None, "n": 7}]
    with pytest.raises(UnknownColumn):
        await engine.catalog.drop_columns(LOCAL, "t", ["stars"])


async def test_a_required_column_needs_a_default_once_there_are_rows(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.catalog.add_columns(LOCAL, "t", {"early": {"type": "int", "nullable": False}})
    await engine.writer.insert(LOCAL, "t", [{"id": "a", "early": 1}])
    with pytest.raises(InvalidInput, match="may not be null"):
        await engine.catalog.add_columns(LOCAL, "t", {"late": {"type": "int", "nullable": False}})


async def test_what_an_embedding_is_made_from_cannot_be_dropped_first(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await engine.columns.add(LOCAL, "t", "emb", source_column="title")
    with pytest.raises(Conflict, match="made from"):
        await engine.catalog.drop_columns(LOCAL, "t", ["title"])
    await engine.catalog.drop_columns(LOCAL, "t", ["title", "emb"])
    with pytest.raises(InvalidInput, match="part of the key"):
        await engine.catalog.drop_columns(LOCAL, "t", ["id"])


async def test_another_process_sees_a_change_at_its_next_call(engine: Engine) -> None:
    other = engine.again()
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    await other.catalog.get(LOCAL, "t")
    await engine.catalog.add_columns(LOCAL, "t", {"lang": "string"})
    assert (await other.catalog.get(LOCAL, "t")).column("lang").name == "lang"
    # …and a writer that still has the old definition in hand is told, reloads and succeeds.
    await other.writer.insert(LOCAL, "t", [{"id": "a", "lang": "Go"}])
    assert (await other.rows("t"))[0]["lang"] == "Go"


async def test_changes_made_at_once_are_all_kept(engine: Engine) -> None:
    await engine.catalog.create(LOCAL, "t", COLUMNS)
    engines = [engine, engine.again(), engine.again()]
    await asyncio.gather(
        *(e.catalog.add_columns(LOCAL, "t", {f"c{i}": "int"}) for i, e in enumerate(engines))
    )
    names = {c.name for c in (await engine.catalog.get(LOCAL, "t")).columns}
    assert {"c0", "c1", "c2"} <= names


class _CrashError(Exception):
    pass


@pytest.mark.parametrize("after_storage", [False, True])
@pytest.mark.parametrize("step", ["create", "add", "drop"])
async def test_a_crash_between_record_and_storage_is_finished_by_the_next(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, step: str, after_storage: bool
) -> None:
    if step != "create":
        await engine.catalog.create(LOCAL, "t", COLUMNS)
    alter = engine.backend.alter

    async def crash(table: Table, change: SchemaChange) -> None:
        if after_storage:
            await alter(table, change)
        raise _CrashError

    with monkeypatch.context() as patch:
        patch.setattr(engine.backend, "alter", crash)
        attempt = {
            "create": lambda: engine.catalog.create(LOCAL, "t", COLUMNS),
            "add": lambda: engine.catalog.add_columns(LOCAL, "t", {"lang": "string"}),
            "drop": lambda: engine.catalog.drop(LOCAL, "t"),
        }[step]
        with pytest.raises(_CrashError):
            await attempt()
    survivor = engine.again()
    if step == "drop":
        with pytest.raises(TableNotFound):
            await survivor.catalog.get(LOCAL, "t")
        return
    row = {"id": "a", "title": "x"} | ({"lang": "Go"} if step == "add" else {})
    await survivor.writer.insert(LOCAL, "t", [row])
    assert len(await survivor.rows("t")) == 1

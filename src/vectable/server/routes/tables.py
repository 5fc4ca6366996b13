"""Tables: created, listed, described, changed, dropped."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from vectable.core.context import Context
from vectable.core.query import DEFAULT_LIMIT, MAX_LIMIT
from vectable.core.schema import Table, check_name
from vectable.engine.definitions import describe
from vectable.errors import InvalidCursor, InvalidInput
from vectable.server.answers import answer, without_nulls
from vectable.server.models.tables import (
    Columns,
    ColumnSpec,
    CreateTable,
    PatchTable,
    TableDescription,
    TablesResponse,
)
from vectable.server.routing import Route, check_table, context_of, database_of, passage_of, writes
from vectable.server.spec import TableName, examples, responses

if TYPE_CHECKING:
    from vectable.engine.catalog import Catalog

router = APIRouter(prefix="/api/v1/tables", tags=["tables"], route_class=Route)
EXAMPLE = {
    "name": "layouts",
    "namespace": "main",
    "id": "5f0c9b7e2a7d4d3b9c1e8f6a0b2d4c6e",
    "key": ["id"],
    "columns": {
        "id": {"type": "string", "nullable": False},
        "title": {"type": "string", "nullable": True},
        "teaches": {"type": "string", "nullable": True},
        "language": {"type": "string", "nullable": True},
        "stars": {"type": "int", "nullable": False, "default": 0},
        "colour": {"type": "vector", "nullable": True, "dimensions": 3, "metric": "cosine"},
    },
    "indexes": [],
    "created_at": "2026-01-31T12:00:00.000Z",
}


def _plain(columns: Columns) -> dict[str, Any]:
    """Columns as the catalogue takes them: only the options that were given."""
    return {
        name: spec.model_dump(exclude_unset=True, exclude_none=True) if isinstance(spec, ColumnSpec) else spec
        for name, spec in columns.items()
    }


@router.post(
    "",
    status_code=201,
    summary="Create a table",
    responses=responses(TableDescription, EXAMPLE, status=201, refuses=(409,), body=True),
)
@writes
async def create_table(
    request: Request,
    body: Annotated[
        CreateTable,
        examples(
            usual={
                "name": "layouts",
                "columns": {
                    "title": "string",
                    "teaches": "string",
                    "language": "string",
                    "stars": {"type": "int", "nullable": False, "default": 0},
                    "tags": "string[]",
                    "colour": {"type": "vector", "dimensions": 3, "metric": "cosine"},
                },
            },
            key_of_two_columns={
                "name": "sales.visits",
                "columns": {"site": "string", "at": "timestamp", "seconds": "float"},
                "key": ["site", "at"],
            },
        ),
    ],
) -> Response:
    """A new table. Its key is `id: string` unless `key` names columns."""
    check_table(request, body.name)
    table = await database_of(request).catalog.create(
        context_of(request), body.name, _plain(body.columns), body.key
    )
    return answer(describe(table), 201)


@router.get(
    "",
    summary="List tables",
    responses=responses(TablesResponse, {"tables": [EXAMPLE]}),
)
async def list_tables(
    request: Request,
    namespace: Annotated[
        str | None, Query(description="Only this namespace's tables.", examples=["main"])
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Tables a page.", examples=[20])
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="Where the page before ended.", examples=["bWFpbi5sYXlvdXRz"])
    ] = None,
) -> Response:
    """Tables by namespace and name, a page at a time."""
    if namespace is not None:
        check_name(namespace, "namespace")
    caller = passage_of(request).caller
    listed = await database_of(request).catalog.list(context_of(request), namespace)
    tables = [table for table in listed if caller.reaches(table.full_name)]
    if cursor is not None:
        after = _read_cursor(cursor)
        tables = [t for t in tables if _position(t) > after]
    more = len(tables) > limit
    page = tables[:limit]
    found = {
        "tables": [describe(t) for t in page],
        "next_cursor": _cursor(page[-1]) if more else None,
    }
    return answer(without_nulls(found, "next_cursor"))


def _position(table: Table) -> tuple[str, str]:
    return (table.namespace, table.name)


def _cursor(table: Table) -> str:
    return base64.urlsafe_b64encode(".".join(_position(table)).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        namespace, name = text.split(".")
    except (binascii.Error, ValueError):
        raise InvalidCursor("this is not a cursor of this list", hint="use next_cursor of a page") from None
    return namespace, name


@router.get(
    "/{table}",
    summary="Describe a table",
    responses=responses(TableDescription, EXAMPLE, refuses=(404,)),
)
async def describe_table(request: Request, table: TableName) -> Response:
    """The table's columns, key and indexes."""
    return answer(describe(await database_of(request).catalog.get(context_of(request), table)))


@router.patch(
    "/{table}",
    summary="Change a table",
    responses=responses(TableDescription, EXAMPLE, refuses=(404, 409), body=True),
)
async def patch_table(
    request: Request,
    table: TableName,
    body: Annotated[
        PatchTable,
        examples(
            rename={"rename": "patterns"},
            columns={"add_columns": {"author": "string"}, "drop_columns": ["tags"]},
        ),
    ],
) -> Response:
    """Adds columns, drops columns, renames, in this order; each step alone is all or nothing."""
    if body.rename is None and not body.add_columns and not body.drop_columns:
        raise InvalidInput("nothing to change", hint="give rename, add_columns or drop_columns")
    if body.rename is not None:
        check_table(request, body.rename)
    catalog = database_of(request).catalog
    return answer(describe(await _patched(catalog, context_of(request), table, body)))


async def _patched(catalog: Catalog, context: Context, name: str, body: PatchTable) -> Table:
    table = await catalog.get(context, name)
    if body.add_columns:
        table = await catalog.add_columns(context, name, _plain(body.add_columns))
    if body.drop_columns:
        table = await catalog.drop_columns(context, name, body.drop_columns)
    if body.rename is not None:
        table = await catalog.rename(context, name, body.rename)
    return table


@router.delete(
    "/{table}",
    status_code=204,
    summary="Drop a table",
    responses=responses(None, status=204, description="Dropped.", refuses=(404,)),
)
async def drop_table(request: Request, table: TableName) -> Response:
    """Removes the table with its rows, vectors and indexes."""
    await database_of(request).catalog.drop(context_of(request), table)
    return Response(status_code=204)

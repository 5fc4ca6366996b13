"""Embedding columns: added, listed with the states of their cells, refreshed, dropped."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.core.schema import Column, Table
from vectable.errors import NotFound, did_you_mean
from vectable.server.answers import answer, without_nulls
from vectable.server.embedding import with_model
from vectable.server.models.tables import (
    AddEmbeddingColumn,
    ComputedColumnsResponse,
    EmbeddingColumnAdded,
    RefreshRequest,
    RefreshResponse,
)
from vectable.server.routing import Route, context_of, database_of, writes
from vectable.server.spec import EXAMPLE_JOB, EXAMPLE_MODEL, ColumnName, TableName, examples, responses

router = APIRouter(prefix="/api/v1/tables/{table}/columns/computed", tags=["columns"], route_class=Route)
_ADDED = {
    "column_name": "teaches_embedding",
    "type": "embedding",
    "dimensions": 384,
    "model": EXAMPLE_MODEL,
    "source": "teaches",
}
_STATES = {"ready": 9990, "new": 0, "stale": 4, "error": 1, "empty": 5, "in_progress": 0}


def _facts(column: Column) -> dict[str, Any]:
    embedding = column.embedding
    return {
        "column_name": column.name,
        "type": "embedding",
        "dimensions": column.version.dimensions,
        "model": embedding.model if embedding else None,
        "source": (embedding.source or embedding.template) if embedding else None,
    }


def _computed(table: Table, name: str) -> Column:
    """The embedding column of that name. Raises NotFound: here it is part of the path."""
    computed = {c.name: c for c in table.vector_columns if c.embedding is not None}
    if name not in computed:
        raise NotFound(
            f"table {table.full_name!r} has no embedding column {name!r}",
            hint=did_you_mean(name, computed, "embedding columns"),
        )
    return computed[name]


@router.post(
    "/embedding",
    status_code=201,
    summary="Add an embedding column",
    responses=responses(
        EmbeddingColumnAdded, {**_ADDED, "job": EXAMPLE_JOB}, status=201, refuses=(404, 409, 422), body=True
    ),
)
@writes
async def add_embedding_column(
    request: Request,
    table: TableName,
    body: Annotated[
        AddEmbeddingColumn,
        examples(
            of_one_column={"name": "teaches_embedding", "source_column": "teaches"},
            of_a_template={
                "name": "text_embedding",
                "template": "{title}\n{teaches}",
                "model": EXAMPLE_MODEL,
                "metric": "cosine",
            },
        ),
    ],
) -> Response:
    """Declares a column the system fills and keeps true. Rows there already are embedded by `job`."""
    work = partial(
        database_of(request).columns.add,
        context_of(request),
        table,
        body.name,
        source_column=body.source_column,
        template=body.template,
        model=body.model,
        metric=body.metric,
        auto_update=body.auto_update,
        cache=body.cache,
    )
    _, column, job = await with_model(request, body.model, work)
    return answer(without_nulls({**_facts(column), "job": job}, "job"), 201)


@router.get(
    "",
    summary="List embedding columns",
    responses=responses(
        ComputedColumnsResponse,
        {"columns": [{**_ADDED, "metric": "cosine", "auto_update": True, "cache": True, "states": _STATES}]},
        refuses=(404,),
    ),
)
async def list_embedding_columns(request: Request, table: TableName) -> Response:
    """The table's embedding columns, and how many cells are in each state."""
    found = await database_of(request).columns.list(context_of(request), table)
    columns = [
        {
            **_facts(column),
            "metric": column.version.metric.value,
            "auto_update": column.embedding.auto_update,
            "cache": column.embedding.cache,
            "states": {name: states.get(name, 0) for name in _STATES},
        }
        for column, states in found
        if column.embedding is not None
    ]
    return answer({"columns": columns})


@router.delete(
    "/{name}",
    status_code=204,
    summary="Drop an embedding column",
    responses=responses(None, status=204, description="Dropped.", refuses=(404,)),
)
async def drop_embedding_column(request: Request, table: TableName, name: ColumnName) -> Response:
    """Removes the column with its vectors and indexes; cached vectors stay."""
    catalog = database_of(request).catalog
    context = context_of(request)
    _computed(await catalog.get(context, table), name)
    await catalog.drop_columns(context, table, [name])
    return Response(status_code=204)


@router.post(
    "/{name}/refresh",
    status_code=202,
    summary="Embed cells again",
    responses=responses(
        RefreshResponse, {"job": EXAMPLE_JOB, "matched": 12}, status=202, refuses=(404,), body=True
    ),
)
@writes
async def refresh(
    request: Request,
    table: TableName,
    name: ColumnName,
    body: Annotated[
        RefreshRequest | None,
        examples(
            what_failed={"errors_only": True},
            some_rows={"where": {"column": "language", "operator": "=", "value": "Go"}, "force": True},
        ),
    ] = None,
) -> Response:
    """Starts a job for the matching rows' cells that are not ready: `errors_only` for those that failed,
    `force` for all of them, computed anew."""
    asked = body or RefreshRequest()
    context = context_of(request)
    database = database_of(request)
    _computed(await database.catalog.get(context, table), name)
    job, matched = await database.refresher.refresh(
        context, table, name, where=asked.where, errors_only=asked.errors_only, force=asked.force
    )
    return answer({"job": job, "matched": matched}, 202)

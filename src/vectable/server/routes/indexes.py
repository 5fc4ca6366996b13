"""Indexes: vector and scalar ones, created, listed, dropped."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.server.answers import answer
from vectable.server.models.tables import (
    IndexesResponse,
    IndexState,
    ScalarIndexRequest,
    ScalarIndexResponse,
    VectorIndexRequest,
    VectorIndexResponse,
)
from vectable.server.routing import Route, context_of, database_of, writes
from vectable.server.spec import IndexName, TableName, examples, responses

router = APIRouter(prefix="/api/v1/tables/{table}/indexes", tags=["indexes"], route_class=Route)
_FIELDS = tuple(IndexState.model_fields)


@router.post(
    "/vector",
    status_code=201,
    summary="Create a vector index",
    responses=responses(
        VectorIndexResponse,
        {
            "index_name": "teaches_embedding_hnsw",
            "column": "teaches_embedding",
            "method": "hnsw",
            "status": "building",
        },
        status=201,
        refuses=(404, 409, 422),
        body=True,
    ),
)
@writes
async def create_vector_index(
    request: Request,
    table: TableName,
    body: Annotated[
        VectorIndexRequest,
        examples(
            hnsw={
                "column": "teaches_embedding",
                "method": "hnsw",
                "parameters": {"m": 32, "ef_construction": 200},
            },
            inverted_lists={"column": "colour", "method": "ivfflat", "parameters": {"lists": 100}},
        ),
    ],
) -> Response:
    """Builds an approximate index over the column's vectors. It serves once its recall is measured; until
    then, and without it, search is right all the same."""
    index, job = await database_of(request).indexer.create_vector(
        context_of(request), table, body.column, body.method, body.parameters, body.metric, body.name
    )
    found = {
        "index_name": index.name,
        "column": body.column,
        "method": body.method,
        "status": "ready" if job is None else "building",
    }
    return answer(found, 201)


@router.post(
    "/scalar",
    status_code=201,
    summary="Create a scalar index",
    responses=responses(
        ScalarIndexResponse,
        {"index_name": "stars_btree", "column": "stars", "type": "btree", "status": "ready"},
        status=201,
        refuses=(404, 409, 422),
        body=True,
    ),
)
@writes
async def create_scalar_index(
    request: Request,
    table: TableName,
    body: Annotated[ScalarIndexRequest, examples(ordered={"column": "stars", "type": "btree"})],
) -> Response:
    """An index on a column's values, for filters and sorting."""
    index = await database_of(request).indexer.create_scalar(
        context_of(request), table, body.column, body.type
    )
    found = {"index_name": index.name, "column": body.column, "type": body.type, "status": "ready"}
    return answer(found, 201)


@router.get(
    "",
    summary="List indexes",
    responses=responses(
        IndexesResponse,
        {
            "indexes": [
                {
                    "name": "teaches_embedding_hnsw",
                    "type": "vector",
                    "method": "hnsw",
                    "column": "teaches_embedding",
                    "status": "ready",
                    "recall": 0.9991,
                    "rows_covered": 100000,
                }
            ]
        },
        refuses=(404,),
    ),
)
async def list_indexes(request: Request, table: TableName) -> Response:
    """The table's indexes, with the recall measured for vector ones."""
    found = await database_of(request).indexer.list(context_of(request), table)
    return answer({"indexes": [{k: i[k] for k in _FIELDS if i.get(k) is not None} for i in found]})


@router.delete(
    "/{name}",
    status_code=204,
    summary="Drop an index",
    responses=responses(None, status=204, description="Dropped.", refuses=(404,)),
)
async def drop_index(request: Request, table: TableName, name: IndexName) -> Response:
    """Removes an index; searches go on without it."""
    await database_of(request).indexer.drop(context_of(request), table, name)
    return Response(status_code=204)

"""Reading by meaning and by filter: search, query, stream, count, explain."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from vectable.core.context import Context
from vectable.core.plan import Plan
from vectable.core.query import Query, Similar
from vectable.errors import InvalidInput, VectableError
from vectable.server.answers import VectorFormat, answer, to_json, without_nulls
from vectable.server.models.rows import (
    CountResponse,
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
)
from vectable.server.problems import problem_of, render
from vectable.server.routing import Route, context_of, database_of, log_defect
from vectable.server.spec import TableName, examples, responses

if TYPE_CHECKING:
    from vectable.engine.read import Reader, Result

router = APIRouter(prefix="/api/v1/tables/{table}", tags=["search"], route_class=Route)
_NDJSON = "application/x-ndjson"
_ROW = {"id": "a", "title": "Debounce a search box"}
_PLAN = {
    "path": "flat",
    "why": "10,000 rows are scanned exactly",
    "exact": True,
    "column": "teaches_embedding",
    "metric": "cosine",
    "rows_total": 10000,
    "rows_searchable": 9995,
    "rows_examined": 9995,
    "fallbacks": [],
    "times_ms": {"search": 0.4, "fetch": 0.2, "total": 0.8},
}
_QUERIES = {
    "filter_and_order": {
        "select": ["title", "stars"],
        "where": [
            {"column": "stars", "operator": ">=", "value": 7},
            {"op": "not", "arg": {"column": "language", "operator": "in", "value": ["Go", "Rust"]}},
        ],
        "order_by": ["-stars", "title"],
        "limit": 20,
    },
    "filter_as_text": {"where": {"sql": "stars >= ? and language = ?", "params": [7, "Go"]}},
    "nearest_to_a_text": {
        "similar": {"column": "teaches_embedding", "to": "react hooks", "threshold": 0.3},
        "limit": 10,
    },
}


@router.post(
    "/search/similarity",
    summary="Search by similarity",
    responses=responses(
        SearchResponse,
        {
            "results": [{"data": _ROW, "score": 0.83, "distance": 0.17}],
            "query_embedding": [0.12, -0.07, 0.31],
            "search_time_ms": 0.9,
            "coverage": {"rows": 10000, "searchable": 9995},
        },
        refuses=(404, 422),
        body=True,
    ),
)
async def search(
    request: Request,
    table: TableName,
    body: Annotated[
        SearchRequest,
        examples(
            text={"query": "react hooks", "column": "teaches_embedding", "include_score": True},
            vector={
                "query": [0.8, 0.1, 0.1],
                "column": "colour",
                "limit": 5,
                "include_query_embedding": False,
            },
            filtered={
                "query": "parse dates",
                "column": "teaches_embedding",
                "filters": [{"column": "stars", "operator": ">=", "value": 7}],
                "threshold": 0.3,
                "explain": True,
            },
        ),
    ],
) -> Response:
    """The rows nearest to a text, an image or a vector, best first: always `min(limit, matching)` of them."""
    started = time.perf_counter()
    similar = Similar(column=body.column, to=body.query, threshold=body.threshold, exact=body.exact)
    query = Query(
        select=None if body.select is None else tuple(body.select),
        where=body.filters,
        similar=similar,
        limit=body.limit,
    )
    found = await database_of(request).reader.query(context_of(request), table, query)
    content: dict[str, Any] = {
        "results": _hits(found) if body.include_score else [{"data": row} for row in found.rows],
        "query_embedding": found.query_vector if body.include_query_embedding else None,
        "search_time_ms": round((time.perf_counter() - started) * 1000, 3),
        "coverage": {"rows": found.coverage[0], "searchable": found.coverage[1]},
    }
    if body.explain:
        content["plan"] = found.plan.model_dump()
    return answer(content, vectors=body.encoding_format)


def _hits(found: Result) -> list[dict[str, Any]]:
    scored = zip(found.rows, found.scores or (), found.distances or (), strict=True)
    return [{"data": row, "score": score, "distance": distance} for row, score, distance in scored]


def _rows(found: Result) -> list[dict[str, Any]]:
    """The rows; with similarity each has its score."""
    if found.scores is None:
        return found.rows
    return [{**row, "score": score} for row, score in zip(found.rows, found.scores, strict=True)]


@router.post(
    "/query",
    summary="Query rows",
    responses=responses(
        QueryResponse, {"rows": [_ROW], "next_cursor": "eyJrIjoiYSJ9"}, refuses=(404, 409, 422), body=True
    ),
)
async def query_rows(
    request: Request, table: TableName, body: Annotated[QueryRequest, examples(**_QUERIES)]
) -> Response:
    """A page of rows: filtered, ordered, or nearest to something. `next_cursor` leads to the next page."""
    found = await database_of(request).reader.query(context_of(request), table, body)
    content = without_nulls({"rows": _rows(found), "next_cursor": found.next_cursor}, "next_cursor")
    return answer(content, vectors=body.encoding_format)


@router.post(
    "/query/count",
    summary="Count rows",
    responses=responses(CountResponse, {"count": 4711}, refuses=(404, 422), body=True),
)
async def count_rows(
    request: Request, table: TableName, body: Annotated[QueryRequest, examples(**_QUERIES)]
) -> Response:
    """How many rows match, whatever the limit."""
    return answer({"count": await database_of(request).reader.count(context_of(request), table, body)})


@router.post(
    "/query/explain",
    summary="Explain a query",
    responses=responses(Plan, _PLAN, refuses=(404, 409, 422), body=True),
)
async def explain_query(
    request: Request, table: TableName, body: Annotated[QueryRequest, examples(**_QUERIES)]
) -> Response:
    """Runs the query and tells how it was answered: the path taken, why, rows examined, times."""
    plan = await database_of(request).reader.explain(context_of(request), table, body)
    return answer(plan.model_dump())


@router.post(
    "/query/stream",
    summary="Stream rows",
    response_class=StreamingResponse,
    responses={
        **responses(None, refuses=(404, 409, 422), body=True),
        200: {
            "description": "Every matching row, one JSON object a line. When something goes wrong midway, "
            'the last line is {"error": …}, a problem.',
            "content": {
                _NDJSON: {
                    "schema": {"type": "string"},
                    "example": '{"id":"a","title":"Debounce"}\n{"id":"b","title":"Throttle"}\n',
                }
            },
        },
    },
)
async def stream_rows(
    request: Request, table: TableName, body: Annotated[QueryRequest, examples(**_QUERIES)]
) -> Response:
    """Matching rows as NDJSON, in memory that does not grow with their number."""
    if body.cursor is not None:
        raise InvalidInput("a stream has no pages", hint="leave out cursor")
    context = context_of(request, unbounded=True)
    pages = _pages(database_of(request).reader, context, table, body)
    first = await anext(pages, None)
    lines = _lines(first, pages, body.encoding_format, context.request_id or "")
    return StreamingResponse(lines, media_type=_NDJSON)


def _pages(reader: Reader, context: Context, table: str, body: QueryRequest) -> AsyncIterator[Result]:
    return reader.stream(context, table, body)


async def _lines(
    first: Result | None, pages: AsyncIterator[Result], vectors: VectorFormat, request_id: str
) -> AsyncIterator[bytes]:
    page = first
    try:
        while page is not None:
            yield b"".join(to_json(row, vectors) + b"\n" for row in _rows(page))
            page = await anext(pages, None)
    except VectableError as error:
        yield render({"error": problem_of(error, request_id)}) + b"\n"
    except Exception as error:
        yield render({"error": log_defect(error, request_id)}) + b"\n"

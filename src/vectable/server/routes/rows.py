"""Rows: inserted from JSON or streams, read by key, updated, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import unquote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from vectable.core.context import Context
from vectable.core.key import url_parts
from vectable.errors import InvalidInput, VectableError
from vectable.ingest import MEDIA_TYPES
from vectable.ingest.strict_json import parse_json
from vectable.server.answers import answer, without_nulls
from vectable.server.limits import drain, read_body
from vectable.server.models.rows import (
    DeleteRequest,
    DeleteResponse,
    InsertRequest,
    InsertResponse,
    OnConflict,
    UpdateRequest,
    UpdateResponse,
)
from vectable.server.repeats import Fingerprint, key_of
from vectable.server.routing import (
    Route,
    check_encoding,
    checked_body,
    context_of,
    database_of,
    is_json,
    limits_of,
    media_type_of,
    once,
    reads_its_body,
    unsupported_media_type,
)
from vectable.server.spec import Format, TableName, examples, responses
from vectable.server.uploads import row_batches

if TYPE_CHECKING:
    from vectable.core.rows import InsertResult

router = APIRouter(prefix="/api/v1/tables/{table}/rows", tags=["rows"], route_class=Route)
_DRAIN = 16 << 20
_WHERE = {"column": "language", "operator": "=", "value": "Go"}
_INSERTED = {
    "ids": ["a", "b"],
    "inserted": 2,
    "replaced": 0,
    "skipped": 0,
    "pending": 0,
    "errors": 0,
}
_BODIES: dict[str, Any] = {
    "application/json": {
        "schema": {"$ref": "#/components/schemas/InsertRequest"},
        "examples": {
            "two_rows": {
                "summary": "two rows",
                "value": {"rows": [{"id": "a", "title": "Debounce"}, {"id": "b", "title": "Throttle"}]},
            },
            "replace": {
                "summary": "replace what is there",
                "value": {"rows": [{"id": "a", "stars": 7}], "on_conflict": "replace"},
            },
        },
    },
    "application/x-ndjson": {
        "schema": {"type": "string", "description": "One JSON object a line."},
        "example": '{"id": "a", "title": "Debounce"}\n{"id": "b", "title": "Throttle"}\n',
    },
    "text/csv": {
        "schema": {"type": "string", "description": "A header of column names; an empty cell is null."},
        "example": "id,title,language,stars\na,Debounce,Go,7\nb,Throttle,,4\n",
    },
    "application/vnd.apache.parquet": {
        "schema": {"type": "string", "format": "binary"},
        "example": "(the content of a file)",
    },
    "application/vnd.apache.arrow.stream": {
        "schema": {"type": "string", "format": "binary"},
        "example": "(an Arrow IPC stream)",
    },
}


def _inserted(result: InsertResult) -> Response:
    counts = {name: getattr(result, name) for name in (*_INSERTED, "job")}
    return answer(without_nulls(counts, "job"), 201)


@router.post(
    "",
    status_code=201,
    summary="Insert rows",
    responses=responses(InsertResponse, _INSERTED, status=201, refuses=(404, 409, 422), body=True),
    openapi_extra={"requestBody": {"required": True, "content": _BODIES}},
)
@reads_its_body
async def insert_rows(
    request: Request,
    table: TableName,
    on_conflict: Annotated[
        OnConflict | None,
        Query(description="For streams; a JSON body says it itself.", examples=["replace"]),
    ] = None,
) -> Response:
    """Inserts up to 10,000 rows from JSON, all or none; or any number from NDJSON, CSV, Parquet or an Arrow
    stream, batch by batch. When a row of a stream is bad, the problem's `context` tells its position (`row`)
    and how many rows before it were kept (`inserted`)."""
    check_encoding(request)
    media_type = media_type_of(request)
    if is_json(media_type):
        body = await read_body(request, limits_of(request).max_body)
        fingerprint, work = Fingerprint(request, body), _insert_json(request, table, body, on_conflict)
    elif media_type in MEDIA_TYPES:
        fingerprint = Fingerprint(request)
        chunks = cast(AsyncIterator[bytes], fingerprint.chunks)
        work = _insert_stream(request, table, chunks, media_type, on_conflict or "error")
    else:
        known = ", ".join(t for t in _BODIES)
        raise unsupported_media_type(media_type, f"one of {known}")
    key = key_of(request)
    return await (work() if key is None else once(request, key, fingerprint, work))


Work = Callable[[], Coroutine[Any, Any, Response]]


def _insert_json(request: Request, table: str, body: bytes, on_conflict: OnConflict | None) -> Work:
    async def work() -> Response:
        asked = checked_body(InsertRequest, parse_json(body))
        if on_conflict not in (None, asked.on_conflict) and "on_conflict" in asked.model_fields_set:
            raise InvalidInput("on_conflict says one thing in the path and another in the body")
        result = await database_of(request).writer.insert(
            context_of(request, writing=True),
            table,
            asked.rows,
            on_conflict=on_conflict or asked.on_conflict,
        )
        return _inserted(result)

    return work


def _insert_stream(
    request: Request, table: str, chunks: AsyncIterator[bytes], media_type: str, on_conflict: OnConflict
) -> Work:
    async def work() -> Response:
        seen = 0

        def progress(done: int, _: int) -> None:
            nonlocal seen
            seen = done

        database = database_of(request)
        context = context_of(request, writing=True, unbounded=True)
        try:
            definition = await database.catalog.get(context, table)
            batches = row_batches(chunks, MEDIA_TYPES[media_type], definition)
            result = await database.writer.insert_stream(
                context, table, batches, on_conflict=on_conflict, progress=progress
            )
        except VectableError as error:
            error.context.setdefault("inserted", seen)
            await drain(chunks, _DRAIN)
            raise
        return _inserted(result)

    return work


_ROW: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The row.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "title": "Row", "additionalProperties": True},
                "example": {"id": "a", "title": "Debounce", "stars": 7},
            }
        },
    }
}
Selected = Annotated[
    list[str] | None,
    Query(
        description='Columns; "*" is every column that is not a vector. May be repeated.',
        examples=[["title", "stars"]],
    ),
]


@router.get(
    "", summary="Get a row whose key no path can carry", responses=responses(None, refuses=(404,)) | _ROW
)
async def get_row_by_parameter(
    request: Request,
    table: TableName,
    id: Annotated[
        list[str],
        Query(
            description="The key; repeated for the parts of a key of several columns.",
            min_length=1,
            examples=[["a"]],
        ),
    ],
    select: Selected = None,
    encoding_format: Format = "float",
) -> Response:
    """One row by its key, as `…/rows/{id}` gives it. For the keys `.` and `..`: in a path clients and proxies
    take them, percent-encoded too, for steps between folders."""
    return await _row(request, table, id, select, encoding_format)


@router.get("/{id:path}", summary="Get a row", responses=responses(None, refuses=(404,)) | _ROW)
async def get_row(
    request: Request,
    table: TableName,
    id: Annotated[
        str,
        Path(
            description="The key, percent-encoded; the parts of a key of several columns joined by commas. "
            "The keys `.` and `..` are asked for as `…/rows?id=.`",
            examples=["a"],
        ),
    ],
    select: Selected = None,
    encoding_format: Format = "float",
) -> Response:
    """One row by its key."""
    key = await _key(request, database_of(request).catalog.get, context_of(request), table)
    return await _row(request, table, key, select, encoding_format)


async def _row(
    request: Request, table: str, key: list[str], select: list[str] | None, encoding_format: Format
) -> Response:
    columns = tuple(name for text in select for name in text.split(",")) if select else None
    row = await database_of(request).reader.get_row(context_of(request), table, key, columns)
    return answer(row, vectors=encoding_format)


async def _key(
    request: Request,
    get: Callable[[Context, str], Coroutine[Any, Any, Any]],
    context: Context,
    table: str,
) -> list[str]:
    """The key's parts as they were written, from the path before it was decoded: a slash or a comma within a
    part is percent-encoded there."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode("utf-8", "surrogatepass")
    segment = raw.decode("utf-8", "replace").partition("/rows/")[2]
    parts = len((await get(context, table)).key)
    return url_parts(segment) if parts > 1 else [unquote(segment)]


@router.patch(
    "",
    summary="Update rows",
    responses=responses(UpdateResponse, {"updated": 12}, refuses=(404, 409), body=True),
)
async def update_rows(
    request: Request,
    table: TableName,
    body: Annotated[
        UpdateRequest,
        examples(
            some={"where": _WHERE, "values": {"stars": 0}},
            every_row={"values": {"stars": 0}, "all": True},
        ),
    ],
) -> Response:
    """Sets values in every matching row; embedding columns follow."""
    updated = await database_of(request).writer.update(
        context_of(request), table, body.where, body.values, all=body.all
    )
    return answer({"updated": updated})


@router.delete(
    "",
    summary="Delete rows",
    responses=responses(DeleteResponse, {"deleted": 12}, refuses=(404, 409), body=True),
)
async def delete_rows(
    request: Request,
    table: TableName,
    body: Annotated[DeleteRequest, examples(some={"where": _WHERE}, every_row={"all": True})],
) -> Response:
    """Deletes every matching row."""
    deleted = await database_of(request).writer.delete(context_of(request), table, body.where, all=body.all)
    return answer({"deleted": deleted})

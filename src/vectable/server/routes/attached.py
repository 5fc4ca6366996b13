"""Tables that others own: attached, and let go of."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from vectable.engine.definitions import describe
from vectable.handles.attaching import attach
from vectable.server.answers import answer
from vectable.server.embedding import with_model
from vectable.server.models.tables import AttachedTable, AttachTable
from vectable.server.routes.tables import EXAMPLE
from vectable.server.routing import Route, context_of, database_of, writes
from vectable.server.spec import EXAMPLE_JOB, TableName, examples, responses

router = APIRouter(prefix="/api/v1/tables", tags=["tables"], route_class=Route)
_EXAMPLE = {
    **EXAMPLE,
    "attached": {"schema": "public", "table": "layouts"},
    "job": EXAMPLE_JOB,
}


@router.post(
    "/attach",
    status_code=201,
    summary="Attach a table that others own",
    responses=responses(AttachedTable, _EXAMPLE, status=201, refuses=(404, 409, 422), body=True),
)
@writes
async def attach_table(
    request: Request,
    body: Annotated[
        AttachTable,
        examples(
            a_column={"table": "products", "embed": "description"},
            a_template={
                "table": "products",
                "schema": "shop",
                "name": "goods",
                "embed": "{name}: {description}",
                "column": "meaning",
            },
        ),
    ],
) -> Response:
    """Enriches a table of the PostgreSQL database behind this server: nothing of it changes, its rows are
    searched as those of any table, and what anybody changes with SQL is noticed within seconds. `job` embeds
    the rows there are. Attached already, it gets what is missing."""
    work = partial(
        attach,
        database_of(request),
        context_of(request),
        body.table,
        embed=body.embed,
        model=body.model,
        name=body.name,
        column=body.column,
        metric=body.metric,
        schema=body.place,
        poll=body.poll,
        updated_at=body.updated_at,
    )
    table, job = await with_model(request, body.model, work)
    return answer({**describe(table), "job": job}, 201)


@router.post(
    "/{table}/detach",
    status_code=204,
    summary="Detach a table",
    responses=responses(None, status=204, description="Detached.", refuses=(404,)),
)
@writes
async def detach_table(request: Request, table: TableName) -> Response:
    """Lets go of an attached table: vectors, views and triggers of ours are removed, nothing of theirs."""
    await database_of(request).attacher.detach(context_of(request), table)
    return Response(status_code=204)

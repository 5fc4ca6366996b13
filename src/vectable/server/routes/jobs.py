"""Jobs: listed, watched, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from vectable.errors import JobNotFound
from vectable.server.answers import answer, to_json, without_nulls
from vectable.server.models.tables import JobsResponse, JobState
from vectable.server.routing import Route, context_of, database_of, passage_of, writes
from vectable.server.spec import EXAMPLE_JOB, JobId, responses

if TYPE_CHECKING:
    from vectable.engine.jobs import Job

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"], route_class=Route)
_HEARTBEAT_S = 15.0
_EXAMPLE = {
    "id": EXAMPLE_JOB,
    "kind": "backfill",
    "table": "layouts",
    "status": "running",
    "done": 4200,
    "total": 10000,
    "rate": 131.2,
    "eta_s": 44.2,
    "created_at": "2026-01-31T12:00:00.000Z",
}


def _state(job: Job) -> dict[str, Any]:
    return without_nulls(job.model_dump(), "error", "finished_at")


@router.get("", summary="List jobs", responses=responses(JobsResponse, {"jobs": [_EXAMPLE]}))
async def list_jobs(request: Request) -> Response:
    """Jobs still known, the newest first."""
    jobs = await database_of(request).jobs.list(context_of(request))
    caller = passage_of(request).caller
    return answer({"jobs": [_state(job) for job in jobs if caller.reaches(job.table)]})


@router.get("/{id}", summary="Show a job", responses=responses(JobState, _EXAMPLE, refuses=(404,)))
async def show_job(request: Request, id: JobId) -> Response:
    """How far a job is."""
    return answer(_state(await _job(request, id)))


async def _job(request: Request, id: str) -> Job:
    """The job of that id. Raises JobNotFound, also where the caller's key is not for its table."""
    job = await database_of(request).jobs.get(id)
    if not passage_of(request).caller.reaches(job.table):
        raise JobNotFound(f"there is no job {id[:100]!r}", hint="see /api/v1/jobs")
    return job


@router.post(
    "/{id}/cancel",
    summary="Cancel a job",
    responses=responses(
        JobState,
        {**_EXAMPLE, "status": "cancelled", "finished_at": "2026-01-31T12:00:31.000Z"},
        refuses=(404, 409),
    ),
)
@writes
async def cancel_job(request: Request, id: JobId) -> Response:
    """Asks a job to stop, wherever it runs. What it did stays; one that has ended stays as it is."""
    await _job(request, id)
    return answer(_state(await database_of(request).jobs.cancel(id)))


@router.get(
    "/{id}/events",
    summary="Watch a job",
    response_class=StreamingResponse,
    responses={
        **responses(None, refuses=(404,)),
        200: {
            "description": "Server-sent events: the job at every change, until it has ended.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'data: {"id":"8d7c…","status":"running","done":4200,"total":10000}\n\n',
                }
            },
        },
    },
)
async def watch_job(request: Request, id: JobId) -> Response:
    """The job as it is now, then at every change, as `text/event-stream`; ends when the job ends."""
    jobs = database_of(request).jobs
    await _job(request, id)
    passage_of(request).release()
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_events(jobs.events(id)), 200, headers, "text/event-stream")


async def _events(changes: AsyncIterator[Job]) -> AsyncIterator[bytes]:
    """Each change as an event, and a comment now and then, which shows that the connection lives."""
    coming: asyncio.Task[Job] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(changes))
            done, _ = await asyncio.wait([coming], timeout=_HEARTBEAT_S)
            if not done:
                yield b": still here\n\n"
                continue
            try:
                job = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield b"data: " + to_json(_state(job)) + b"\n\n"
    finally:
        if coming is not None:
            coming.cancel()

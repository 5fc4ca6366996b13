"""Bodies about rows, queries and searches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from vectable.core.plan import Plan
from vectable.core.predicate import Filter
from vectable.core.query import Query, Sought
from vectable.server.models.shapes import Body, EncodingFormat, Key, Row, VectorOut

OnConflict = Literal["error", "replace", "skip"]
MAX_ROWS = 10_000


class InsertRequest(Body):
    """Rows to insert: all of them or none."""

    rows: list[Row] = Field(max_length=MAX_ROWS)
    on_conflict: OnConflict = "error"


class InsertResponse(BaseModel):
    """`ids` in the order of the rows. `pending` cells are being embedded by `job`; `errors` cells failed."""

    ids: list[Key]
    inserted: int
    replaced: int
    skipped: int
    pending: int
    errors: int
    job: str | None = None


Where = Annotated[Filter | None, BeforeValidator(lambda given: None if given == {} else given)]
"""Which rows; absent, null, [] and {} are no filter."""


class UpdateRequest(Body):
    """New values for every row that matches. An absent or empty `where` needs `all: true`."""

    where: Where = None
    values: Row
    all: bool = False


class UpdateResponse(BaseModel):
    updated: int


class DeleteRequest(Body):
    """Which rows to delete. An absent or empty `where` needs `all: true`."""

    where: Where = None
    all: bool = False


class DeleteResponse(BaseModel):
    deleted: int


class QueryRequest(Query):
    """A query, and how vectors are written in the answer."""

    encoding_format: EncodingFormat = "float"


class QueryResponse(BaseModel):
    rows: list[Row] = Field(description="With `similar`, each row has `score`.")
    next_cursor: str | None = Field(default=None, description="Absent on the last page.")


class CountResponse(BaseModel):
    count: int


class SearchRequest(Body):
    """What to look for, and where. `threshold` is a minimum score, inclusive."""

    query: Sought
    column: str
    limit: int = Field(default=10, ge=0, le=10_000)
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    filters: Filter | None = None
    include_score: bool = False
    select: list[str] | None = None
    exact: bool = False
    explain: bool = False
    include_query_embedding: bool = True
    encoding_format: EncodingFormat = "float"


class SearchHit(BaseModel):
    data: Row
    score: float | None = Field(default=None, description="With `include_score`. Higher is better.")
    distance: float | None = Field(default=None, description="With `include_score`.")


class Coverage(BaseModel):
    """Rows the filter keeps, and how many of them have a vector to be found by."""

    rows: int
    searchable: int


class SearchResponse(BaseModel):
    results: list[SearchHit]
    query_embedding: VectorOut | None
    search_time_ms: float
    coverage: Coverage
    plan: Plan | None = Field(default=None, description="With `explain`.")


class HealthModels(BaseModel):
    text: str
    image: str | None


class HealthCache(BaseModel):
    size: int
    maxSize: int  # noqa: N815 - the contract's spelling
    hitRate: float  # noqa: N815


class Health(BaseModel):
    status: Literal["healthy"]
    uptime: float = Field(description="Seconds.")
    models: HealthModels
    cache: HealthCache

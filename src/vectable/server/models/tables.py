"""Bodies about tables and their columns, indexes and jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from vectable.core.predicate import Filter
from vectable.server.models.shapes import Body, Metric

TypeName = Literal[
    "string", "int", "float", "bool", "timestamp", "json", "string[]", "int[]", "float[]", "image", "vector"
]


class ColumnSpec(Body):
    """A column's type with options. `dimensions`, `metric`, `index` are a vector column's."""

    type: TypeName
    nullable: bool = True
    default: Any = None
    dimensions: int | None = Field(default=None, ge=1, le=16_384)
    metric: Metric | None = None
    dtype: Literal["float32"] | None = None
    index: Literal["auto", "none"] | None = Field(
        default=None, description='"none": similarity search on this column is always exact.'
    )


Columns = dict[str, TypeName | ColumnSpec]


class CreateTable(Body):
    """A new table. Without `key`, its key is `id: string`, which is added where not declared."""

    name: str = Field(description='"table" or "namespace.table".')
    columns: Columns
    key: Annotated[list[str], Field(min_length=1)] | None = None


class PatchTable(Body):
    """What to change, in this order: columns added, columns dropped, the table renamed."""

    rename: str | None = None
    add_columns: Columns | None = None
    drop_columns: list[str] | None = None


class EmbeddingDescription(BaseModel):
    model: str
    source: str | None = Field(description="The column it is computed from; null for a template.")
    template: str = Field(description="What is embedded: of one column, `{column}`.")
    auto_update: bool
    cache: bool


class ColumnDescription(BaseModel):
    type: TypeName
    nullable: bool
    default: Any = None
    dimensions: int | None = None
    metric: str | None = None
    embedding: EmbeddingDescription | None = None


class IndexName(BaseModel):
    name: str
    type: Literal["vector", "btree", "hash", "gin"]
    column: str
    method: str | None = None


class Attachment(BaseModel):
    """The table of others whose rows an attached one shows."""

    place: str = Field(alias="schema")
    table: str


class TableDescription(BaseModel):
    """A table's definition. `attached` is there where others own its rows."""

    name: str
    namespace: str
    id: str
    key: list[str]
    columns: dict[str, ColumnDescription]
    indexes: list[IndexName]
    created_at: str
    attached: Attachment | None = None


class AttachTable(Body):
    """A table of others, and what of it to embed."""

    table: str = Field(description='"table" or "schema.table", as PostgreSQL has it.')
    place: str | None = Field(
        default=None, alias="schema", description="Its schema; absent: public, or as `table` says."
    )
    name: str | None = Field(default=None, description="What it is called here; absent: the same.")
    embed: str | None = Field(
        default=None, description="A column, or a template over several.", examples=["{title}: {text}"]
    )
    model: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The server's text model, where absent."
    )
    column: str | None = Field(default=None, description="The embedding column; absent: SOURCE_embedding.")
    metric: Metric = "cosine"
    poll: bool = Field(default=False, description="Install no triggers: look for changes.")
    updated_at: str | None = Field(default=None, description="The column that tells when a row changed.")


class AttachedTable(TableDescription):
    job: str = Field(description="The job that embeds the rows there are.")


class TablesResponse(BaseModel):
    tables: list[TableDescription]
    next_cursor: str | None = Field(default=None, description="Absent on the last page.")


class AddEmbeddingColumn(Body):
    """An embedding column: made from `source_column`, or from `template` over several columns."""

    name: str
    source_column: str | None = None
    template: str | None = Field(default=None, examples=["{title}\n{teaches}"])
    model: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The server's text model, where absent."
    )
    metric: Metric = "cosine"
    auto_update: bool = True
    cache: bool = True


class EmbeddingColumnAdded(BaseModel):
    column_name: str
    type: Literal["embedding"]
    dimensions: int
    model: str
    source: str
    job: str | None = Field(default=None, description="The job that embeds the rows there are.")


class CellStates(BaseModel):
    """How many cells are in each state."""

    ready: int
    new: int
    stale: int
    error: int
    empty: int
    in_progress: int


class ComputedColumn(BaseModel):
    column_name: str
    type: Literal["embedding"]
    dimensions: int
    model: str
    source: str
    metric: str
    auto_update: bool
    cache: bool
    states: CellStates


class ComputedColumnsResponse(BaseModel):
    columns: list[ComputedColumn]


class RefreshRequest(Body):
    """Which cells to embed: those out of date, only those that failed, or (`force`) all that match."""

    where: Filter | None = None
    errors_only: bool = False
    force: bool = False


class RefreshResponse(BaseModel):
    job: str = Field(description="Also where nothing matched: then it ends at once.")
    matched: int


class VectorIndexRequest(Body):
    """A vector index. `parameters` are the method's: m, ef_construction, lists, …"""

    column: str
    method: Literal["hnsw", "ivfflat", "ivfpq", "flat"]
    parameters: dict[str, int | float | str | bool] | None = None
    metric: Metric | None = Field(default=None, description="Must be the column's.")
    name: str | None = Field(default=None, description="Made from column and method, where absent.")


class VectorIndexResponse(BaseModel):
    index_name: str
    column: str
    method: Literal["hnsw", "ivfflat", "ivfpq", "flat"]
    status: Literal["building", "ready"]


class ScalarIndexRequest(Body):
    column: str
    type: Literal["btree", "hash", "gin"]


class ScalarIndexResponse(BaseModel):
    index_name: str
    column: str
    type: Literal["btree", "hash", "gin"]
    status: Literal["building", "ready"]


class IndexState(BaseModel):
    """`recall` is measured recall@10; `rows_covered` how many rows are in the index."""

    name: str
    type: Literal["vector", "btree", "hash", "gin"]
    column: str
    status: Literal["building", "ready", "error"]
    method: Literal["hnsw", "ivfflat", "ivfpq", "flat"] | None = None
    recall: float | None = None
    rows_covered: int | None = None


class IndexesResponse(BaseModel):
    indexes: list[IndexState]


class JobState(BaseModel):
    """Long work. `rate` is items per second, `eta_s` seconds to the end; null while unknown."""

    id: str
    kind: str
    table: str
    status: Literal["queued", "running", "done", "error", "cancelled"]
    done: int
    total: int
    rate: float | None
    eta_s: float | None
    error: str | None = None
    created_at: str
    finished_at: str | None = None


class JobsResponse(BaseModel):
    jobs: list[JobState]

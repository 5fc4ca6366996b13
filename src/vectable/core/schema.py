"""Tables, columns, versions and indexes as immutable definitions. Names are aliases; ids are for ever."""

from __future__ import annotations

import re
import uuid
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from vectable.errors import InvalidInput, UnknownColumn, did_you_mean

DEFAULT_NAMESPACE = "main"
MAX_NAME_LENGTH = 63
MAX_COLUMNS = 1_000
MAX_DIMENSIONS = 16_384
_NAME = re.compile(r"[^\W\d]\w*", re.UNICODE)


class ColumnType(StrEnum):
    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    JSON = "json"
    STRINGS = "string[]"
    INTS = "int[]"
    FLOATS = "float[]"
    IMAGE = "image"
    VECTOR = "vector"


KEY_TYPES = frozenset({ColumnType.STRING, ColumnType.INT, ColumnType.TIMESTAMP})
ORDERED_TYPES = frozenset(
    {ColumnType.STRING, ColumnType.INT, ColumnType.FLOAT, ColumnType.BOOL, ColumnType.TIMESTAMP}
)
LIST_TYPES = {
    ColumnType.STRINGS: ColumnType.STRING,
    ColumnType.INTS: ColumnType.INT,
    ColumnType.FLOATS: ColumnType.FLOAT,
}


class Metric(StrEnum):
    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    INNER_PRODUCT = "inner_product"

    @classmethod
    def parse(cls, name: str) -> Metric:
        """`name` or one of its aliases (dot, dot_product, ip, l2). Raises InvalidInput for anything else."""
        found = _METRIC_ALIASES.get(name, name)
        try:
            return cls(found)
        except ValueError:
            known = ", ".join(m.value for m in cls)
            raise InvalidInput(f"unknown metric {name!r}", hint=f"known metrics: {known}") from None


_METRIC_ALIASES = {
    "dot": "inner_product",
    "dot_product": "inner_product",
    "ip": "inner_product",
    "l2": "euclidean",
}


def new_id() -> str:
    """An id for a table, column, version or index: 32 lower-case hex digits, never reused."""
    return uuid.uuid4().hex


def check_name(name: str, noun: str) -> str:
    """`name` if it may name a table, namespace, column or index: a letter or _, then letters, digits, _;
    at most 63 characters; not starting with two underscores (ours). Raises InvalidInput otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("__"):
        raise InvalidInput(
            f"{name!r} cannot name a {noun}",
            hint="a name starts with a letter or _ and goes on with letters, digits or _",
        )
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidInput(f"the {noun} name is {len(name)} characters long", hint="at most 63 are allowed")
    return name


def split_table_name(name: str) -> tuple[str, str]:
    """(namespace, table) of "table" or "namespace.table". Raises InvalidInput for anything else."""
    if not isinstance(name, str):
        raise InvalidInput(f"a table name is a string, not {type(name).__name__}")
    return _split_table_name(name)


@lru_cache(maxsize=1_024)
def _split_table_name(name: str) -> tuple[str, str]:
    parts = name.split(".")
    if len(parts) > 2:
        raise InvalidInput(f"{name!r} has more than one dot", hint="write table or namespace.table")
    namespace = parts[0] if len(parts) == 2 else DEFAULT_NAMESPACE
    return check_name(namespace, "namespace"), check_name(parts[-1], "table")


class Frozen(BaseModel):
    """Immutable value object; unknown fields are refused, so a misspelt field is an error, not ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(Frozen):
    """One generation of a vector column. `identity` (model and recipe bound at creation) is None for a column
    whose vectors are given by the user."""

    id: str = Field(default_factory=new_id)
    dimensions: int
    metric: Metric = Metric.COSINE
    identity: str | None = None
    prompt: str = ""
    """What the model's configuration puts before a document; part of every content key."""
    normalized: bool = False
    """True when every stored vector was normalised by us, because the model's own configuration says so."""


class Embedding(Frozen):
    """How a computed vector column is filled: `template` renders the row's text, e.g. "{title}\\n{teaches}";
    a plain source column is the template "{teaches}". `source` names that column, and is None for a template.
    `auto_update` false: rows written after the column was added are embedded by a refresh only, and until
    then a changed row is found by its old vector. `cache` false: the vector cache is not used."""

    model: str
    source: str | None
    template: str
    auto_update: bool = True
    cache: bool = True


class Column(Frozen):
    """`versions`/`active` are set only for vector columns; `embedding` only for computed ones."""

    id: str = Field(default_factory=new_id)
    name: str
    type: ColumnType
    nullable: bool = True
    default: Any = None
    embedding: Embedding | None = None
    versions: tuple[Version, ...] = ()
    active: str | None = None
    index: Literal["auto", "none"] = "auto"
    """"none": similarity search on this column is always exact."""

    @property
    def version(self) -> Version:
        """The active version. Raises InvalidInput for a column without vectors."""
        for version in self.versions:
            if version.id == self.active:
                return version
        raise InvalidInput(f"column {self.name!r} has no vectors", hint="name a vector or embedding column")

    @property
    def serves_stale(self) -> bool:
        """Whether outdated vectors of this column are served: those of an embedding nobody updates."""
        return self.embedding is not None and not self.embedding.auto_update


class Serving(Frozen):
    """What was measured of an index that the backend built, when it had `rows` rows: recall@10 overall
    (`recall`) and under the worst of several filters (`filtered`), each with its search effort and so many
    candidates compared exactly for 10 hits; recall@1000, the worst of both (`deep`)."""

    recall: float
    effort: int
    candidates: int
    filtered: float
    filtered_effort: int
    filtered_candidates: int
    deep: float
    rows: int


SCALAR_INDEXES = ("btree", "hash", "gin")


class Index(Frozen):
    """A scalar (btree, hash, gin) or vector (hnsw, ivfflat, ivfpq, flat) index; `version` is for vector
    ones. `serving` is set once an index that the backend builds may answer searches."""

    id: str = Field(default_factory=new_id)
    name: str
    column: str
    """The column's id."""
    type: Literal["vector", "btree", "hash", "gin"]
    method: Literal["hnsw", "ivfflat", "ivfpq", "flat"] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    version: str | None = None
    serving: Serving | None = None


class ForeignColumn(Frozen):
    """A column of a table that others own. `number` is the engine's own, and stays when they rename it."""

    name: str
    number: int
    type: str
    """The engine's name of its type, as it was when the table was attached."""
    stored: str = ""
    """Of a part of the key: the type it is kept as beside our key."""


class Foreign(Frozen):
    """The table that others own, whose rows an attached table shows. Nothing of it is ever changed."""

    place: str
    """The engine's namespace it is in."""
    name: str
    number: int
    """The engine's own, which stays when they rename it."""
    columns: dict[str, ForeignColumn]
    """By the id of our column."""
    watch: Literal["trigger", "poll"] = "trigger"
    """How changes are noticed: told within the transaction that makes them, where that is allowed; or only
    looked for."""
    updated_at: str | None = None
    """The id of a column that grows with every change of its row, where there is one."""


class Table(Frozen):
    """One table's definition. `generation` grows with every change of it; `key` holds column ids."""

    id: str = Field(default_factory=new_id)
    namespace: str = DEFAULT_NAMESPACE
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...] = ()
    generation: int = 1
    created_at: str = ""
    """RFC 3339, UTC."""
    foreign: Foreign | None = None
    """Set where others own the rows."""

    @property
    def full_name(self) -> str:
        """ "table" in the default namespace, else "namespace.table"."""
        return self.name if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}.{self.name}"

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key's columns in key order."""
        by_id = {c.id: c for c in self.columns}
        return tuple(by_id[i] for i in self.key)

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """Every column that is not a vector column (vectors live in cells)."""
        return tuple(c for c in self.columns if c.type is not ColumnType.VECTOR)

    @property
    def vector_columns(self) -> tuple[Column, ...]:
        """Vector columns: given by the user, or computed."""
        return tuple(c for c in self.columns if c.type is ColumnType.VECTOR)

    @property
    def versions(self) -> tuple[tuple[Column, Version], ...]:
        """Every live version with its column."""
        return tuple((c, v) for c in self.vector_columns for v in c.versions)

    def column(self, name: str) -> Column:
        """The column of that name. Raises UnknownColumn with a hint."""
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownColumn(
            f"table {self.full_name!r} has no column {name!r}",
            hint=did_you_mean(name, (c.name for c in self.columns), "columns"),
        )

    def vector_column(self, name: str) -> Column:
        """The vector column of that name. Raises UnknownColumn or InvalidInput with a hint."""
        column = self.column(name)
        if column.type is not ColumnType.VECTOR:
            known = ", ".join(c.name for c in self.vector_columns) or "none yet (add an embedding column)"
            raise InvalidInput(
                f"column {name!r} holds {column.type.value} values, not vectors",
                hint=f"vector columns: {known}",
            )
        return column

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes` and the next generation."""
        return self.model_copy(update={**changes, "generation": self.generation + 1})

"""What we need from outside: backends, models, indexes, bookkeeping. One screen; core's types only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vectable.core.key import KeyBytes
from vectable.core.mark import Mark
from vectable.core.model import ModelCard as ModelCard
from vectable.core.model import ModelIdentity as ModelIdentity
from vectable.core.predicate import Predicate
from vectable.core.query import OrderTerm
from vectable.core.recipe import Content
from vectable.core.rows import Receipt, RecordBatch, WriteBatch
from vectable.core.schema import Column, Index, Metric, Table, Version
from vectable.core.vectors import Matrix, Vector

Item = Content
"""What a model embeds: text, an encoded image, or the tokens of a text."""
Purpose = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, as data; the engine asks this, never which backend it is."""

    atomic_batch: bool
    snapshot: Literal["transaction", "version", "point_in_time", "none"]
    metrics: frozenset[Metric] = frozenset(Metric)
    index_kinds: frozenset[str] = frozenset()
    """Vector indexes the backend itself builds (with any, it is an `engine.search.indexing.IndexBuilder`)."""
    scalar_indexes: frozenset[str] = frozenset()
    """Over stored columns: "btree" and "hash" over single values, "gin" over JSON and lists."""
    keyword_search: bool = False
    inline: bool = False
    """Its View methods never suspend, so a whole read may run on one worker thread."""
    proves_unchanged: bool = False
    """`get_unchanged` can tell without a view; otherwise it is never asked."""
    reads_directly: bool = False
    """Pages and counts need no view (it is an `engine.search.direct.DirectReader`)."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What `alter` does to storage. Every change may be repeated without harm. Rows already there get the
    default of a new column, and empty cells for a new version. `create_index` is for what the backend itself
    builds (`Capabilities`): anything else raises Unsupported before anything changes."""

    kind: Literal[
        "create_table", "drop_table", "add_column", "drop_column", "stage_version", "discard_version",
        "create_index", "drop_index", "redefine",
    ]  # fmt: skip
    column: Column | None = None
    version: Version | None = None
    index: Index | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A filter split for a backend: `native` is what it evaluates, exactly or as a superset; `residual` is
    what the engine must still check on every row that comes back (None: nothing)."""

    native: Any
    residual: Predicate | None = None
    text: str = ""
    """For people: what the backend was given."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a scan goes on: the values of the order's terms in the last row seen, and its key."""

    values: tuple[Any, ...]
    key: KeyBytes


@dataclass(frozen=True, slots=True)
class Candidates:
    """Nominated rows, best first by the backend's own reckoning; the engine scores them anew.
    `complete`: no row that passes `native` was left out of consideration."""

    keys: Sequence[KeyBytes]
    complete: bool


class View(Protocol):
    """One consistent moment of one table, where the capabilities say so. Short-lived: open, read, close."""

    @property
    def mark(self) -> Mark: ...
    async def get(
        self, keys: Sequence[KeyBytes], columns: Sequence[str], versions: Sequence[str] = ()
    ) -> RecordBatch:
        """The rows that exist among `keys`, in the order asked."""

    def scan(
        self,
        where: Pushed,
        columns: Sequence[str],
        versions: Sequence[str] = (),
        order: Sequence[OrderTerm] = (),
        after: Position | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[RecordBatch]:
        """Rows passing `where.native` in order (nulls last, then key), in batches of at most 1,000; at most
        `limit` when given. Columns may be names, JSON paths ("meta.stars"; `core.evaluate.MISSING` where one
        leads nowhere), "emb.state", or vector columns (the active version's stored bytes, None where a cell
        holds none). Raises StaleGeneration when storage no longer has a column or version asked for."""

    async def count(self, where: Pushed) -> int:
        """Rows passing `where.native`."""

    async def cell_states(self, version: str) -> dict[str, int]:
        """How many cells are in each state of `core.cell.CELL_STATES`."""

    def changes(self, since: Mark) -> AsyncIterator[Sequence[KeyBytes]]:
        """Keys of rows put, deleted, or given a vector after `since` up to this view's mark. May repeat,
        never miss. Raises MarkExpired for a mark that is foreign or too old."""

    async def nearest(self, version: Version, vector: Vector, k: int, where: Pushed) -> Candidates:
        """At least the `k` nearest servable rows passing `where.native`, ties by key (fewer: there are no
        more); with `complete` the true ones by the core's distances. `vector`: float32[dimensions]."""


class Noted(NamedTuple):
    """An entry of the state store as it was read."""

    key: str
    revision: int


class Backend(Protocol):
    """Where rows and cells live. Methods take the table's definition; storage goes by ids, so names may
    change. Errors: of vectable.errors only."""

    @property
    def capabilities(self) -> Capabilities: ...
    async def open(self) -> None: ...
    async def alter(self, table: Table, change: SchemaChange) -> None:
        """Makes storage fit `table` (the definition after the change) and its generation current. Repeating a
        change already made does nothing; an older generation than the current one raises StaleGeneration."""

    def push(self, table: Table, where: Predicate) -> Pushed:
        """Splits a bound predicate. Pure."""

    async def write(self, table: Table, batch: WriteBatch) -> Receipt:
        """Raises StaleGeneration, KeyExists, TableNotFound; durable when it returns."""

    async def receipt(self, table: Table, idempotency_key: str) -> bytes | None: ...
    async def get_unchanged(
        self,
        table: Table,
        since: Mark | None,
        keys: Sequence[KeyBytes],
        columns: Sequence[str],
        versions: Sequence[str] = (),
        noted: Noted | None = None,
    ) -> RecordBatch | None:
        """What `get` of a view opened now would give, provided that nothing of the table has changed since
        the mark (no mark: whatever has changed), in as few round trips as can be; with `noted`, that this
        entry of the state store kept beside the rows has not changed either. None where something has,
        or where it takes a view to tell (always, if there is no shorter way). Raises as a view does."""

    def view(self, table: Table, at_least: Mark | None = None) -> AbstractAsyncContextManager[View]:
        """Sees everything up to `at_least` at least; by default, everything committed before the call, except
        where `capabilities.snapshot` is "none": there, reading one's own writes needs their mark."""

    async def maintain(self) -> None:
        """Housekeeping: prune tombstones, checkpoint. Safe at any time."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of the state store and the revision it is at (0 never occurs: it means absent in `expects`)."""

    value: bytes
    revision: int


class StateStore(Protocol):
    """Our bookkeeping: small values by key, with multi-key compare-and-set."""

    async def get(self, keys: Sequence[str]) -> dict[str, Entry]: ...
    async def scan(self, prefix: str) -> dict[str, Entry]:
        """Every entry whose key starts with `prefix`, ordered by key."""

    async def commit(
        self,
        expects: Mapping[str, int] | None = None,
        puts: Mapping[str, bytes] | None = None,
        deletes: Sequence[str] = (),
    ) -> None:
        """All or nothing. Raises Conflict when a key's revision is not the one expected (0: absent)."""


class VectorCache(Protocol):
    """Vectors by content key, as the model gave them (before normalisation), little-endian float32."""

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]: ...
    async def put_many(self, items: Mapping[bytes, bytes], model: str) -> None: ...
    async def scan(self, after: bytes = b"", limit: int = 1_000) -> Sequence[tuple[bytes, bytes, str]]:
        """(key, vector, model) of the next entries behind the key `after`, by key; at most `limit`."""

    async def clear(self) -> int:
        """How many entries were removed."""

    async def size(self) -> tuple[int, int]:
        """(entries, bytes)."""

    async def prune(self, max_bytes: int) -> int:
        """Drops the oldest entries until at most `max_bytes` remain; how many were dropped."""


class EmbeddingProvider(Protocol):
    """Turns items into vectors, bound to one model. Batching, cache, retries live in the engine."""

    @property
    def model(self) -> ModelIdentity: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def max_batch(self) -> int: ...
    @property
    def modalities(self) -> frozenset[str]:
        """Of what it embeds: "text", "image", "tokens"."""

    @property
    def normalizes(self) -> bool:
        """The model's own configuration ends with normalisation: the engine applies it."""

    def prompt(self, purpose: Purpose) -> str:
        """Text the model's configuration puts before an input of that purpose ("" where none)."""

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens each item costs after truncation (an image: 1)."""

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        """float32[len(items), dimensions], before normalisation; an item's vector never depends on the others
        (1e-5). Raises ProviderError, Unsupported (modality)."""

    async def close(self) -> None: ...


@runtime_checkable
class TokenizingProvider(EmbeddingProvider, Protocol):
    """A model whose texts are tokenised apart from its forward pass, so that each is tokenised once."""

    def tokenize(self, items: Sequence[Item], purpose: Purpose) -> list[NDArray[np.int64]]:
        """Each item's token ids as the model reads them: with its prompt and special tokens, cut at its
        limit. Thread-safe. Raises InvalidInput, Unsupported."""

    async def embed_tokens(self, ids: Sequence[NDArray[np.int64]]) -> Matrix:
        """`embed` of what `tokenize` gave."""

    def counter(self) -> Callable[[Sequence[Item], Purpose], list[int]]:
        """Counts tokens as `tokenize` finds them; it keeps nothing else of the model in memory."""


@runtime_checkable
class RemoteEmbeddingProvider(EmbeddingProvider, Protocol):
    """A model served elsewhere: each call is a request, several may be under way. One may fail for reasons
    beside its items (EndpointError). A row that is not finite is an item that could not be embedded."""

    @property
    def paid(self) -> bool:
        """Requests cost money: no content is sent twice, by whatever processes."""

    @property
    def batch_tokens(self) -> int:
        """Tokens one request may hold, in all."""

    @property
    def max_concurrency(self) -> int:
        """Requests that may be under way at once."""


@runtime_checkable
class CountingProvider(RemoteEmbeddingProvider, Protocol):
    """A model served elsewhere, whose server may say how many tokens it read."""

    async def embed_counted(self, items: Sequence[Item], purpose: Purpose) -> tuple[Matrix, list[int]]:
        """What `embed` gives, and each item's tokens: its share of the server's count, else `lengths`."""


class ModelLibrary(Protocol):
    """Models by name."""

    def resolve(self, name: str, *, allow_paths: bool = False, fake: bool | None = None) -> ModelCard:
        """What is known of a model not loaded. Raises InvalidInput, ModelNotFound, ModelUnavailable."""

    def known_models(self, fake: bool | None = None) -> list[ModelCard]: ...
    def load(
        self,
        name: str,
        *,
        cache_dir: str | Path | None = None,
        allow_paths: bool = False,
        fake: bool | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> EmbeddingProvider:
        """The model, ready to embed. Slow: call it on a worker thread. `progress(file, bytes_done,
        bytes_total)` hears of a download there. Raises as `resolve`, and Unsupported."""


class VectorIndex(Protocol):
    """A searchable structure over a matrix whose rows are positions 0..n-1. Immutable once built."""

    @property
    def kind(self) -> str: ...
    @property
    def size(self) -> int: ...
    def search(
        self,
        query: Vector,
        k: int,
        keep: NDArray[np.bool_] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> NDArray[np.int64]:
        """Up to `k` distinct positions, best first, among those where `keep` is True. Thread-safe."""

    def save(self, path: str) -> None:
        """Writes it with a checksum, atomically."""

    @property
    def efforts(self) -> Sequence[int]:
        """Values of the search parameter `effort`, from the least to the most thorough."""

    @property
    def notes(self) -> dict[str, Any]:
        """Small JSON facts of ours (measured recall), saved with the index."""

    @property
    def nbytes(self) -> int:
        """About how much memory it holds."""


class CodeScan(Protocol):
    """Rows as small codes: a scan over them nominates, and bounds what it leaves out. Positions are
    0..n-1. Immutable."""

    @property
    def nbytes(self) -> int:
        """About how much memory it holds."""

    def search(
        self, query: Vector, k: int, keep: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], float]:
        """Up to `k` distinct positions among those where `keep` is True, and the goodness (query · row, or
        -‖query - row‖² under euclidean) that no other such row exceeds: minus infinity when there is no
        other. Thread-safe."""


Progress = Callable[[int, int], None]
"""(done, total)."""


class VectorLibrary(Protocol):
    """Kernels over rows in memory, and the index structures built over them. Thread-safe."""

    def products(
        self, query: Vector, matrix: Matrix, positions: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """query · row, of every row or of those at `positions`: float32, each a sum in unspecified order."""

    def squared_distances(
        self, query: Vector, matrix: Matrix, positions: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """‖query - row‖², likewise."""

    def check(self, kind: str, parameters: Mapping[str, Any], dimensions: int) -> None:
        """Raises InvalidInput for a kind or parameters that `build` would refuse."""

    def build(
        self,
        kind: str,
        matrix: Matrix,
        scale: NDArray[np.float32] | None,
        metric: Metric,
        parameters: Mapping[str, Any],
        binding: str,
        progress: Progress | None = None,
    ) -> VectorIndex:
        """An index over the rows, each times its `scale`; `binding` names the matrix it belongs to."""

    def codes(self, matrix: Matrix, scale: NDArray[np.float32] | None, metric: Metric) -> CodeScan | None:
        """Codes of the rows, each times its `scale`; None where they would be no shortcut."""

    def load(self, path: str, binding: str) -> VectorIndex | None:
        """A saved index of that binding; None when it is missing, torn, damaged or another matrix's."""

"""Sample data for tests and benchmarks: clustered vectors, tables of every column type, hostile strings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np

from vectable.core.key import KeyBytes, encode_key
from vectable.core.schema import Column, ColumnType, Embedding, Metric, Table, Version, new_id
from vectable.core.vectors import Matrix

HOSTILE_STRINGS: tuple[str, ...] = (
    "",
    " ",
    "\t\n\r",
    "NULL",
    "null",
    "None",
    "true",
    "0",
    "-1",
    "1e400",
    "NaN",
    "select",
    "order by",
    "'",
    "''",
    '"',
    '""',
    "`",
    "\\",
    "\\\\",
    "\\%",
    "%",
    "%%",
    "_",
    "a_c",
    "a%c",
    "100%",
    "?",
    ":name",
    "$1",
    "{}",
    "{title}",
    "[0]",
    "a.b",
    "*",
    "; drop table rows; --",
    "') or 1=1 --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "line\nbreak",
    "tab\there",
    "\x01\x1f\x7f",
    "\u00a0",
    "\u200b",
    "\u202eright to left",
    "\ufeff",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
    "é",
    "e\u0301",
    "É",
    "ß",
    "ẞ",
    "SS",
    "İ",
    "ı",
    "I",
    "i",
    "Σ",
    "σ",
    "ς",
    "ﬀ",
    "Ǆ",
    "K",
    "Å",
    "日本語",
    "🦀",
    "👩‍👩‍👧",
    "אב",
    "x" * 5_000,
)
"""Valid text (no U+0000, no lone surrogates) that breaks quoting, patterns, folding, ordering or limits."""

INT64_EDGES: tuple[int, ...] = (-(2**63), -(2**53) - 1, -1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1)
FLOAT_EDGES: tuple[float, ...] = (
    -1.7976931348623157e308,
    -0.0,
    5e-324,
    0.1,
    1.0,
    2.0**53,
    1e16,
    1.7976931348623157e308,
)
MOMENT_EDGES: tuple[dt.datetime, ...] = (
    dt.datetime(1, 1, 1, tzinfo=dt.UTC),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
    dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=dt.UTC),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
)
JSON_SAMPLES: tuple[Any, ...] = (
    {},
    [],
    0,
    False,
    "",
    {"stars": 5, "tags": ["a", "b"], "ok": True, "name": "x"},
    {"stars": 5.0, "tags": [], "ok": 1, "name": None},
    {"stars": "5", "tags": "a", "ok": None},
    {"stars": None, "a.b": {"c d": [1, {"e": 2}]}, 'quo"te': 1, "": 0, "$": 1, "é": "É"},
    {"stars": 2**53 + 1, "tags": [[1], [True], [None]]},
    {"stars": True, "tags": [1, 1.0, True, None, "1"]},
    [1, [2, [3]], {"stars": 1}],
)


def clustered_vectors(
    count: int, dimensions: int, *, clusters: int = 0, spread: float = 0.35, seed: int = 0
) -> Matrix:
    """`count` vectors of Euclidean length 1 in clusters, as text embeddings are: float32[count, dimensions],
    the same for the same arguments. `clusters` 0: about the square root of `count`. `spread` is the length of
    a vector's offset from its centre (of length 1). Queries: ask for more vectors and split them off."""
    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((clusters or max(1, round(count**0.5)), dimensions), np.float32))
    chosen = centres[rng.integers(0, len(centres), count)]
    offsets = _unit(rng.standard_normal((count, dimensions), np.float32))
    lengths = (spread * rng.uniform(0.5, 1.5, (count, 1))).astype(np.float32)
    return _unit(chosen + lengths * offsets)


def _unit(matrix: Matrix) -> Matrix:
    unit: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit


def text_key(text: str) -> KeyBytes:
    """The encoded key of a row whose key is one string."""
    return encode_key((text,))


def vector_column(
    name: str, dimensions: int, metric: Metric = Metric.COSINE, *, auto_update: bool | None = None
) -> Column:
    """A vector column with one active version: given by the user, or (with `auto_update`) computed from
    "title" by a model that exists in name only."""
    version = Version(dimensions=dimensions, metric=metric, identity=None if auto_update is None else "m@1")
    embedding = None
    if auto_update is not None:
        embedding = Embedding(model="m", source="title", template="{title}", auto_update=auto_update)
    return Column(
        name=name, type=ColumnType.VECTOR, versions=(version,), active=version.id, embedding=embedding
    )


def every_type_table(*vectors: Column, name: str = "everything") -> Table:
    """A table with the key `id: string`, one nullable column of each stored type, and the given vector
    columns (one of 4 dimensions, "emb", when none is given). Ids are new each time."""
    stored = {
        "title": ColumnType.STRING,
        "stars": ColumnType.INT,
        "rating": ColumnType.FLOAT,
        "ok": ColumnType.BOOL,
        "seen": ColumnType.TIMESTAMP,
        "meta": ColumnType.JSON,
        "tags": ColumnType.STRINGS,
        "sizes": ColumnType.INTS,
        "weights": ColumnType.FLOATS,
        "picture": ColumnType.IMAGE,
        # Reserved words of the query languages underneath are ordinary names here.
        "order": ColumnType.STRING,
        "größe": ColumnType.INT,
    }
    key = Column(name="id", type=ColumnType.STRING, nullable=False)
    columns = (key, *(Column(name=n, type=t) for n, t in stored.items()))
    return Table(
        id=new_id(), name=name, key=(key.id,), columns=(*columns, *(vectors or (vector_column("emb", 4),)))
    )


def every_type_rows(table: Table, count: int = 60) -> list[dict[str, Any]]:
    """`count` rows for `every_type_table`, walking through the edges of each type; every fifth value is null,
    and values repeat, so that orders have ties."""
    pools: dict[str, Sequence[Any]] = {
        "title": HOSTILE_STRINGS,
        "stars": INT64_EDGES,
        "rating": FLOAT_EDGES,
        "ok": (True, False),
        "seen": MOMENT_EDGES,
        "meta": JSON_SAMPLES,
        "tags": ([], [""], ["a", "b"], ["a'", "%", "é"], ["b", "a"]),
        "sizes": ([], [0], [2**63 - 1, -(2**63)], [1, 2, 3]),
        "weights": ([], [0.1], [1.0, -1.5], [1e308]),
        "picture": (b"\x00\xff", b"GIF89a", b"\x89PNG\r\n"),
        "order": ("b", "a", "B", "\U00010000", "\uffff"),
        "größe": (3, 1, 2),
    }
    rows = []
    for i in range(count):
        row: dict[str, Any] = {"id": f"row-{i * 7919 % 1000:03d}"}
        for step, (name, pool) in enumerate(pools.items()):
            row[name] = None if (i + step) % 5 == 0 else pool[(i * (step + 1)) % len(pool)]
        rows.append({c.name: row.get(c.name) for c in table.stored_columns})
    return rows

"""What a query gives back: rows to read by name, scores, and how the answer came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

from vectable.core.plan import Plan
from vectable.core.schema import Table
from vectable.core.vectors import Vector
from vectable.errors import UnknownColumn, did_you_mean

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class Coverage(NamedTuple):
    """How much of a table a similarity search can find: rows in the table, rows with a servable vector."""

    rows: int
    searchable: int


class Row(Mapping[str, Any]):
    """One row: `row["title"]` or `row.title`. It is a Mapping of the selected columns, nothing else.

    `row.score` and `row.distance` are those of a similarity hit (None otherwise). The methods of a Mapping
    win over columns of the same name, which `row["items"]` always reaches. A name that is not there raises
    UnknownColumn (also a KeyError and an AttributeError) and says what is."""

    __slots__ = ("_distance", "_score", "_values")

    def __init__(
        self, values: Mapping[str, Any], score: float | None = None, distance: float | None = None
    ) -> None:
        self._values = values
        self._score = score
        self._distance = distance

    @property
    def score(self) -> float | None:
        """Of a hit: higher is better, by the metric of the column searched."""
        return self._score

    @property
    def distance(self) -> float | None:
        """Of a hit: lower is nearer."""
        return self._distance

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise self._unknown(name) from None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Row.__slots__:
            raise AttributeError(name)
        return self[name]

    def _unknown(self, name: str) -> UnknownColumn:
        hint = did_you_mean(name, self._values, "columns of this row")
        return UnknownColumn(f"the row has no column {name!r}", hint=hint)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(n for n in self._values if n.isidentifier())]

    def __reduce__(self) -> tuple[Any, ...]:
        return Row, (dict(self._values), self._score, self._distance)

    def __repr__(self) -> str:
        from vectable.handles.show import brief

        parts = [f"{name}={brief(value)}" for name, value in self._values.items()]
        if self._score is not None:
            parts.append(f"score={self._score:.4f}")
        return f"Row({', '.join(parts)})"


def _no_cursor() -> None:
    return None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result(Sequence[Row]):
    """The rows of one answer, in order. Prints as a table in a terminal and in a notebook."""

    table: Table
    """The table's definition when the query ran: gives `to_arrow` its types."""
    rows: Sequence[Mapping[str, Any]]
    """Plain dicts, without scores."""
    plan: Plan
    """How the answer was found, and how long it took."""
    scores: Sequence[float] | None = None
    """One per row, float64, higher is better; None without similarity."""
    distances: Sequence[float] | None = None
    make_cursor: Callable[[], str | None] = _no_cursor
    coverage: Coverage | None = None
    query_vector: Vector | None = None
    """float32[dimensions], what the rows were compared with."""
    select: tuple[str, ...] | None = None

    @property
    def next_cursor(self) -> str | None:
        """Continues with the next page; None on the last one. Made when asked for: few ask."""
        return self.make_cursor()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names each row has, in order."""
        if self.rows:
            return tuple(self.rows[0])
        plain = [c.name for c in self.table.stored_columns]
        names = ["*"] if self.select is None else self.select
        return tuple(dict.fromkeys(n for name in names for n in (plain if name == "*" else [name])))

    def __len__(self) -> int:
        return len(self.rows)

    def _row(self, at: int) -> Row:
        score = None if self.scores is None else float(self.scores[at])
        distance = None if self.distances is None else float(self.distances[at])
        return Row(self.rows[at], score, distance)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Self: ...
    def __getitem__(self, at: int | slice) -> Row | Self:
        if isinstance(at, slice):
            return self._slice(at)
        return self._row(at)

    def _slice(self, at: slice) -> Self:
        cut = at.indices(len(self)) != (0, len(self), 1)
        return type(self)(
            self.table,
            self.rows[at],
            self.plan,
            None if self.scores is None else self.scores[at],
            None if self.distances is None else self.distances[at],
            _no_cursor if cut else self.make_cursor,
            self.coverage,
            self.query_vector,
            self.select,
        )

    def __iter__(self) -> Iterator[Row]:
        return (self._row(i) for i in range(len(self.rows)))

    def __repr__(self) -> str:
        from vectable.handles.show import result_text

        return result_text(self)

    def _repr_html_(self) -> str:
        from vectable.handles.show import result_html

        return result_html(self)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each row as a new dict; of hits with `score` and `distance` at the end."""
        extra = self.measures()
        return [{**row, **{n: values[i] for n, values in extra.items()}} for i, row in enumerate(self.rows)]

    def measures(self) -> dict[str, list[float]]:
        """Scores and distances by the column names they get in exports; empty without similarity."""
        named = {"score": self.scores, "distance": self.distances}
        return {name: [float(v) for v in values] for name, values in named.items() if values is not None}

    def to_arrow(self) -> pyarrow.Table:
        """A pyarrow Table: string, int64, float64, bool, timestamp[us, UTC], list<…>, binary for images,
        fixed_size_list<float>[d] for vectors. A `json` column is JSON text; a JSON path is int64, double,
        string or bool where all its values are of that kind, else JSON text. Hits end with `score` and
        `distance`, float64."""
        from vectable.handles.frames import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> pandas.DataFrame:
        """A pandas DataFrame with the types of `to_arrow`; int and bool columns use the nullable dtypes
        Int64 and boolean, so a null changes no number. Raises Unsupported where pandas is not installed."""
        from vectable.handles.frames import to_pandas

        return to_pandas(self)

    def to_polars(self) -> polars.DataFrame:
        """A polars DataFrame with the types of `to_arrow` (vectors are Array(Float32, d)).
        Raises Unsupported where polars is not installed."""
        from vectable.handles.frames import to_polars

        return to_polars(self)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface: pandas, polars, DuckDB and pyarrow read a Result as it is."""
        found: object = self.to_arrow().__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]
        return found

"""Filters over columns held in memory: the same meaning as `core.evaluate`, at memory speed.

Numbers, bools and timestamps are arrays. Everything else is dictionary-encoded: a clause is put to each
distinct value once (by the oracle's own test), remembered, and spread over the rows by their codes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vectable.core.evaluate import MISSING, clause_test
from vectable.core.key import micros_timestamp, timestamp_micros
from vectable.core.predicate import Clause, Combination, Negation, Predicate, frozen_value
from vectable.core.predicate.fold import INT_MAX, INT_MIN, fold_number
from vectable.core.schema import ColumnType

Mask = NDArray[np.bool_]
Array = NDArray[Any]
_REMEMBERED_CLAUSES = 32
_FEW = 8
"""Up to so many values, `in` is faster as comparisons joined by or."""
_DTYPES: dict[ColumnType, Any] = {
    ColumnType.INT: np.int64,
    ColumnType.FLOAT: np.float64,
    ColumnType.BOOL: np.bool_,
    ColumnType.TIMESTAMP: np.int64,
}
_PRESENCE_ONLY = frozenset({ColumnType.VECTOR, ColumnType.IMAGE})
_COMPARE: dict[str, Callable[..., Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


class ResidentColumn(Protocol):
    """One column (or JSON path, or cell state) of n rows, immutable and safe to share between threads."""

    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; distinct values of a dictionary are counted by a rough estimate."""

    def extended(self, values: Sequence[Any]) -> ResidentColumn:
        """A column with `values` (as for `build_column`) after these rows. Shares memory with this one, which
        stays as it is; adding m rows to the newest column costs O(m), amortised."""

    def test(self, clause: Clause) -> Mask:
        """bool[n], new: the rows for which a bound clause on this column holds."""

    def values(self) -> list[Any]:
        """The rows' values again; numbers equal by value may come back as each other (1 for 1.0) in JSON."""


def build_column(values: Sequence[Any], type_: ColumnType) -> ResidentColumn:
    """A column of Python values (None: null) of a column's type. JSON paths are columns of their own, of type
    JSON, with MISSING where the path leads nowhere; a cell's state is a STRING column. Of images and vectors
    only the presence is held."""
    if type_ in _DTYPES:
        empty: ResidentColumn = _NumberColumn(type_, _Growing.of(np.empty(0, _DTYPES[type_])), 0, None)
    else:
        codes = _Growing.of(np.empty(0, np.int32))
        empty = _DictionaryColumn(type_, codes, 0, _Dictionary())
    return empty.extended(values)


def evaluate(predicate: Predicate, columns: Mapping[str, ResidentColumn], n: int) -> Mask:
    """bool[n], new: the rows for which the bound `predicate` holds; equal to `core.evaluate.matches` row by
    row. `columns` holds what `columns_of(predicate)` names, each of n rows; KeyError when one is absent."""
    if isinstance(predicate, Clause):
        return columns[predicate.column].test(predicate)
    if isinstance(predicate, Negation):
        mask = evaluate(predicate.arg, columns, n)
        return np.logical_not(mask, out=mask)
    return _combined(predicate, columns, n)


def _combined(predicate: Combination, columns: Mapping[str, ResidentColumn], n: int) -> Mask:
    every = predicate.op == "and"
    if not predicate.args:
        return np.full(n, every)
    mask = evaluate(predicate.args[0], columns, n)
    join = np.logical_and if every else np.logical_or
    for arg in predicate.args[1:]:
        if (not mask.any()) if every else mask.all():
            break
        join(mask, evaluate(arg, columns, n), out=mask)
    return mask


class _Growing:
    """An array with spare room behind it. Only rows nobody has seen are ever written."""

    def __init__(self, room: Array, used: int) -> None:
        self._room = room
        self._used = used
        self._lock = threading.Lock()

    @classmethod
    def of(cls, array: Array) -> _Growing:
        return cls(array, len(array))

    def view(self, count: int) -> Array:
        return self._room[:count]

    def appended(self, count: int, more: Array) -> _Growing:
        """The first `count` rows followed by `more`: in place where `count` is the end and there is room."""
        total = count + len(more)
        with self._lock:
            if count == self._used and total <= len(self._room):
                self._room[count:total] = more
                self._used = total
                return self
        room = np.empty(total if count == 0 else total + total // 2, self._room.dtype)
        room[:count] = self._room[:count]
        room[count:total] = more
        return _Growing(room, total)


class _NumberColumn:
    def __init__(self, type_: ColumnType, growing: _Growing, count: int, present: _Growing | None) -> None:
        self._type = type_
        self._growing = growing
        self._growing_present = present
        self._values = growing.view(count)
        self._present: Mask | None = None if present is None else present.view(count)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        return self._values.nbytes + (0 if self._present is None else self._present.nbytes)

    def values(self) -> list[Any]:
        plain: list[Any] = self._values.tolist()
        if self._type is ColumnType.TIMESTAMP:
            plain = [micros_timestamp(v) for v in plain]
        if self._present is None:
            return plain
        return [v if p else None for v, p in zip(plain, self._present.tolist(), strict=True)]

    def extended(self, values: Sequence[Any]) -> ResidentColumn:
        count = len(self)
        nulls = any(v is None for v in values)
        present = self._growing_present
        if nulls and present is None:
            present = _Growing.of(np.ones(count, np.bool_))
        if present is not None:
            present = present.appended(count, np.array([v is not None for v in values], np.bool_))
        growing = self._growing.appended(count, self._array(values, nulls))
        return _NumberColumn(self._type, growing, count + len(values), present)

    def _array(self, values: Sequence[Any], nulls: bool) -> Array:
        dtype = _DTYPES[self._type]
        if self._type is ColumnType.TIMESTAMP:
            values = [0 if v is None else timestamp_micros(v) for v in values]
        elif nulls:
            values = [0 if v is None else v for v in values]
        return np.array(values, dtype)

    def test(self, clause: Clause) -> Mask:
        operator = clause.operator
        if operator == "is null":
            return np.zeros(len(self), np.bool_) if self._present is None else ~self._present
        if operator == "is not null":
            return self._all_present()
        literal = self._literals(clause)
        if literal is None:
            return self._unbound(clause)
        mask = self._compared(operator, literal)
        if operator == "not in":
            np.logical_not(mask, out=mask)
        return mask if self._present is None else np.logical_and(mask, self._present, out=mask)

    def _all_present(self) -> Mask:
        return np.ones(len(self), np.bool_) if self._present is None else self._present.copy()

    def _literals(self, clause: Clause) -> list[Any] | None:
        """The clause's literals as the array holds them; None where they are not of the column's type."""
        listed = clause.operator in ("in", "not in", "between")
        literals = list(clause.value) if listed else [clause.value]
        wanted = {ColumnType.INT: int, ColumnType.FLOAT: float, ColumnType.BOOL: bool}.get(self._type)
        if wanted is None:
            moments = all(hasattr(v, "tzinfo") for v in literals)
            return [timestamp_micros(v) for v in literals] if moments else None
        if any(type(v) is not wanted for v in literals):
            return None
        if wanted is int and any(not INT_MIN <= v <= INT_MAX for v in literals):
            return None
        if wanted is bool and clause.operator not in _UNORDERED:
            return None
        return literals if clause.operator in _COMPARE or listed else None

    def _compared(self, operator: str, literals: list[Any]) -> Mask:
        values = self._values
        if operator == "between":
            mask: Mask = np.greater_equal(values, literals[0])
            np.logical_and(mask, np.less_equal(values, literals[1]), out=mask)
            return mask
        if operator not in ("in", "not in"):
            compared: Mask = _COMPARE[operator](values, literals[0])
            return compared
        if len(literals) > _FEW:
            return np.isin(values, np.array(literals, values.dtype))
        mask = np.zeros(len(values), np.bool_)
        for literal in literals:
            np.logical_or(mask, np.equal(values, literal), out=mask)
        return mask

    def _unbound(self, clause: Clause) -> Mask:
        """Literals that `bind` would have folded or refused: exact all the same."""
        literals = clause.value if isinstance(clause.value, tuple) else (clause.value,)
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in literals)
        if self._type in (ColumnType.INT, ColumnType.FLOAT) and numeric and clause.operator not in _TEXTUAL:
            folded = fold_number(clause, self._type is ColumnType.INT)
            if folded != clause:
                return evaluate(folded, {clause.column: self}, len(self))
        return np.fromiter(map(clause_test(clause), self.values()), np.bool_, len(self))


_UNORDERED = frozenset({"=", "!=", "in", "not in"})
_TEXTUAL = frozenset({"like", "ilike", "starts_with", "contains"})


class _Dictionary:
    """Distinct values, only ever added to, shared by a column and those extended from it."""

    def __init__(self) -> None:
        self.uniques: list[Any] = []
        self.codes: dict[Any, int] = {}
        self._lock = threading.Lock()
        self._remembered: OrderedDict[Clause, Mask] = OrderedDict()

    def encode(self, values: Iterable[Any]) -> NDArray[np.int32]:
        codes, uniques = self.codes, self.uniques
        found: list[int] = []
        with self._lock:
            for value in values:
                frozen = value if type(value) is str else frozen_value(value)
                code = codes.get(frozen)
                if code is None:
                    code = len(uniques)
                    uniques.append(value)
                    codes[frozen] = code
                found.append(code)
        return np.array(found, np.int32)

    def code(self, value: Any) -> int | None:
        return self.codes.get(value if type(value) is str else frozen_value(value))

    def answers(self, clause: Clause) -> Mask:
        """bool[at least as many as any column has codes]: the clause put to each distinct value once."""
        with self._lock:
            known = self._remembered.get(clause)
            count = len(self.uniques)
        done = 0 if known is None else len(known)
        if known is not None and done == count:
            return known
        new = np.fromiter(map(clause_test(clause), self.uniques[done:count]), np.bool_, count - done)
        answers = new if known is None else np.concatenate([known, new])
        with self._lock:
            self._remembered[clause] = answers
            self._remembered.move_to_end(clause)
            while len(self._remembered) > _REMEMBERED_CLAUSES:
                self._remembered.popitem(last=False)
        return answers

    @property
    def nbytes(self) -> int:
        texts = sum(len(u) for u in self.uniques if isinstance(u, str))
        return 120 * len(self.uniques) + texts


class _DictionaryColumn:
    def __init__(self, type_: ColumnType, growing: _Growing, count: int, dictionary: _Dictionary) -> None:
        self._type = type_
        self._growing = growing
        self._codes: NDArray[np.int32] = growing.view(count)
        self._dictionary = dictionary

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def nbytes(self) -> int:
        return self._codes.nbytes + self._dictionary.nbytes

    def values(self) -> list[Any]:
        uniques = self._dictionary.uniques
        return [uniques[c] for c in self._codes.tolist()]

    def extended(self, values: Sequence[Any]) -> ResidentColumn:
        if self._type in _PRESENCE_ONLY:
            values = [None if v is None else True for v in values]
        codes = self._dictionary.encode(values)
        growing = self._growing.appended(len(self), codes)
        return _DictionaryColumn(self._type, growing, len(self) + len(codes), self._dictionary)

    def test(self, clause: Clause) -> Mask:
        operator = clause.operator
        if operator == "=":
            return self._is(clause.value)
        if operator == "is null":
            return self._is(None)
        if operator == "!=":
            return self._none_of([clause.value, None, MISSING])
        if operator == "is not null":
            return self._none_of([None, MISSING])
        if operator == "in":
            return self._any_of(clause.value)
        if operator == "not in":
            return self._none_of([*clause.value, None, MISSING])
        return self._dictionary.answers(clause)[self._codes]

    def _is(self, value: Any) -> Mask:
        code = self._dictionary.code(value)
        return np.zeros(len(self), np.bool_) if code is None else np.equal(self._codes, code)

    def _any_of(self, values: Sequence[Any]) -> Mask:
        codes = self._found(values)
        if len(codes) > _FEW:
            wanted = np.zeros(len(self._dictionary.uniques), np.bool_)
            wanted[codes] = True
            return wanted[self._codes]
        mask = np.zeros(len(self), np.bool_) if not codes else np.equal(self._codes, codes[0])
        for code in codes[1:]:
            np.logical_or(mask, np.equal(self._codes, code), out=mask)
        return mask

    def _none_of(self, values: Sequence[Any]) -> Mask:
        codes = self._found(values)
        if len(codes) == 1:
            return np.not_equal(self._codes, codes[0])
        mask = self._any_of(values)
        return np.logical_not(mask, out=mask)

    def _found(self, values: Sequence[Any]) -> list[int]:
        codes = (self._dictionary.code(v) for v in values)
        return [c for c in codes if c is not None]

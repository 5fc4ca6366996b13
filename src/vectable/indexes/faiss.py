"""Vector indexes and kernels by Faiss: the `VectorLibrary` the resident search runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.schema import Metric
from vectable.core.vectors import Matrix, Vector
from vectable.drivers import derived_file
from vectable.errors import InvalidInput
from vectable.indexes.codes import FaissCodes, coded
from vectable.indexes.kernels import Floats, Positions, library, one_thread, over_all, over_some
from vectable.indexes.parameters import check_parameters
from vectable.indexes.structures import (
    efforts,
    empty_structure,
    scaled_rows,
    scan_pieces,
    search_parameters,
)
from vectable.interfaces import Progress

_RESERVOIR = 13


class FaissIndex:
    """An immutable structure over positions 0..size-1. Searches may run in any number of threads at once."""

    def __init__(self, structure: Any, facts: Mapping[str, Any]) -> None:
        self._structure = structure
        self._facts = dict(facts)
        if self.kind == "fast-scan":
            # Of the ways Faiss has to keep the best, the one that stays fast where few rows pass a filter.
            structure.implem = _RESERVOIR
        self.efforts: Sequence[int] = efforts(self.kind, structure, facts["parameters"])

    @property
    def kind(self) -> str:
        return str(self._facts["kind"])

    @property
    def size(self) -> int:
        return int(self._structure.ntotal)

    @property
    def notes(self) -> dict[str, Any]:
        """Small facts kept with the index (its measured recall); saved with it."""
        notes: dict[str, Any] = self._facts["notes"]
        return notes

    @property
    def nbytes(self) -> int:
        """About how much memory the structure holds."""
        return int(self._facts["nbytes"])

    def search(
        self,
        query: Vector,
        k: int,
        keep: NDArray[np.bool_] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> NDArray[np.int64]:
        """Up to `k` distinct positions, best first, among those where `keep` is True. `parameters["effort"]`
        is one of `efforts` (by default the least)."""
        faiss = library()
        if query.shape != (self._structure.d,):
            raise ValueError(f"a query of shape {query.shape} for {self._structure.d} dimensions")
        effort = int((parameters or {}).get("effort", self.efforts[0]))
        selector = bits = None
        if keep is not None:
            bits = np.packbits(keep, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(keep), faiss.swig_ptr(bits))
        k = min(k, self.size)
        if k == 0:
            return np.empty(0, np.int64)
        options = search_parameters(self.kind, effort, k, selector)
        # The raw call: the wrapper around it costs as much as a tenth of a fast scan.
        nearness, found = np.empty(k, np.float32), np.empty(k, np.int64)
        pointer = faiss.swig_ptr
        with one_thread():
            self._structure.search_c(1, pointer(query), k, pointer(nearness), pointer(found), options)
        # Faiss holds pointers only: the bitmap and its selector must outlive the search.
        del options, selector, bits
        positions: NDArray[np.int64] = found[found >= 0]
        return positions

    def save(self, path: str) -> None:
        """Writes it with checksums, atomically. Raises OSError."""
        body = library().serialize_index(self._structure)
        derived_file.write(Path(path), self._facts, [memoryview(body)])


class FaissLibrary:
    """`VectorLibrary` by Faiss."""

    def products(self, query: Vector, matrix: Matrix, positions: Positions | None = None) -> Floats:
        if positions is None:
            return over_all("inner_products", query, matrix)
        return over_some("inner_products", query, matrix, positions)

    def squared_distances(self, query: Vector, matrix: Matrix, positions: Positions | None = None) -> Floats:
        if positions is None:
            return over_all("L2sqr", query, matrix)
        return over_some("L2sqr", query, matrix, positions)

    def check(self, kind: str, parameters: Mapping[str, Any], dimensions: int) -> None:
        check_parameters(kind, parameters, dimensions)
        if kind == "fast-scan" and dimensions % 2:
            raise InvalidInput("a fast scan needs an even number of dimensions")

    def build(
        self,
        kind: str,
        matrix: Matrix,
        scale: NDArray[np.float32] | None,
        metric: Metric,
        parameters: Mapping[str, Any],
        binding: str,
        progress: Progress | None = None,
    ) -> FaissIndex:
        self.check(kind, parameters, matrix.shape[1])
        if not len(matrix):
            raise InvalidInput("an index needs rows")
        checked = check_parameters(kind, parameters, matrix.shape[1])
        # A build may take long, and searches go on beside it: it leaves the other cores to them.
        with one_thread():
            structure = empty_structure(kind, matrix, scale, metric, checked)
            done = 0
            for rows in scaled_rows(matrix, scale):
                structure.add(np.ascontiguousarray(rows))
                done += len(rows)
                if progress is not None:
                    progress(done, len(matrix))
        facts = {
            "kind": kind,
            "binding": binding,
            "rows": len(matrix),
            "dimensions": matrix.shape[1],
            "metric": metric.value,
            "parameters": checked,
            "notes": {},
            "nbytes": _footprint(kind, matrix, checked),
        }
        return FaissIndex(structure, facts)

    def codes(self, matrix: Matrix, scale: NDArray[np.float32] | None, metric: Metric) -> FaissCodes | None:
        return coded(matrix, scale, metric)

    def load(self, path: str, binding: str) -> FaissIndex | None:
        try:
            derived = derived_file.read(Path(path))
        except derived_file.Unusable:
            return None
        if derived.facts.get("binding") != binding or len(derived.sections) != 1:
            return None
        body = np.frombuffer(derived.sections[0], np.uint8)
        try:
            structure = library().deserialize_index(body)
        except RuntimeError:
            return None
        return FaissIndex(structure, derived.facts)


def _footprint(kind: str, matrix: Matrix, parameters: Mapping[str, int]) -> int:
    n, d = matrix.shape
    if kind == "fast-scan":
        return int(n * (scan_pieces(d) // 2 + 8))
    links = n * parameters.get("m", 32) * 8 if kind == "hnsw" else n * 8
    return int(links + (n * parameters.get("m", d // 4) if kind == "ivfpq" else matrix.nbytes))

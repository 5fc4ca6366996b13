"""Rewrites a text model's ONNX graph so that its matrices are stored in int8, each column with its own scale.

The runtime may then multiply in int8, with scales for every few numbers of every token: unlike quantisation
with one scale for all that is computed together, a text's vector does not depend on what it came with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vectable.errors import ModelUnavailable, Unsupported
from vectable.providers.graph import GRAPH_FILE, WEIGHTS_FILE

INT8_GRAPH_VERSION = 1
"""Raise it when the rewriting changes: cached graphs of another version are built anew."""
_LEAST_OPSET = 13
_LARGEST = 127


def store_in_int8(source: Path, target: Path) -> None:
    """Writes the graph `source` with int8 matrices into the directory `target`. Raises ModelUnavailable for a
    graph that cannot be read, Unsupported for one without matrices to store so."""
    import onnx
    from onnx import helper, numpy_helper

    try:
        model = onnx.load(str(source))
    except Exception as error:  # the library raises the parser's errors and plain ones
        raise ModelUnavailable(f"{source} cannot be read: {error}") from None
    graph, opset = model.graph, max((o.version for o in model.opset_import if not o.domain), default=0)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    matrices = {n.input[1] for n in graph.node if n.op_type == "MatMul" and n.input[1] in stored}
    if not matrices or opset < _LEAST_OPSET:
        raise Unsupported(f"{source} has no matrices that can be stored in int8", hint="use precision=bf16")
    nodes: list[Any] = []
    for name in sorted(matrices):
        values, scale = quantised(numpy_helper.to_array(stored.pop(name)))
        parts = (f"{name}.int8", f"{name}.scale")
        for part, array in zip(parts, (values, scale), strict=True):
            stored[part] = numpy_helper.from_array(array, part)
        nodes.append(helper.make_node("DequantizeLinear", list(parts), [name], axis=1))
    nodes += list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored.values())
    graph.node.extend(nodes)
    onnx.save_model(
        model,
        str(target / GRAPH_FILE),
        save_as_external_data=True,
        location=WEIGHTS_FILE,
        size_threshold=1024,
    )


def quantised(matrix: Any) -> tuple[Any, Any]:
    """float32 (rows, columns) as int8 of the same shape and float32 (columns,): values times scale are the
    matrix again, each to half a scale."""
    scale = np.maximum(np.abs(matrix).max(axis=0), np.finfo(np.float32).tiny * _LARGEST) / _LARGEST
    return np.round(matrix / scale).astype(np.int8), scale.astype(np.float32)

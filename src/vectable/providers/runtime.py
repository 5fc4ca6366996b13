"""ONNX Runtime as it is used here: fp32 on the processor, few threads that do not spin."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from vectable.errors import ModelUnavailable, Unsupported

DEFAULT_THREADS = 2
_QUANTISED = (b"DynamicQuantizeLinear", b"MatMulInteger")


def refuse_quantised(graph: Path) -> None:
    """Dynamically quantised graphs make a text's vector depend on its batch: no cache is right then."""
    if graph.stat().st_size == 0:
        return  # an empty file cannot be mapped; the runtime says what is wrong with it
    with open(graph, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(operator) >= 0 for operator in _QUANTISED):
            raise Unsupported(f"{graph} is dynamically quantised", hint="use the model's fp32 export")


def open_session(graph: Path, threads: int) -> Any:
    """An onnxruntime.InferenceSession over the graph file. Raises ModelUnavailable."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # shapes differ from pass to pass
    options.log_severity_level = 3
    # Waiting threads that spin gain 0.6 ms of 2.8 on an idle machine; where other work wants the cores, as in
    # a server, they double the time of a pass and burn a third more of the processor.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises subclasses of plain Exception
        raise ModelUnavailable(f"{graph} cannot be loaded: {error}") from None

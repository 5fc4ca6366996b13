"""ONNX Runtime as it is used here: fp32 on the processor, few threads that hardly spin."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from vectable.errors import ModelUnavailable, Unsupported

DEFAULT_THREADS = 2
_SPIN_US = 20
"""So long a thread of a pass waits awake for its next piece: longer than most operators take, much shorter
than what lies between two passes."""
_SPINS_FOR_A_TIME = (1, 26)
"""The first version that can be told how long."""
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
    # To be woken for each of 190 operators costs 0.6 ms of a pass of 2.9. To spin until there is work, as the
    # runtime does by itself, doubles the time of a pass where other work wants the cores, as in a server.
    briefly = _version(onnxruntime.__version__) >= _SPINS_FOR_A_TIME
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if briefly else "0")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises subclasses of plain Exception
        raise ModelUnavailable(f"{graph} cannot be loaded: {error}") from None


def _version(text: str) -> tuple[int, int]:
    """Major and minor of a version; (0, 0) where it has another form."""
    parts = text.split(".")
    return (
        (int(parts[0]), int(parts[1])) if len(parts) > 1 and all(p.isdigit() for p in parts[:2]) else (0, 0)
    )

"""Text models on OpenVINO: in bf16 or int8, faster than fp32 and a little less exact."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vectable.errors import ModelUnavailable, Unsupported
from vectable.providers.graph import GRAPH_FILE
from vectable.providers.graph_cache import cached_graph
from vectable.providers.int8_graph import INT8_GRAPH_VERSION, store_in_int8
from vectable.providers.onnx import OnnxTextProvider, load_text_model
from vectable.providers.runtime import DEFAULT_THREADS
from vectable.providers.weights import Located

_GROUP = 32
"""Numbers of a token that share a scale, where matrices are stored in int8."""


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    shape: list[Any]


class OpenVinoSession:
    """A compiled graph with the methods of an onnxruntime.InferenceSession that a text model needs."""

    def __init__(self, graph: Path, precision: str, threads: int) -> None:
        """`precision`: what it computes in, f32 or bf16. Raises ModelUnavailable."""
        import openvino

        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "CACHE_DIR": "",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP,
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(str(graph)), "CPU", options)
        except RuntimeError as error:
            raise ModelUnavailable(f"OpenVINO cannot run {graph}: {error}"[:400]) from None
        self._inputs, self._outputs = list(compiled.inputs), list(compiled.outputs)
        self._request = compiled.create_infer_request()

    def get_inputs(self) -> list[_Port]:
        """Its inputs."""
        return [_port(port) for port in self._inputs]

    def get_outputs(self) -> list[_Port]:
        """Its outputs."""
        return [_port(port) for port in self._outputs]

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        """The outputs called `names`; not thread-safe. Texts of one length are computed together, without
        padding: below fp32 it would change the last digits kept, and a vector depend on what it came with."""
        mask = feed.get("attention_mask")
        lengths = None if mask is None else mask.sum(axis=1)
        if lengths is None or (lengths == lengths[0]).all():
            return self._infer(names, feed)
        found: list[Any] = [None] * len(names)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            parts = self._infer(names, {name: values[rows, :length] for name, values in feed.items()})
            for i, part in enumerate(parts):
                padded = part if part.ndim == 2 else _padded(part, lengths.max())
                if found[i] is None:
                    found[i] = np.zeros((len(lengths), *padded.shape[1:]), np.float32)
                found[i][rows] = padded
        return found

    def _infer(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        found = self._request.infer({name: np.ascontiguousarray(values) for name, values in feed.items()})
        by_name = {port.get_any_name(): port for port in self._outputs}
        return [found[by_name[name]].copy() for name in names]


def _padded(hidden: Any, tokens: int) -> Any:
    return np.pad(hidden, ((0, 0), (0, tokens - hidden.shape[1]), (0, 0)))


def _port(port: Any) -> _Port:
    return _Port(port.get_any_name(), [None if d.is_dynamic else d.get_length() for d in port.partial_shape])


def load_openvino(
    located: Located,
    cache_dir: Path,
    *,
    precision: str,
    threads: int = DEFAULT_THREADS,
    executor: Executor | None = None,
) -> OnnxTextProvider:
    """Loads a text model, as `load_onnx`, to be computed in `precision`: bf16, fp32 or int8 (matrices and
    what they are multiplied with; the rest in bf16, or fp32 where the processor has no bf16). Raises
    Unsupported where the extra is not installed, or the processor lacks the bf16 that was asked for."""
    try:
        import openvino
    except ImportError:
        raise Unsupported("OpenVINO is not installed", hint="pip install 'vectable[openvino]'") from None
    bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not bf16:
        raise Unsupported(
            "this processor has no bf16 arithmetic", hint="use ?runtime=openvino&precision=fp32"
        )
    hint = "bf16" if bf16 and precision != "fp32" else "f32"
    computed = f"openvino-{precision}" + (f"-{hint}" if precision == "int8" else "")

    def session(graph: Path, name: str) -> OpenVinoSession:
        if precision != "int8":
            return OpenVinoSession(graph, hint, threads)
        name = f"{name}-int8-v{INT8_GRAPH_VERSION}"
        with cached_graph(cache_dir, name, lambda target: store_in_int8(graph, target)) as directory:
            return OpenVinoSession(directory / GRAPH_FILE, hint, threads)

    return load_text_model(located, cache_dir, session, computed, executor)

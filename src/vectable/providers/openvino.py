"""Text models on OpenVINO: in bf16 or int8, faster than fp32 and a little less exact."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import ModelUnavailable, Unsupported
from vectable.providers.graph import GRAPH_FILE
from vectable.providers.graph_cache import cached_graph
from vectable.providers.int8_graph import INT8_GRAPH_VERSION, store_in_int8
from vectable.providers.model_config import read_model_config
from vectable.providers.onnx import OnnxTextProvider, load_text_model
from vectable.providers.runtime import DEFAULT_THREADS
from vectable.providers.weights import Located

_GROUPS = (128, 64, 32)
"""Numbers of a token that share a scale, where matrices are stored in int8: the first that divides the rows
of all matrices. Twice as many are 1.2 times as fast, and a third less exact."""
_STEP = 8
"""Texts are padded to a multiple of so many tokens: to what depends on a text alone, and many have alike."""
_RECIPE = "v2"
"""Raise it when texts get other vectors."""


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    shape: list[Any]


class OpenVinoSession:
    """A compiled graph with the methods of an onnxruntime.InferenceSession that a text model needs."""

    padding_step = _STEP

    def __init__(self, graph: Path, precision: str, threads: int, longest: int) -> None:
        """`precision`: what it computes in, f32 or bf16. `longest`: tokens of the longest text. Raises
        ModelUnavailable."""
        import openvino

        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "CACHE_DIR": "",
        }
        self._longest = longest
        try:
            core = openvino.Core()
            model = core.read_model(str(graph))
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _group(model)
            compiled = core.compile_model(model, "CPU", options)
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
        """The outputs called `names`; not thread-safe. Texts are computed together where they are padded to
        one length: below fp32, padding changes the last digits kept, so it may not depend on the others."""
        mask = feed.get("attention_mask")
        if mask is None:
            return self._infer(names, feed)
        lengths = self._padded_lengths(mask)
        found: list[Any] = [None] * len(names)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            parts = self._infer(names, {name: _fit(values[rows], length) for name, values in feed.items()})
            for i, part in enumerate(parts):
                whole = part if part.ndim == 2 else _fit(part, mask.shape[1])
                if found[i] is None:
                    found[i] = np.empty((len(lengths), *whole.shape[1:]), np.float32)
                found[i][rows] = whole
        return found

    def _padded_lengths(self, mask: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths: NDArray[np.int64] = mask.sum(axis=1)
        stepped = np.minimum(-(-lengths // _STEP) * _STEP, self._longest)
        return np.maximum(stepped, lengths)

    def _infer(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        found = self._request.infer({name: np.ascontiguousarray(values) for name, values in feed.items()})
        by_name = {port.get_any_name(): port for port in self._outputs}
        return [found[by_name[name]].copy() for name in names]


def _fit(values: NDArray[Any], tokens: int) -> NDArray[Any]:
    """(texts, tokens, …) of so many tokens: cut, or with zeros behind."""
    if values.shape[1] >= tokens:
        return values[:, :tokens]
    missing = [(0, 0)] * values.ndim
    missing[1] = (0, tokens - values.shape[1])
    return np.pad(values, missing)


def _group(model: Any) -> int:
    rows = [
        op.input(1).get_partial_shape()[0].get_length()
        for op in model.get_ops()
        if op.get_type_name() == "MatMul"
        and op.input(1).get_partial_shape().is_static
        and len(op.input(1).get_partial_shape()) == 2
    ]
    return next((group for group in _GROUPS if all(n % group == 0 for n in rows)), _GROUPS[-1])


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
    if precision != "fp32":
        computed += f"-{_RECIPE}"
    longest = read_model_config(located.directory).max_tokens

    def session(graph: Path, name: str) -> OpenVinoSession:
        if precision != "int8":
            return OpenVinoSession(graph, hint, threads, longest)
        name = f"{name}-int8-v{INT8_GRAPH_VERSION}"
        with cached_graph(cache_dir, name, lambda target: store_in_int8(graph, target)) as directory:
            return OpenVinoSession(directory / GRAPH_FILE, hint, threads, longest)

    return load_text_model(located, cache_dir, session, computed, executor)

"""Builds the ONNX graph of a BERT encoder with its pooling from safetensors weights.

Only standard operators, so that the runtime fuses them as it likes. Weights lie in a file beside the graph
(external data): the runtime maps it into memory instead of copying it, which halves memory and load time.
Inputs `input_ids` and `attention_mask`, int64 (batch, tokens); output `embedding`, float32 (batch,
dimensions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import ModelUnavailable, Unsupported
from vectable.providers.model_config import Pooling

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

GRAPH_VERSION = 1
"""Raise it when the graph changes: cached graphs of another version are built anew."""
GRAPH_FILE, WEIGHTS_FILE = "model.onnx", "weights.bin"

_OPSET, _IR_VERSION = 20, 9
_INLINE_BYTES = 1024
_ALIGNMENT = 4096
_MASKED = float(np.finfo(np.float32).min)
_MAX_POOL_MASKED = -1e9
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "gelu_pytorch_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
}

Weights = Callable[[str], NDArray[np.float32]]
"""A weight by its name within the encoder ("embeddings.word_embeddings.weight")."""


def buildable(transformer: Mapping[str, Any]) -> bool:
    """Whether a graph can be built for a model with this config.json."""
    return (
        transformer.get("model_type") == "bert"
        and transformer.get("position_embedding_type", "absolute") == "absolute"
        and transformer.get("hidden_act") in _ACTIVATIONS
    )


def build_bert(source: Path, transformer: Mapping[str, Any], pooling: Pooling, target: Path) -> None:
    """Writes GRAPH_FILE and WEIGHTS_FILE into the directory `target` from the safetensors file `source`.
    Raises Unsupported for another architecture, ModelUnavailable for weights that do not fit the config."""
    if not buildable(transformer):
        raise Unsupported(
            f"no graph can be built for a {transformer.get('model_type')!r} model",
            hint="use a model that ships onnx/model.onnx, or a BERT model",
        )
    with open(target / WEIGHTS_FILE, "wb") as file:
        graph = _Graph(file)
        try:
            model = _bert(graph, _open_weights(source), transformer, pooling)
        except (KeyError, ValueError) as error:
            raise ModelUnavailable(
                f"{source} does not hold the weights its config.json describes: {error}"
            ) from None
    (target / GRAPH_FILE).write_bytes(model.SerializeToString())


def _open_weights(source: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        tensors: Any = safe_open(str(source), framework="numpy")
        stored = {_modern(name): name for name in tensors.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"{source} cannot be read: {error}") from None
    anchor = "embeddings.word_embeddings.weight"
    prefix = next((name.removesuffix(anchor) for name in stored if name.endswith(anchor)), "")

    def weight(name: str) -> NDArray[np.float32]:
        return np.asarray(tensors.get_tensor(stored[prefix + name]), dtype=np.float32)

    return weight


def _modern(name: str) -> str:
    """The present name of a weight; checkpoints of 2018 call scale and shift of a norm gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


class _Graph:
    """Nodes and weights of a graph under construction; large weights go to `file` at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._file = file

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        from onnx import TensorProto, numpy_helper

        array: NDArray[Any] = np.array(values, dtype=dtype, order="C")
        if array.nbytes < _INLINE_BYTES:
            self.weights.append(numpy_helper.from_array(array, name))
            return name
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        tensor = TensorProto(name=name, dims=array.shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        where = {"location": WEIGHTS_FILE, "offset": self._file.tell(), "length": array.nbytes}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        array.tofile(self._file)
        self.weights.append(tensor)
        return name

    def node(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = out or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"node_{name}", **attributes))
        return name


def _bert(g: _Graph, weight: Weights, transformer: Mapping[str, Any], pooling: Pooling) -> ModelProto:
    from onnx import TensorProto, helper

    hidden, heads = int(transformer["hidden_size"]), int(transformer["num_attention_heads"])
    g.constant("head_shape", [0, 0, heads, hidden // heads], np.int64)
    g.constant("merged_shape", [0, 0, hidden], np.int64)
    layers = _Layers(g, weight, transformer)
    x = layers.embeddings()
    real = g.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden_from = g.node(
        "Mul",
        g.node(
            "Sub",
            g.constant("one", 1.0),
            g.node("Unsqueeze", real, g.constant("axes_heads", [1, 2], np.int64)),
        ),
        g.constant("masked", _MASKED),
    )
    for i in range(int(transformer["num_hidden_layers"])):
        x = layers.feed_forward(i, layers.attention(i, x, hidden_from))
    _pool(g, x, real, pooling)
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        g.nodes,
        "bert",
        [helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden])],
        g.weights,
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="vectable",
    )


class _Layers:
    """The parts of a BERT encoder, added to a graph; each method returns the name of its output."""

    def __init__(self, graph: _Graph, weight: Weights, transformer: Mapping[str, Any]) -> None:
        self._g, self._weight, self._config = graph, weight, transformer
        self._head_size = int(transformer["hidden_size"]) // int(transformer["num_attention_heads"])

    def embeddings(self) -> str:
        g, weight = self._g, self._weight
        # A single text has token type 0 throughout, so that row is folded into the positions.
        positions = weight("embeddings.position_embeddings.weight")
        positions = positions + weight("embeddings.token_type_embeddings.weight")[0]
        words = g.node(
            "Gather", g.constant("words", weight("embeddings.word_embeddings.weight")), "input_ids"
        )
        shape = g.node("Shape", "input_ids")
        count = g.node("Gather", shape, g.constant("axis_tokens", 1, np.int64))
        steps = g.node("Range", g.constant("first", 0, np.int64), count, g.constant("step", 1, np.int64))
        placed = g.node("Gather", g.constant("positions", positions), steps)
        return self._norm("embeddings.LayerNorm", g.node("Add", words, placed))

    def attention(self, i: int, x: str, mask: str) -> str:
        g, part = self._g, f"encoder.layer.{i}.attention"
        # The scale 1/√size is folded into the query, which saves a pass over batch x heads x tokens².
        scale = 1.0 / math.sqrt(self._head_size)
        query = self._heads(f"{part}.self.query", x, [0, 2, 1, 3], scale)
        key = self._heads(f"{part}.self.key", x, [0, 2, 3, 1])
        value = self._heads(f"{part}.self.value", x, [0, 2, 1, 3])
        scores = g.node("Add", g.node("MatMul", query, key), mask)
        mixed = g.node("MatMul", g.node("Softmax", scores, axis=-1), value)
        merged = g.node("Reshape", g.node("Transpose", mixed, perm=[0, 2, 1, 3]), "merged_shape")
        return self._add_norm(f"{part}.output", merged, x)

    def feed_forward(self, i: int, x: str) -> str:
        operator, attributes = _ACTIVATIONS[self._config["hidden_act"]]
        wide = self._linear(f"encoder.layer.{i}.intermediate.dense", x)
        active = self._g.node(operator, wide, **attributes)
        return self._add_norm(f"encoder.layer.{i}.output", active, x)

    def _heads(self, name: str, x: str, order: list[int], scale: float = 1.0) -> str:
        split = self._g.node("Reshape", self._linear(name, x, scale), "head_shape")
        return self._g.node("Transpose", split, perm=order)

    def _linear(self, name: str, x: str, scale: float = 1.0) -> str:
        g = self._g
        matrix = self._weight(f"{name}.weight").T * np.float32(scale)
        bias = self._weight(f"{name}.bias") * np.float32(scale)
        product = g.node("MatMul", x, g.constant(f"{name}.matrix", matrix))
        return g.node("Add", product, g.constant(f"{name}.bias", bias))

    def _add_norm(self, part: str, x: str, residual: str) -> str:
        return self._norm(
            f"{part}.LayerNorm", self._g.node("Add", self._linear(f"{part}.dense", x), residual)
        )

    def _norm(self, name: str, x: str) -> str:
        g = self._g
        scale = g.constant(f"{name}.scale", self._weight(f"{name}.weight"))
        shift = g.constant(f"{name}.shift", self._weight(f"{name}.bias"))
        epsilon = float(self._config.get("layer_norm_eps", 1e-12))
        return g.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)


def _pool(g: _Graph, x: str, real: str, pooling: Pooling) -> None:
    """Adds the node "embedding"; `real` is 1 for tokens, 0 for padding, float32 (batch, tokens)."""
    over_tokens = g.constant("axes_tokens", [1], np.int64)
    if pooling == "cls":
        g.node("Gather", x, g.constant("first_token", 0, np.int64), axis=1, out="embedding")
        return
    weights = g.node("Unsqueeze", real, g.constant("axes_hidden", [2], np.int64))
    if pooling == "max":
        is_real = g.node("Greater", weights, g.constant("half", 0.5))
        kept = g.node("Where", is_real, x, g.constant("lowest", _MAX_POOL_MASKED))
        g.node("ReduceMax", kept, over_tokens, keepdims=0, out="embedding")
        return
    total = g.node("ReduceSum", g.node("Mul", x, weights), over_tokens, keepdims=0)
    count = g.node("ReduceSum", weights, over_tokens, keepdims=0)
    g.node("Div", total, g.node("Sqrt", count) if pooling == "mean_sqrt_len" else count, out="embedding")

"""ONNX graphs under construction: nodes, weights, and what every transformer is made of.

Only standard operators, so that the runtime fuses them as it likes. Weights lie in a file beside the graph
(external data): the runtime maps it into memory instead of copying it, which halves memory and load time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import ModelUnavailable
from vectable.providers.torch_file import TorchFile

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

GRAPH_FILE, WEIGHTS_FILE = "model.onnx", "weights.bin"
MASKED = float(np.finfo(np.float32).min)
"""Added to the score of what may not be attended to."""
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gelu": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "gelu_pytorch_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
    "quick_gelu": ("", {}),
}

_OPSET, _IR_VERSION = 20, 9
_INLINE_BYTES = 1024
_ALIGNMENT = 4096
_QUICK = 1.702

Weights = Callable[[str], NDArray[np.float32]]
"""A weight by its name, as float32. Raises KeyError."""
Shape = Sequence[str | int]


def open_weights(source: Path, anchor: str) -> Weights:
    """The tensors of a safetensors file or a PyTorch checkpoint, by the names they have after the prefix that
    stands before `anchor`. Raises ModelUnavailable for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        if source.suffix == ".safetensors":
            tensors: Any = safe_open(str(source), framework="numpy")
        else:
            tensors = TorchFile(source)
        stored = {_modern(name): name for name in tensors.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"{source} cannot be read: {error}") from None
    prefix = next((name.removesuffix(anchor) for name in stored if name.endswith(anchor)), "")

    def weight(name: str) -> NDArray[np.float32]:
        return np.asarray(tensors.get_tensor(stored[prefix + name]), dtype=np.float32)

    return weight


def _modern(name: str) -> str:
    """The present name of a weight; checkpoints of 2018 call scale and shift of a norm gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def write_graph(
    target: Path, source: Path, build: Callable[[Graph], ModelProto], whose: str = "config.json"
) -> None:
    """Writes GRAPH_FILE and WEIGHTS_FILE into the directory `target`. Raises ModelUnavailable where weights
    are missing or do not fit, as `whose` describes them."""
    with open(target / WEIGHTS_FILE, "wb") as file:
        try:
            model = build(Graph(file))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelUnavailable(
                f"{source} does not hold the weights its {whose} describes: {error}"
            ) from None
    (target / GRAPH_FILE).write_bytes(model.SerializeToString())


class Graph:
    """Nodes and weights of a graph under construction; large weights go to `file` at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._file = file

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:
        """A tensor of the graph; its name."""
        from onnx import TensorProto, numpy_helper

        array: NDArray[Any] = np.array(values, dtype=dtype, order="C")
        if array.nbytes < _INLINE_BYTES or dtype is not np.float32:
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
        """The result of an operator; its name."""
        from onnx import helper

        name = out or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"node_{name}", **attributes))
        return name

    def model(
        self, name: str, inputs: Mapping[str, tuple[type, Shape]], outputs: Mapping[str, Shape]
    ) -> ModelProto:
        """The finished graph. `inputs`: dtype (np.int64 or np.float32) and shape by name; `outputs` are
        float32."""
        from onnx import TensorProto, helper

        kinds: dict[type, int] = {np.int64: TensorProto.INT64, np.float32: TensorProto.FLOAT}
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(n, kinds[kind], shape) for n, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()],
            self.weights,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="vectable",
        )

    # -- what transformers are made of -----------------------------------------------------------------------

    def linear(self, name: str, x: str, weight: Weights, scale: float = 1.0) -> str:
        """`x` times the matrix of the layer called `name`, plus its bias, all times `scale`."""
        matrix = weight(f"{name}.weight").T * np.float32(scale)
        bias = weight(f"{name}.bias") * np.float32(scale)
        product = self.node("MatMul", x, self.constant(f"{name}.matrix", matrix))
        return self.node("Add", product, self.constant(f"{name}.bias", bias))

    def norm(self, name: str, x: str, weight: Weights, epsilon: float) -> str:
        """Layer normalisation by the scale and shift of the layer called `name`."""
        scale = self.constant(f"{name}.scale", weight(f"{name}.weight"))
        shift = self.constant(f"{name}.shift", weight(f"{name}.bias"))
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)

    def activation(self, name: str, x: str) -> str:
        """One of ACTIVATIONS."""
        operator, attributes = ACTIVATIONS[name]
        if operator:
            return self.node(operator, x, **attributes)
        steep = "quick" if any(w.name == "quick" for w in self.weights) else self.constant("quick", _QUICK)
        return self.node("Mul", x, self.node("Sigmoid", self.node("Mul", x, steep)))

    def head_shapes(self, hidden: int, heads: int) -> None:
        """Once per graph, before `attend`."""
        self.constant("head_shape", [0, 0, heads, hidden // heads], np.int64)
        self.constant("merged_shape", [0, 0, hidden], np.int64)

    def attend(
        self, layers: tuple[str, str, str], x: str, weight: Weights, head_size: int, bias: str | None
    ) -> str:
        """Attention of `x` to itself by the query, key and value layers named, heads merged again, before
        the output layer. `bias` is added to the scores, by broadcast to (batch, heads, tokens, tokens)."""
        # The scale 1/√size is folded into the query, which saves a pass over batch x heads x tokens².
        query = self._heads(self.linear(layers[0], x, weight, 1.0 / math.sqrt(head_size)), [0, 2, 1, 3])
        key = self._heads(self.linear(layers[1], x, weight), [0, 2, 3, 1])
        value = self._heads(self.linear(layers[2], x, weight), [0, 2, 1, 3])
        scores = self.node("MatMul", query, key)
        if bias is not None:
            scores = self.node("Add", scores, bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        return self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), "merged_shape")

    def _heads(self, x: str, order: list[int]) -> str:
        return self.node("Transpose", self.node("Reshape", x, "head_shape"), perm=order)

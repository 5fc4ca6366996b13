"""Builds the ONNX graph of a BERT-like encoder with its pooling from safetensors weights.

Inputs `input_ids` and `attention_mask`, int64 (batch, tokens); output `embedding`, float32 (batch,
dimensions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import Unsupported
from vectable.providers.graph import ACTIVATIONS, MASKED, Graph, Weights, open_weights, write_graph
from vectable.providers.model_config import Pooling

if TYPE_CHECKING:
    from onnx import ModelProto

GRAPH_VERSION = 1
"""Raise it when the graph changes: cached graphs of another version are built anew."""

_MAX_POOL_MASKED = -1e9
_ANCHOR = "embeddings.word_embeddings.weight"
_RELATIVE_BUCKETS, _RELATIVE_DISTANCE = 32, 128


@dataclass(frozen=True, slots=True)
class _Family:
    """What an architecture calls its layers (in layer `{}`) and its sizes, and where it differs from BERT."""

    query: str = "encoder.layer.{}.attention.self.query"
    key: str = "encoder.layer.{}.attention.self.key"
    value: str = "encoder.layer.{}.attention.self.value"
    out: str = "encoder.layer.{}.attention.output.dense"
    attention_norm: str = "encoder.layer.{}.attention.output.LayerNorm"
    wide: str = "encoder.layer.{}.intermediate.dense"
    narrow: str = "encoder.layer.{}.output.dense"
    output_norm: str = "encoder.layer.{}.output.LayerNorm"
    size: str = "hidden_size"
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    activation: str = "hidden_act"
    token_types: bool = True
    after_padding: bool = False
    """Positions are counted from one behind the padding token's id."""
    relative: bool = False
    """Scores get a bias by the distance of the tokens."""


_ROBERTA = _Family(after_padding=True)
_FAMILIES = {
    "bert": _Family(),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _Family(
        query="transformer.layer.{}.attention.q_lin",
        key="transformer.layer.{}.attention.k_lin",
        value="transformer.layer.{}.attention.v_lin",
        out="transformer.layer.{}.attention.out_lin",
        attention_norm="transformer.layer.{}.sa_layer_norm",
        wide="transformer.layer.{}.ffn.lin1",
        narrow="transformer.layer.{}.ffn.lin2",
        output_norm="transformer.layer.{}.output_layer_norm",
        size="dim",
        heads="n_heads",
        layers="n_layers",
        activation="activation",
        token_types=False,
    ),
    "mpnet": _Family(
        query="encoder.layer.{}.attention.attn.q",
        key="encoder.layer.{}.attention.attn.k",
        value="encoder.layer.{}.attention.attn.v",
        out="encoder.layer.{}.attention.attn.o",
        attention_norm="encoder.layer.{}.attention.LayerNorm",
        token_types=False,
        after_padding=True,
        relative=True,
    ),
}


def buildable(transformer: Mapping[str, Any]) -> bool:
    """Whether a graph can be built for a model with this config.json."""
    family = _FAMILIES.get(str(transformer.get("model_type")))
    return (
        family is not None
        and transformer.get("position_embedding_type", "absolute") == "absolute"
        and transformer.get(family.activation) in ACTIVATIONS
    )


def build_bert(source: Path, transformer: Mapping[str, Any], pooling: Pooling, target: Path) -> None:
    """Writes the graph and its weights into the directory `target` from the safetensors file `source`.
    Raises Unsupported for another architecture, ModelUnavailable for weights that do not fit the config."""
    if not buildable(transformer):
        raise Unsupported(
            f"no graph can be built for a {transformer.get('model_type')!r} model",
            hint=f"use a model that ships onnx/model.onnx, or one of {', '.join(_FAMILIES)}",
        )
    write_graph(target, source, lambda g: _bert(g, open_weights(source, _ANCHOR), transformer, pooling))


def _bert(g: Graph, weight: Weights, transformer: Mapping[str, Any], pooling: Pooling) -> ModelProto:
    from onnx import TensorProto

    family = _FAMILIES[transformer["model_type"]]
    hidden, heads = int(transformer[family.size]), int(transformer[family.heads])
    g.head_shapes(hidden, heads)
    layers = _Layers(g, weight, transformer, family)
    x = layers.embeddings()
    real = g.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    bias = g.node(
        "Mul",
        g.node(
            "Sub",
            g.constant("one", 1.0),
            g.node("Unsqueeze", real, g.constant("axes_heads", [1, 2], np.int64)),
        ),
        g.constant("masked", MASKED),
    )
    if family.relative:
        bias = g.node("Add", bias, layers.relative_bias())
    for i in range(int(transformer[family.layers])):
        x = layers.feed_forward(i, layers.attention(i, x, bias, hidden // heads))
    _pool(g, x, real, pooling)
    tokens = (np.int64, ["batch", "tokens"])
    return g.model(
        str(transformer["model_type"]),
        {"input_ids": tokens, "attention_mask": tokens},
        {"embedding": ["batch", hidden]},
    )


class _Layers:
    """The parts of an encoder, added to a graph; each method returns the name of its output."""

    def __init__(
        self, graph: Graph, weight: Weights, transformer: Mapping[str, Any], family: _Family
    ) -> None:
        self._g, self._weight, self._config, self._family = graph, weight, transformer, family
        self._steps = ""
        self._positions = 0

    def embeddings(self) -> str:
        g, weight = self._g, self._weight
        positions = weight("embeddings.position_embeddings.weight")
        if self._family.after_padding:
            positions = positions[int(self._config.get("pad_token_id") or 0) + 1 :]
        if self._family.token_types:
            # A single text has token type 0 throughout, so that row is folded into the positions.
            positions = positions + weight("embeddings.token_type_embeddings.weight")[0]
        words = g.node("Gather", g.constant("words", weight(_ANCHOR)), "input_ids")
        shape = g.node("Shape", "input_ids")
        count = g.node("Gather", shape, g.constant("axis_tokens", 1, np.int64))
        self._steps = g.node(
            "Range", g.constant("first", 0, np.int64), count, g.constant("step", 1, np.int64)
        )
        self._positions = len(positions)
        placed = g.node("Gather", g.constant("positions", positions), self._steps)
        return self._norm("embeddings.LayerNorm", g.node("Add", words, placed))

    def relative_bias(self) -> str:
        """(1, heads, tokens, tokens), from a table by distance."""
        g = self._g
        most = self._positions - 1
        buckets = relative_bucket(np.arange(-most, most + 1))
        table = self._weight("encoder.relative_attention_bias.weight")[buckets]
        row = g.node("Unsqueeze", self._steps, g.constant("axis_row", [0], np.int64))
        column = g.node("Unsqueeze", self._steps, g.constant("axis_column", [1], np.int64))
        distance = g.node("Add", g.node("Sub", row, column), g.constant("most", most, np.int64))
        by_pair = g.node("Gather", g.constant("relative", table), distance)
        turned = g.node("Transpose", by_pair, perm=[2, 0, 1])
        return g.node("Unsqueeze", turned, g.constant("axis_batch", [0], np.int64))

    def attention(self, i: int, x: str, bias: str, head_size: int) -> str:
        family = self._family
        layers = (family.query.format(i), family.key.format(i), family.value.format(i))
        merged = self._g.attend(layers, x, self._weight, head_size, bias)
        return self._add_norm(family.out.format(i), family.attention_norm.format(i), merged, x)

    def feed_forward(self, i: int, x: str) -> str:
        family = self._family
        wide = self._g.linear(family.wide.format(i), x, self._weight)
        active = self._g.activation(self._config[family.activation], wide)
        return self._add_norm(family.narrow.format(i), family.output_norm.format(i), active, x)

    def _add_norm(self, dense: str, norm: str, x: str, residual: str) -> str:
        return self._norm(norm, self._g.node("Add", self._g.linear(dense, x, self._weight), residual))

    def _norm(self, name: str, x: str) -> str:
        return self._g.norm(name, x, self._weight, float(self._config.get("layer_norm_eps", 1e-12)))


def relative_bucket(distance: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each distance (of the token attended to, less the attending one's position): those near
    by have one each, those farther away share one on a logarithmic scale."""
    half = _RELATIVE_BUCKETS // 2
    exact = half // 2
    far = np.abs(distance)
    near = np.maximum(far, 1).astype(np.float32) / np.float32(exact)
    scaled = np.log(near) / math.log(_RELATIVE_DISTANCE / exact) * (half - exact)
    shared = np.minimum(exact + scaled.astype(np.int64), half - 1)
    found: NDArray[np.int64] = np.where(distance > 0, half, 0) + np.where(far < exact, far, shared)
    return found


def _pool(g: Graph, x: str, real: str, pooling: Pooling) -> None:
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

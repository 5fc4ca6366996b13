"""Builds the ONNX graphs of CLIP's two towers from safetensors weights.

Text: `input_ids`, int64 (batch, tokens), padded on the right with anything → `embedding`. Image:
`pixel_values`, float32 (batch, 3, height, width) → `embedding`. Both float32 (batch, dimensions), projected,
not normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vectable.errors import Unsupported
from vectable.providers.graph import ACTIVATIONS, MASKED, Graph, Weights, open_weights, write_graph

if TYPE_CHECKING:
    from onnx import ModelProto

CLIP_GRAPH_VERSION = 1
"""Raise it when a graph changes: cached graphs of another version are built anew."""

Tower = Literal["text", "image"]
TEXT_DEFAULTS = {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 2,
}
"""What config.json need not state: the reference's defaults, the end of 2021 (where it is the highest id)."""
IMAGE_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_HIGHEST_ID_ENDS = 2
_TEXT_ANCHOR = "text_model.embeddings.token_embedding.weight"


def tower_config(config: Mapping[str, Any], tower: Tower) -> dict[str, Any]:
    """One tower's part of config.json, with the reference's defaults. Raises Unsupported."""
    defaults, part = (TEXT_DEFAULTS, "text_config") if tower == "text" else (IMAGE_DEFAULTS, "vision_config")
    given = {**(config.get(part) or {}), **(config.get(part + "_dict") or {})}
    found = defaults | {name: value for name, value in given.items() if value is not None}
    if found["hidden_act"] not in ACTIVATIONS:
        raise Unsupported(f"a CLIP model with the activation {found['hidden_act']!r} is not run here")
    return found


def build_clip(source: Path, config: Mapping[str, Any], tower: Tower, target: Path) -> None:
    """Writes a tower's graph and weights into the directory `target` from the safetensors file `source`.
    Raises Unsupported, ModelUnavailable for weights that do not fit the config."""
    part = tower_config(config, tower)
    build = _text if tower == "text" else _image
    write_graph(target, source, lambda g: build(g, open_weights(source, _TEXT_ANCHOR), part))


def _text(g: Graph, weight: Weights, config: Mapping[str, Any]) -> ModelProto:
    from onnx import TensorProto

    part = "text_model.embeddings"
    words = g.node("Gather", g.constant("words", weight(f"{part}.token_embedding.weight")), "input_ids")
    count = g.node("Gather", g.node("Shape", "input_ids"), g.constant("axis_tokens", [1], np.int64))
    start, rows = g.constant("start", [0], np.int64), g.constant("axis_rows", [0], np.int64)
    positions = weight(f"{part}.position_embedding.weight")
    placed = g.node("Slice", g.constant("positions", positions), start, count, rows)
    x = g.node("Add", words, placed)
    # Tokens see those before them only, so what pads the end changes nothing.
    later = np.triu(np.full((len(positions), len(positions)), MASKED, np.float32), k=1)
    corner = g.node("Concat", count, count, axis=0)
    origin, both = g.constant("origin", [0, 0], np.int64), g.constant("both_axes", [0, 1], np.int64)
    mask = g.node("Slice", g.constant("later", later), origin, corner, both)
    x = _encoder(g, weight, "text_model", config, x, mask)
    x = g.norm("text_model.final_layer_norm", x, weight, config["layer_norm_eps"])
    end = config["eos_token_id"]
    if end == _HIGHEST_ID_ENDS:
        last = g.node("ArgMax", "input_ids", axis=1, keepdims=1)
    else:
        ends = g.node("Equal", "input_ids", g.constant("end", int(end), np.int64))
        last = g.node("ArgMax", g.node("Cast", ends, to=TensorProto.INT32), axis=1, keepdims=1)
    pooled = g.node("GatherND", x, last, batch_dims=1)
    g.node("MatMul", pooled, g.constant("projection", weight("text_projection.weight").T), out="embedding")
    size = weight("text_projection.weight").shape[0]
    return g.model(
        "clip_text", {"input_ids": (np.int64, ["batch", "tokens"])}, {"embedding": ["batch", size]}
    )


def _image(g: Graph, weight: Weights, config: Mapping[str, Any]) -> ModelProto:
    part, patch, hidden = "vision_model.embeddings", int(config["patch_size"]), int(config["hidden_size"])
    kernel = g.constant("patches", weight(f"{part}.patch_embedding.weight"))
    cut = g.node("Conv", "pixel_values", kernel, strides=[patch, patch], kernel_shape=[patch, patch])
    flat = g.node("Reshape", cut, g.constant("flat", [0, hidden, -1], np.int64))
    patches = g.node("Transpose", flat, perm=[0, 2, 1])
    positions = weight(f"{part}.position_embedding.weight")
    placed = g.node("Add", patches, g.constant("positions", positions[1:]))
    # Every image begins with the class token at position 0: one row, repeated for the batch.
    first = (weight(f"{part}.class_embedding").reshape(-1) + positions[0])[None, None]
    batch = g.node(
        "Slice", g.node("Shape", "pixel_values"), *(g.constant(n, [v], np.int64) for n, v in _BATCH)
    )
    shape = g.node("Concat", batch, g.constant("one_row", [1, hidden], np.int64), axis=0)
    x = g.node("Concat", g.node("Expand", g.constant("class", first), shape), placed, axis=1)
    x = g.norm("vision_model.pre_layrnorm", x, weight, config["layer_norm_eps"])
    x = _encoder(g, weight, "vision_model", config, x, None)
    pooled = g.node("Gather", x, g.constant("first_token", 0, np.int64), axis=1)
    pooled = g.norm("vision_model.post_layernorm", pooled, weight, config["layer_norm_eps"])
    g.node("MatMul", pooled, g.constant("projection", weight("visual_projection.weight").T), out="embedding")
    size, edge = weight("visual_projection.weight").shape[0], int(config["image_size"])
    shape_in: list[str | int] = ["batch", 3, edge, edge]
    return g.model("clip_image", {"pixel_values": (np.float32, shape_in)}, {"embedding": ["batch", size]})


_BATCH = (("batch_from", 0), ("batch_to", 1))


def _encoder(
    g: Graph, weight: Weights, tower: str, config: Mapping[str, Any], x: str, mask: str | None
) -> str:
    """The layers of a tower: each normalises before it attends and before it feeds forward."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    epsilon = float(config["layer_norm_eps"])
    g.head_shapes(hidden, heads)
    for i in range(int(config["num_hidden_layers"])):
        layer = f"{tower}.encoder.layers.{i}"
        names = tuple(f"{layer}.self_attn.{n}_proj" for n in ("q", "k", "v"))
        normed = g.norm(f"{layer}.layer_norm1", x, weight, epsilon)
        merged = g.attend((names[0], names[1], names[2]), normed, weight, hidden // heads, mask)
        x = g.node("Add", x, g.linear(f"{layer}.self_attn.out_proj", merged, weight))
        wide = g.linear(f"{layer}.mlp.fc1", g.norm(f"{layer}.layer_norm2", x, weight, epsilon), weight)
        narrow = g.linear(f"{layer}.mlp.fc2", g.activation(config["hidden_act"], wide), weight)
        x = g.node("Add", x, narrow)
    return x

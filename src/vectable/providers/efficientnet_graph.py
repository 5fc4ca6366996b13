"""Builds the ONNX graph of EfficientNet-Lite0 without its classifier from a PyTorch checkpoint.

Input `pixel_values`, float32 (batch, 3, 224, 224); output `embedding`, float32 (batch, 1280): the mean of the
last features over the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vectable.providers.graph import Graph, Weights, write_graph
from vectable.providers.torch_file import TorchFile

if TYPE_CHECKING:
    from onnx import ModelProto

EFFICIENTNET_GRAPH_VERSION = 1
"""Raise it when the graph changes: cached graphs of another version are built anew."""
EDGE, DIMENSIONS = 224, 1280

_BLOCKS, _HALVING = 16, frozenset({1, 3, 5, 11})
"""Blocks, and those that halve the image's edge."""
_EPSILON = 1e-3


def build_efficientnet(source: Path, target: Path) -> None:
    """Writes the graph and its weights into the directory `target` from the checkpoint `source`. Raises
    ModelUnavailable for another checkpoint."""
    tensors = TorchFile(source)

    def weight(name: str) -> Any:
        return np.asarray(tensors.get_tensor(name), dtype=np.float32)

    write_graph(target, source, lambda g: _efficientnet(g, weight), "architecture")


def _efficientnet(g: Graph, weight: Weights) -> ModelProto:
    g.constant("zero", 0.0)
    g.constant("six", 6.0)
    x = _active(g, _convolution(g, weight, "pixel_values", "_conv_stem", "_bn0", stride=2))
    for i in range(_BLOCKS):
        x = _block(g, weight, x, f"_blocks.{i}", widens=i > 0, stride=2 if i in _HALVING else 1)
    x = _active(g, _convolution(g, weight, x, "_conv_head", "_bn1"))
    g.node("Flatten", g.node("GlobalAveragePool", x), out="embedding")
    return g.model(
        "efficientnet_lite0",
        {"pixel_values": (np.float32, ["batch", 3, EDGE, EDGE])},
        {"embedding": ["batch", DIMENSIONS]},
    )


def _block(g: Graph, weight: Weights, x: str, name: str, *, widens: bool, stride: int) -> str:
    wide = x
    if widens:
        wide = _active(g, _convolution(g, weight, x, f"{name}._expand_conv", f"{name}._bn0"))
    depth = _convolution(
        g, weight, wide, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, depthwise=True
    )
    narrow = _convolution(g, weight, _active(g, depth), f"{name}._project_conv", f"{name}._bn2")
    into = weight(f"{name}._{'expand' if widens else 'depthwise'}_conv.weight").shape[1 if widens else 0]
    keeps = stride == 1 and into == weight(f"{name}._project_conv.weight").shape[0]
    return g.node("Add", narrow, x) if keeps else narrow


def _convolution(
    g: Graph, weight: Weights, x: str, name: str, norm: str, *, stride: int = 1, depthwise: bool = False
) -> str:
    """A convolution with the batch normalisation behind it folded into its weights."""
    kernel = weight(f"{name}.weight")
    scale = weight(f"{norm}.weight").astype(np.float64) / np.sqrt(weight(f"{norm}.running_var") + _EPSILON)
    shift = weight(f"{norm}.bias") - weight(f"{norm}.running_mean") * scale
    folded = (kernel * scale[:, None, None, None]).astype(np.float32)
    return g.node(
        "Conv",
        x,
        g.constant(f"{name}.kernel", folded),
        g.constant(f"{name}.shift", shift.astype(np.float32)),
        auto_pad="SAME_UPPER",
        strides=[stride, stride],
        kernel_shape=list(kernel.shape[2:]),
        group=len(kernel) if depthwise else 1,
    )


def _active(g: Graph, x: str) -> str:
    return g.node("Clip", x, "zero", "six")

"""A model directory as hubs ship them: an ONNX graph that gives token vectors and takes token types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SIZE = 24


def write_shipped_graph(
    directory: Path, tokenizer_from: Path, *, pooling: str = "mean", prompts: Mapping[str, str] | None = None
) -> Path:
    """Token vectors are rows of a random table, plus what depends on the type: enough to see pooling, order,
    padding and the inputs given. The tokenizer is copied from another model."""
    from onnx import TensorProto, helper, numpy_helper, save

    (directory / "onnx").mkdir(parents=True)
    (directory / "1_Pooling").mkdir()
    shutil.copy(tokenizer_from / "tokenizer.json", directory)
    files = {
        "config.json": {"model_type": "mpnet", "hidden_size": SIZE, "max_position_embeddings": 514},
        "sentence_bert_config.json": {"max_seq_length": 128},
        "config_sentence_transformers.json": {"prompts": dict(prompts or {})},
        "modules.json": [
            {"type": "sentence_transformers.models.Transformer", "path": ""},
            {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": SIZE,
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_max_tokens": pooling == "max",
            "pooling_mode_mean_sqrt_len_tokens": pooling == "mean_sqrt_len",
        },
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["words", "kinds"], ["last_hidden_state"]),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        nodes,
        "shipped",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", SIZE])],
        [
            numpy_helper.from_array(table(), "table"),
            numpy_helper.from_array(np.eye(2, SIZE, dtype=np.float32), "types"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save(model, str(directory / "onnx" / "model.onnx"))
    return directory


def table() -> np.ndarray:
    """The token vectors: float32 (30522, SIZE); the type vector of type 0 is added to them by the graph."""
    return np.random.default_rng(5).normal(size=(30_522, SIZE)).astype(np.float32)

"""BERT in plain numpy, float64, one text at a time: what the built graphs must equal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float64]
WORDS = ["a", "man", "is", "eating", "food", "bread", "the", "plane", "##s", "##ing", "over", "quick", "."]


def bert_vector(weights: Mapping[str, Any], config: Mapping[str, Any], ids: list[int], pooling: str) -> Array:
    """The pooled vector of one text by its token ids: float64 (hidden size,)."""
    eps, heads = config["layer_norm_eps"], config["num_attention_heads"]

    def get(name: str) -> Array:
        return np.asarray(weights[name], dtype=np.float64)

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return scaled * get(f"{name}.weight") + get(f"{name}.bias")

    def linear(x: Array, name: str) -> Array:
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    e = "embeddings."
    x = get(e + "word_embeddings.weight")[ids] + get(e + "position_embeddings.weight")[: len(ids)]
    x = norm(x + get(e + "token_type_embeddings.weight")[0], e + "LayerNorm")
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q, k, v = (
            linear(x, f"{p}attention.self.{n}").reshape(len(ids), heads, -1).transpose(1, 0, 2)
            for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weight / weight.sum(-1, keepdims=True)) @ v
        merged = mixed.transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(linear(merged, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
        wide = activation(linear(x, p + "intermediate.dense"), config["hidden_act"])
        x = norm(linear(wide, p + "output.dense") + x, p + "output.LayerNorm")
    return pool(x, pooling)


def activation(x: Array, name: str) -> Array:
    """gelu (exact), gelu_new (tanh) or relu."""
    if name == "relu":
        return np.maximum(x, 0)
    if name == "gelu":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def pool(x: Array, pooling: str) -> Array:
    """Token vectors (tokens, size) to one vector (size,)."""
    if pooling == "cls":
        return x[0]
    if pooling == "max":
        return x.max(axis=0)
    return x.sum(axis=0) / (math.sqrt(len(x)) if pooling == "mean_sqrt_len" else len(x))


def load_reference(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights, config) of a model's directory."""
    return load_file(directory / "model.safetensors"), json.loads((directory / "config.json").read_text())


def write_tiny_bert(
    directory: Path,
    *,
    pooling: str = "mean",
    activation: str = "gelu",
    normalizes: bool = True,
    prefix: str = "",
    max_tokens: int = 12,
    positions: int = 32,
    prompts: Mapping[str, str] | None = None,
    seed: int = 7,
) -> Path:
    """A random BERT of 2 layers and 16 dimensions in the sentence-transformers layout."""
    config = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 24,
        "hidden_act": activation,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": positions,
        "vocab_size": 5 + len(WORDS),
        "pad_token_id": 0,
    }
    directory.mkdir(parents=True, exist_ok=True)
    save_file(_random_weights(config, prefix, seed), directory / "model.safetensors")
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")] + [("Normalize", "2_Normalize")] * normalizes
    files = {
        "config.json": config,
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": 16,
            "pooling_mode_cls_token": pooling == "cls",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": pooling == "max",
            "pooling_mode_mean_sqrt_len_tokens": pooling == "mean_sqrt_len",
        },
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": dict(prompts or {})},
    }
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    write_tokenizer(directory / "tokenizer.json")
    return directory


def _random_weights(config: Mapping[str, Any], prefix: str, seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    h, wide = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], h),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (2, h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
    }
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        for name, out, into in (
            *((f"attention.self.{n}", h, h) for n in ("query", "key", "value")),
            ("attention.output.dense", h, h),
            ("intermediate.dense", wide, h),
            ("output.dense", h, wide),
        ):
            shapes[f"{p}{name}.weight"], shapes[f"{p}{name}.bias"] = (out, into), (out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{p}{name}.weight"] = shapes[f"{p}{name}.bias"] = (h,)
    return {prefix + name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def write_tokenizer(path: Path) -> None:
    """A WordPiece tokenizer of WORDS that, like the packaged one, pads and truncates as it likes."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=8, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(max_length=8)
    tokenizer.save(str(path))

"""A model of BGE-M3's shape from a local path: XLM-R, 1,024 dimensions, CLS pooling, 8,192 tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import vectable
from tests.providers.reference import bert_vector
from vectable import providers
from vectable.interfaces import EmbeddingProvider
from vectable.providers.tokenization import Tokenization
from vectable.testing.provider_suite import embed

WORDS = [f"w{i}" for i in range(50)]
PROMPTS = {"query": "w1 w2", "passage": ""}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer and one head of attention, so that 8,192 tokens take seconds; all else as BGE-M3 has it."""
    target = tmp_path_factory.mktemp("bge-m3-shaped") / "model"
    (target / "1_Pooling").mkdir(parents=True)
    config = {
        "model_type": "xlm-roberta",
        "hidden_size": 1024,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 8194,
        "pad_token_id": 1,
        "vocab_size": 4 + len(WORDS),
    }
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    files = {
        "config.json": config,
        "modules.json": [
            {"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 1024, "pooling_mode_cls_token": True},
        "sentence_bert_config.json": {"max_seq_length": 8192},
        "config_sentence_transformers.json": {"prompts": PROMPTS},
        "tokenizer_config.json": {"pad_token": "<pad>", "model_max_length": 8192},
    }
    for name, content in files.items():
        (target / name).write_text(json.dumps(content))
    save_file(_weights(), target / "model.safetensors")
    _tokenizer().save(str(target / "tokenizer.json"))
    return target


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    layer = "encoder.layer.0."
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (4 + len(WORDS), 1024),
        "embeddings.position_embeddings.weight": (8194, 1024),
        "embeddings.token_type_embeddings.weight": (1, 1024),
        "embeddings.LayerNorm.weight": (1024,),
        "embeddings.LayerNorm.bias": (1024,),
    }
    dense = {f"attention.self.{n}": (1024, 1024) for n in ("query", "key", "value")}
    dense |= {"attention.output.dense": (1024, 1024), "intermediate.dense": (64, 1024)}
    dense |= {"output.dense": (1024, 64)}
    for name, shape in dense.items():
        shapes[f"{layer}{name}.weight"], shapes[f"{layer}{name}.bias"] = shape, shape[:1]
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes[f"{layer}{name}.weight"] = shapes[f"{layer}{name}.bias"] = (1024,)
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def _tokenizer() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def provider(directory: Path, graph_cache: Path) -> EmbeddingProvider:
    return providers.load(str(directory), cache_dir=graph_cache, allow_paths=True)


def test_its_configuration_is_read_from_its_files(provider: EmbeddingProvider, directory: Path) -> None:
    assert (provider.dimensions, provider.max_tokens, provider.normalizes) == (1024, 8192, True)
    assert (provider.prompt("query"), provider.prompt("document")) == ("w1 w2", "")
    card = providers.resolve(str(directory), allow_paths=True)
    assert (card.dimensions, card.max_tokens, card.type) == (1024, 8192, "document")


def test_vectors_equal_plain_numpy(provider: EmbeddingProvider, directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    # The first of its positions stands behind the padding token's id.
    positions = weights["embeddings.position_embeddings.weight"][2:]
    weights["embeddings.position_embeddings.weight"] = positions
    config = json.loads((directory / "config.json").read_text())
    rng = np.random.default_rng(4)
    chosen = [rng.integers(0, len(WORDS), n) for n in (1, 5, 300)]
    texts = [" ".join(WORDS[i] for i in one) for one in chosen]
    ids = [[0, *(int(i) + 4 for i in one), 2] for one in chosen]
    expected = [bert_vector(weights, config, one, "cls") for one in ids]
    np.testing.assert_allclose(embed(provider, texts), expected, atol=1e-4)
    asked = [bert_vector(weights, config, [0, 5, 6, *one[1:]], "cls") for one in ids]
    np.testing.assert_allclose(embed(provider, [f" {text}" for text in texts], "query"), asked, atol=1e-4)


@pytest.mark.slow
def test_the_8000th_word_counts_and_what_follows_the_8192nd_token_does_not(
    provider: EmbeddingProvider, directory: Path
) -> None:
    rng = np.random.default_rng(5)
    words = [WORDS[i] for i in rng.integers(0, len(WORDS), 8190)]
    other = [*words[:8000], "w3" if words[8000] != "w3" else "w4", *words[8001:], "w9", "w9"]
    longer = [*words, "w7", "w8"]
    assert provider.lengths([" ".join(longer)]) == [8192]
    tokens = Tokenization(directory, provider.max_tokens, {})
    whole, cut = tokens.encode([" ".join(words), " ".join(longer)])
    np.testing.assert_array_equal(whole, cut)
    first, changed = embed(provider, [" ".join(one) for one in (words, other)])
    assert np.abs(first - changed).max() > 1e-7


def test_a_table_uses_the_prompt_for_queries(directory: Path, graph_cache: Path) -> None:
    with vectable.connect("memory:", fake_embeddings=False, cache_dir=str(graph_cache)) as db:
        table = db.create_table("t", {"text": "string"})
        table.insert([{"id": "a", "text": "w1 w2 w3 w4"}, {"id": "b", "text": "w3 w4"}])
        table.add_embedding_column("e", source="text", model=str(directory))
        assert [hit["id"] for hit in table.search(" w3 w4", limit=1)] == ["a"]

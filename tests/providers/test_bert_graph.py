"""Built graphs equal BERT as written down in plain numpy, and the golden figures of the real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from tests.providers.reference import bert_vector, load_reference, write_tiny_bert
from vectable.errors import ModelUnavailable, Unsupported
from vectable.interfaces import EmbeddingProvider
from vectable.providers.model_config import POOLINGS
from vectable.testing.provider_suite import embed

TEXTS = ["a man", "the quick plane is eating bread over food .", "man man man", ""]
IDS = [[2, 5, 6, 3], [2, 11, 16, 12, 7, 8, 10, 15, 9, 17, 3], [2, 6, 6, 6, 3], [2, 3]]

Load = Callable[[Path], EmbeddingProvider]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_equals_plain_numpy(pooling: str, tmp_path: Path, load_path: Load) -> None:
    directory = write_tiny_bert(tmp_path / "tiny", pooling=pooling)
    weights, config = load_reference(directory)
    expected = np.array([bert_vector(weights, config, ids, pooling) for ids in IDS])
    np.testing.assert_allclose(embed(load_path(directory), TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_every_activation_equals_plain_numpy(activation: str, tmp_path: Path, load_path: Load) -> None:
    directory = write_tiny_bert(tmp_path / "tiny", activation=activation)
    weights, config = load_reference(directory)
    expected = np.array([bert_vector(weights, config, ids, "mean") for ids in IDS])
    np.testing.assert_allclose(embed(load_path(directory), TEXTS), expected, atol=2e-5)


def test_weights_may_carry_a_prefix_and_the_old_names_of_norms(tmp_path: Path, load_path: Load) -> None:
    plain = write_tiny_bert(tmp_path / "plain")
    prefixed = write_tiny_bert(tmp_path / "prefixed", prefix="bert.")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(prefixed / "model.safetensors").items()
    }
    save_file(old, prefixed / "model.safetensors")
    np.testing.assert_array_equal(embed(load_path(prefixed), TEXTS), embed(load_path(plain), TEXTS))


def test_half_precision_weights_are_computed_in_float32(tmp_path: Path, load_path: Load) -> None:
    directory = write_tiny_bert(tmp_path / "tiny")
    halves = {n: v.astype(np.float16) for n, v in load_file(directory / "model.safetensors").items()}
    save_file(halves, directory / "model.safetensors")
    weights, config = load_reference(directory)
    expected = np.array([bert_vector(weights, config, ids, "mean") for ids in IDS])
    np.testing.assert_allclose(embed(load_path(directory), TEXTS), expected, atol=2e-5)


def test_vectors_are_not_yet_normalised(tiny_bert: Path, load_path: Load) -> None:
    provider = load_path(tiny_bert)
    assert provider.normalizes
    assert np.abs(np.linalg.norm(embed(provider, TEXTS), axis=1) - 1).max() > 0.1


@pytest.mark.parametrize(
    "change", [{"model_type": "electra"}, {"position_embedding_type": "relative_key"}, {"hidden_act": "silu"}]
)
def test_other_architectures_are_refused(change: dict[str, str], tiny_bert: Path, load_path: Load) -> None:
    config = json.loads((tiny_bert / "config.json").read_text())
    (tiny_bert / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(Unsupported, match="weights"):
        load_path(tiny_bert)


def test_missing_weights_are_named(tiny_bert: Path, load_path: Load) -> None:
    weights = load_file(tiny_bert / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, tiny_bert / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        load_path(tiny_bert)


def test_damaged_weights_are_a_clear_error(tiny_bert: Path, load_path: Load) -> None:
    path = tiny_bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_path(tiny_bert)


def test_golden_cosine(minilm: EmbeddingProvider) -> None:
    first, second = embed(minilm, ["A man is eating food.", "A man is eating a piece of bread."])
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    assert cosine == pytest.approx(0.75534, abs=1e-4)


def test_the_real_model_equals_plain_numpy(minilm: EmbeddingProvider, minilm_directory: Path) -> None:
    texts = ["A man is eating food.", "Vectors, indexes and tables: 1,024 of each. " * 4]
    tokenizer = Tokenizer.from_file(str(minilm_directory / "tokenizer.json"))
    tokenizer.no_padding()
    weights, config = load_reference(minilm_directory)
    expected = np.array([bert_vector(weights, config, tokenizer.encode(t).ids, "mean") for t in texts])
    np.testing.assert_allclose(embed(minilm, texts), expected, atol=1e-5)


def test_256_tokens_count_and_not_128(minilm: EmbeddingProvider) -> None:
    text = "one two three four five six seven eight nine ten " * 30
    words = text.split()
    assert minilm.lengths([" ".join(words[:200]), text]) == [202, 256]
    whole, half, exact = embed(minilm, [text, " ".join(words[:126]), " ".join(words[:254])])
    assert np.abs(whole - half).max() > 1e-3
    np.testing.assert_allclose(whole, exact, atol=1e-5)


def test_identity_names_weights_runtime_pooling_and_limit(minilm: EmbeddingProvider) -> None:
    assert str(minilm.model) == (
        "sentence-transformers/all-MiniLM-L6-v2@onnx-fp32:"
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db:mean:256"
    )
    assert (minilm.dimensions, minilm.max_tokens, minilm.normalizes) == (384, 256, True)
    assert minilm.prompt("query") == minilm.prompt("document") == ""


@pytest.mark.parametrize("change", ["pooling", "weights", "limit"])
def test_identity_changes_with_what_changes_the_vectors(change: str, tmp_path: Path, load_path: Load) -> None:
    before = load_path(write_tiny_bert(tmp_path / "a"))
    options: dict[str, dict[str, object]] = {
        "pooling": {"pooling": "cls"},
        "weights": {"seed": 8},
        "limit": {"max_tokens": 10},
    }
    after = load_path(write_tiny_bert(tmp_path / "b", **options[change]))  # type: ignore[arg-type]
    assert before.model.fingerprint != after.model.fingerprint

"""Run by test_sentence_transformers.py in an environment that has the extra `sentence-transformers`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

import vectable
from tests.providers.clip_forms import WHOLE
from tests.providers.reference import write_tiny_bert
from tests.providers.test_golden import picture, read
from vectable import providers
from vectable.errors import ModelUnavailable, Unsupported
from vectable.interfaces import EmbeddingProvider
from vectable.providers.images import Preprocessing, pixels
from vectable.providers.weights import locate
from vectable.testing.provider_suite import ProviderSuite, embed

SUFFIX = "?runtime=sentence-transformers"
TEXTS = ["a man is eating food .", "the quick plane", "", "over the bread " * 9]


def load(directory: Path | str) -> Any:
    return providers.load(f"{directory}{SUFFIX}", allow_paths=True, fake=False)


class TestSuite(ProviderSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingProvider:
        directory = tmp_path_factory.mktemp("suite") / "tiny"
        provider: EmbeddingProvider = load(write_tiny_bert(directory, max_tokens=32))
        return provider


def test_equals_the_graph_on_the_default_model() -> None:
    located = locate("all-MiniLM-L6-v2")
    assert located is not None
    mine, theirs = load(located.directory), providers.load("all-MiniLM-L6-v2", fake=False)
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "x " * 500]
    np.testing.assert_allclose(embed(mine, texts), embed(theirs, texts), atol=2e-5)
    one, other = embed(mine, texts[:2])
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert cosine == pytest.approx(0.75534, abs=1e-4)
    assert (mine.max_tokens, mine.lengths(texts)) == (theirs.max_tokens, theirs.lengths(texts))
    assert mine.normalizes == theirs.normalizes


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len"])
def test_poolings_and_prompts_equal_those_of_the_graph(pooling: str, tmp_path: Path) -> None:
    directory = write_tiny_bert(
        tmp_path / "tiny", pooling=pooling, normalizes=False, prompts={"query": "the ", "passage": "food "}
    )
    mine, theirs = load(directory), providers.load(str(directory), cache_dir=tmp_path, allow_paths=True)
    for purpose in ("query", "document"):
        assert mine.prompt(purpose) == theirs.prompt(purpose) != ""
        np.testing.assert_allclose(embed(mine, TEXTS, purpose), embed(theirs, TEXTS, purpose), atol=2e-5)
    assert not mine.normalizes


def decoder(directory: Path) -> SentenceTransformer:
    """A random decoder with a layer behind its pooling: nothing a graph is built for here."""
    torch.manual_seed(5)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(write_tiny_bert(directory / "words") / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=24,
    )
    config = Qwen2Config(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    Qwen2Model(config).save_pretrained(directory / "inner")
    tokenizer.save_pretrained(directory / "inner")
    words = Transformer(str(directory / "inner"), max_seq_length=24)
    model = SentenceTransformer(
        modules=[words, Pooling(16, pooling_mode="lasttoken"), Dense(16, 10)], device="cpu"
    )
    model.save(str(directory / "whole"))
    return model


def test_models_that_no_graph_is_built_for_run_too(tmp_path: Path) -> None:
    reference = decoder(tmp_path)
    whole = str(tmp_path / "whole")
    with pytest.raises(Unsupported):
        providers.load(whole, allow_paths=True)
    provider = load(whole)
    expected = reference.encode(TEXTS[:2])
    np.testing.assert_allclose(embed(provider, TEXTS[:2]), expected, atol=1e-5)
    card = providers.resolve(whole + SUFFIX, allow_paths=True)
    assert (card.dimensions, card.id) == (provider.dimensions, provider.model.id) == (10, whole + SUFFIX)
    assert card.cached


def test_the_identity_is_that_of_the_weights(tmp_path: Path) -> None:
    one, same = (load(write_tiny_bert(tmp_path / name)).model for name in ("one", "same"))
    other = load(write_tiny_bert(tmp_path / "other", seed=8)).model
    pooled = load(write_tiny_bert(tmp_path / "pooled", pooling="cls")).model
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, other.fingerprint, pooled.fingerprint}) == 3
    assert "sentence-transformers" in one.fingerprint


def test_clip_embeds_texts_and_images() -> None:
    golden, provider = read("clip-whole"), load(WHOLE)
    assert provider.modalities == {"text", "image"}
    pictures = [picture(*size) for size in golden["sizes"]]
    np.testing.assert_allclose(embed(provider, golden["given"][:3]), golden["texts"][:3], atol=5e-5)
    mixed = embed(provider, [pictures[0], golden["given"][0], pictures[1]])
    expected = [golden["images"][0], golden["texts"][0], golden["images"][1]]
    np.testing.assert_allclose(mixed, expected, atol=5e-5)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "CMYK"])
@pytest.mark.parametrize("size", [(40, 31), (31, 90), (1, 9), (300, 2)])
def test_pixels_equal_the_reference_in_every_mode(mode: str, size: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(picture(*size)))
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(size))
    encoded = io.BytesIO()
    image.convert(mode).save(encoded, "TIFF" if mode == "CMYK" else "PNG")
    shape = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
    (expected,) = CLIPImageProcessorPil(**shape)(Image.open(encoded))["pixel_values"]
    found = pixels(encoded.getvalue(), Preprocessing(24, None, (24, 24)))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_it_runs_on_the_gpu_where_there_is_one(tmp_path: Path) -> None:
    provider = load(write_tiny_bert(tmp_path / "tiny"))
    assert provider.device.startswith("cuda") == torch.cuda.is_available()


def test_a_table_is_embedded_and_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTABLE_FAKE_EMBEDDINGS", "0")
    model = f"{write_tiny_bert(tmp_path / 'tiny')}{SUFFIX}"
    with vectable.connect("memory:", cache_dir=str(tmp_path)) as db:
        table = db.create_table("t", {"title": "string"})
        table.insert([{"id": str(i), "title": text} for i, text in enumerate(TEXTS[:2])])
        table.add_embedding_column("e", source="title", model=model)
        assert [hit["id"] for hit in table.search(TEXTS[1], limit=1)] == ["1"]


@pytest.mark.parametrize("name", ["no/such-model", "all-mpnet-base-v2"])
def test_what_cannot_be_had_is_a_clear_error(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="cannot load"):
        providers.load(name + SUFFIX, fake=False)

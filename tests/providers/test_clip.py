"""CLIP models: every form of their files gives the reference's vectors; what is no CLIP says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.providers.clip_forms import FORMS, WHOLE, write_clip
from tests.providers.test_golden import picture, read
from vectable import providers
from vectable.core.recipe import Tokens
from vectable.errors import InvalidInput, ModelUnavailable, ProviderError, Unsupported
from vectable.interfaces import EmbeddingProvider
from vectable.providers.tokenization import Tokenization
from vectable.testing.provider_suite import ImageSuite, ProviderSuite, embed

Load = Callable[[Path], EmbeddingProvider]
GOLDEN = read("clip-whole")
PICTURES = [picture(*size) for size in GOLDEN["sizes"]]


class TestClip(ProviderSuite, ImageSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, tmp_path_factory: pytest.TempPathFactory, graph_cache: Path) -> EmbeddingProvider:
        directory = write_clip(tmp_path_factory.mktemp("clip") / "tiny")
        return providers.load(str(directory), cache_dir=graph_cache, allow_paths=True)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_vectors_of_the_reference(form: str, tmp_path: Path, load_path: Load) -> None:
    provider = load_path(write_clip(tmp_path / "clip", form))
    np.testing.assert_allclose(embed(provider, GOLDEN["given"]), GOLDEN["texts"], atol=5e-5)
    np.testing.assert_allclose(embed(provider, PICTURES), GOLDEN["images"], atol=5e-5)
    assert (provider.dimensions, provider.max_tokens) == (12, 32)
    assert provider.modalities == {"text", "tokens", "image"}
    assert provider.normalizes == (form == "sentence-transformers")
    assert provider.prompt("query") == ""


def test_texts_and_images_may_come_mixed(tmp_path: Path, load_path: Load) -> None:
    provider = load_path(write_clip(tmp_path / "clip"))
    mixed = [GOLDEN["given"][0], PICTURES[1], GOLDEN["given"][1], PICTURES[0]]
    expected = [GOLDEN["texts"][0], GOLDEN["images"][1], GOLDEN["texts"][1], GOLDEN["images"][0]]
    np.testing.assert_allclose(embed(provider, mixed), expected, atol=5e-5)
    assert provider.lengths(mixed) == [len(GOLDEN["ids"][0]), 1, len(GOLDEN["ids"][1]), 1]


@pytest.mark.parametrize("form", ["safetensors", "sentence-transformers"])
def test_token_ids_equal_the_reference_from_one_file_and_from_two(form: str, tmp_path: Path) -> None:
    directory = write_clip(tmp_path / "clip", form)
    root = directory / "0_CLIPModel" if form == "sentence-transformers" else directory
    found = Tokenization(root, 32, {}).encode(GOLDEN["given"])
    assert [list(ids) for ids in found] == GOLDEN["ids"]


def test_token_ids_are_embedded_as_their_text_is(tmp_path: Path, load_path: Load) -> None:
    provider = load_path(write_clip(tmp_path / "clip"))
    given = [Tokens(tuple(ids)) for ids in GOLDEN["ids"][:3]]
    np.testing.assert_allclose(embed(provider, given), GOLDEN["texts"][:3], atol=5e-5)
    with pytest.raises(InvalidInput, match="520 is no token"):
        embed(provider, [Tokens((520,))])


def test_the_card_comes_from_the_files(tmp_path: Path) -> None:
    directory = write_clip(tmp_path / "clip")
    card = providers.resolve(str(directory), allow_paths=True)
    assert (card.dimensions, card.max_tokens, card.type) == (12, 32, "multimodal")
    assert (card.runtime, card.precision, card.modalities) == ("clip", "fp32", ("text", "image"))


def test_known_clip_models_are_found_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    name = "openai/clip-vit-base-patch32"
    assert not providers.resolve(name).cached
    snapshot = tmp_path / "hub" / "models--openai--clip-vit-base-patch32" / "snapshots" / "abc"
    write_clip(snapshot, "sentence-transformers")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert providers.resolve(name).cached
    provider = providers.load(name, cache_dir=tmp_path / "graphs", allow_download=False)
    np.testing.assert_allclose(embed(provider, PICTURES[:1]), GOLDEN["images"][:1], atol=5e-5)
    assert provider.model.id == name


def test_the_identity_names_weights_preprocessing_and_token_limit(tmp_path: Path, load_path: Load) -> None:
    one = load_path(write_clip(tmp_path / "one"))
    other = write_clip(tmp_path / "other")
    assert load_path(other).model.fingerprint == one.model.fingerprint
    prepared = json.loads((other / "processor_config.json").read_text())
    prepared["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
    (other / "processor_config.json").write_text(json.dumps(prepared))
    assert load_path(other).model.fingerprint != one.model.fingerprint


def test_one_bad_image_is_named_by_what_is_wrong_with_it(tmp_path: Path, load_path: Load) -> None:
    provider = load_path(write_clip(tmp_path / "clip"))
    with pytest.raises(InvalidInput, match="not an image"):
        embed(provider, [PICTURES[0], b"nothing"])


def test_files_that_are_missing_or_damaged_are_named(tmp_path: Path, load_path: Load) -> None:
    without = write_clip(tmp_path / "without")
    (without / "model.safetensors").unlink()
    with pytest.raises(
        Unsupported, match=r"lacks weights \(model.safetensors, .* onnx/vision_model.onnx\) \(put"
    ):
        load_path(without)
    cut = write_clip(tmp_path / "cut")
    whole = (WHOLE / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[:9_000])
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_path(cut)
    other = write_clip(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["projection_dim"] = 13
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match="12 components"):
        load_path(other)
    config["projection_dim"] = "many"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailable, match="many"):
        load_path(other)


LACKING = {
    "the text tower": ("towers", ["onnx/text_model.onnx"], [], "onnx/text_model.onnx, the other tower"),
    "the image tower": ("towers", ["onnx/vision_model.onnx"], [], "onnx/vision_model.onnx, the other tower"),
    "shards": (
        "safetensors",
        ["model.safetensors"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        r"weights \(.*\); model-00001-of-00002.safetensors, model-00002-of-00002.safetensors are not read",
    ),
    "quantised": (
        "towers",
        ["onnx/text_model.onnx", "onnx/vision_model.onnx"],
        ["onnx/text_model_quantized.onnx"],
        r"weights \(.*\); onnx/text_model_quantized.onnx is not read",
    ),
    "a tokenizer": ("safetensors", ["tokenizer.json"], [], "a tokenizer .* merges.txt. .put"),
    "both": ("safetensors", ["tokenizer.json", "model.safetensors"], [], "a tokenizer .* and weights "),
    "a half": ("sentence-transformers", ["0_CLIPModel/merges.txt"], [], "a tokenizer "),
}


@pytest.mark.parametrize(("form", "gone", "instead", "words"), LACKING.values(), ids=LACKING)
def test_what_a_directory_lacks_is_named(
    tmp_path: Path, load_path: Load, form: str, gone: list[str], instead: list[str], words: str
) -> None:
    directory = write_clip(tmp_path / "clip", form)
    for name in gone:
        (directory / name).unlink()
    for name in instead:
        (directory / name).write_bytes(b"")
    with pytest.raises(Unsupported, match=f"the CLIP model in {directory} lacks {words}"):
        load_path(directory)


def test_a_graph_without_projection_is_refused(tmp_path: Path, load_path: Load) -> None:
    import onnx

    directory = write_clip(tmp_path / "clip", "towers")
    path = directory / "onnx" / "vision_model.onnx"
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.output[:] = ["hidden" if output == "image_embeds" else output for output in node.output]
    model.graph.output[0].name = "hidden"
    onnx.save(model, str(path))
    with pytest.raises(Unsupported, match="hidden"):
        load_path(directory)


def test_a_closed_model_says_so(tmp_path: Path) -> None:
    import asyncio

    directory = write_clip(tmp_path / "clip")
    provider = providers.load(str(directory), cache_dir=tmp_path, allow_paths=True)
    asyncio.run(provider.close())
    with pytest.raises(ProviderError, match="closed"):
        embed(provider, ["text"])

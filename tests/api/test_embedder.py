"""A model without a database: texts and images to vectors."""

from __future__ import annotations

import asyncio
import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vectable
from vectable import AsyncEmbedder, Embedder
from vectable.errors import InvalidInput, ModelNotFound, TooLarge, Unsupported

MODEL = "hashing/32"


def png(colour: str = "red") -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(encoded, "PNG")
    return encoded.getvalue()


def test_texts_become_unit_vectors_in_their_order() -> None:
    with Embedder(MODEL) as embedder:
        vectors = embedder.encode(["tea", "green tea", "tea"])
        assert vectors.shape == (3, 32)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(vectors[0], vectors[2])
        np.testing.assert_array_equal(embedder.encode("green tea"), vectors[1])
        assert embedder.encode([]).shape == (0, 32)
        raw = embedder.encode("tea", normalize=False)
        assert abs(np.linalg.norm(raw) - 1) > 1e-3


def test_what_was_computed_is_kept_unless_told_otherwise() -> None:
    with Embedder(MODEL) as embedder:
        embedder.encode(["tea", "milk"])
        embedder.encode("tea")
        embedder.encode("water", cache=False)
        stats = embedder.cache_stats()
        assert (stats["size"], stats["hits"], stats["misses"]) == (2, 1, 2)


def test_every_form_of_an_image_is_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(png())
    text = base64.b64encode(png()).decode()
    with Embedder(MODEL) as embedder:
        forms = [png(), path, str(path), "data:image/png;base64," + text, {"base64": text}]
        vectors = embedder.encode_images([*forms, png("blue")])
        for vector in vectors[1:5]:
            np.testing.assert_array_equal(vector, vectors[0])
        assert (vectors[5] != vectors[0]).any()
        assert embedder.encode_images(Image.new("RGB", (8, 8), "red")).shape == (32,)
        assert embedder.encode_images(Image.new("CMYK", (8, 8))).shape == (32,)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([png(), b""], "image 1: the image is empty"),
        ([png(), 5], "image 1: .*int"),
        ([png(), "/no/such/file.png"], "image 1: .*cannot be read: No such file"),
        ("https://example.org/cat.png", "not fetched"),
        ("data:image/png;base64,???", "not valid base64"),
        ("nul\x00byte", "cannot be read"),
        ([png(), os.devnull], "image 1: .*is no file"),
        ([png(), Image.new("F", (8, 8))], "image 1: the PIL image cannot be taken: .*F"),
        (Image.new("RGB", (0, 0)), "the PIL image cannot be taken"),
    ],
)
def test_what_is_no_image_is_named(images: object, message: str) -> None:
    with Embedder(MODEL) as embedder, pytest.raises(InvalidInput, match=message):
        embedder.encode_images(images)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), 33 << 20)
    with Embedder(MODEL) as embedder, pytest.raises(TooLarge):
        embedder.encode_images(path)


@pytest.mark.parametrize("texts", [["fine", ""], ["fine", 5], ["fine", "\ud800"], 5, b"bytes", {"a"}])
def test_what_is_no_text_is_named(texts: object) -> None:
    with Embedder(MODEL) as embedder, pytest.raises(InvalidInput) as caught:
        embedder.encode(texts)
    if isinstance(texts, list):
        assert caught.value.context["index"] == 1


@pytest.mark.parametrize("model", [5, b"bytes", "a" * 1_000, "~nobody-here/model"])
def test_what_is_no_name_of_a_model(model: Any) -> None:
    with pytest.raises((InvalidInput, ModelNotFound)):
        Embedder(model).encode("tea")


def test_an_unknown_model_is_an_error_and_never_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with Embedder("owner/no-such-model") as embedder, pytest.raises(ModelNotFound, match="no-such-model"):
        embedder.encode("tea")


def test_the_card_tells_of_loading() -> None:
    with Embedder(MODEL) as embedder:
        assert not embedder.card().loaded
        assert embedder.preload().loaded
        assert (embedder.card().id, embedder.card().dimensions) == (MODEL, 32)


def test_closed_embedders_say_so() -> None:
    embedder = Embedder(MODEL)
    embedder.close()
    embedder.close()
    assert embedder.closed
    assert repr(embedder) == "Embedder('hashing/32', closed)"
    with pytest.raises(Unsupported, match="closed"):
        embedder.encode("tea")


async def test_the_asynchronous_twin_gives_the_same() -> None:
    async with AsyncEmbedder(MODEL) as embedder:
        found = await asyncio.gather(*(embedder.encode(text) for text in ("tea", "milk")))
    with Embedder(MODEL) as waiting:
        np.testing.assert_array_equal(
            np.array(found), await asyncio.to_thread(waiting.encode, ["tea", "milk"])
        )


def test_an_asynchronous_embedder_stays_on_its_loop() -> None:
    embedder = AsyncEmbedder(MODEL)
    asyncio.run(embedder.encode("tea"))
    with pytest.raises(Unsupported, match="another event loop"):
        asyncio.run(embedder.encode("tea"))


@pytest.mark.parametrize("model", [5, "", "../up", b"bytes"])
def test_what_names_no_model_is_refused(model: object) -> None:
    with pytest.raises((InvalidInput, TypeError, ModelNotFound)), Embedder(model) as embedder:  # type: ignore[arg-type]
        embedder.encode("tea")


def test_the_query_and_its_candidates_together() -> None:
    with Embedder(MODEL) as embedder:
        texts = ["green tea", "a red car", "tea with milk"]
        found = vectable.similarity(embedder.encode("green tea"), embedder.encode(texts), top_k=2)
    assert found[0].index == 0
    assert found[0].score == pytest.approx(1)

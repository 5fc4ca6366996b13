"""What every embedding provider must do, as tests: subclass ProviderSuite and give a `provider` fixture.

    class TestMine(ProviderSuite):
        @pytest.fixture(scope="class")
        @classmethod
        def provider(cls):
            return MyProvider()

Each test runs the provider on event loops of its own, so a provider must not hold on to one. A remote
provider is closed at the end of each loop, and must serve the next one.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import numpy as np
import pytest

from vectable.core.vectors import Matrix
from vectable.errors import InvalidInput, Unsupported
from vectable.interfaces import EmbeddingProvider, Item, Purpose, RemoteEmbeddingProvider

_T = TypeVar("_T")

SHORT_TEXTS = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "What is a context manager?",
)
LONG_TEXT = "The boundary layer in simple shear flow past a flat plate is considered again. " * 12
UNICODE_TEXTS = (
    "naïve café, Ελληνικά, русский",
    "日本語のテキストと中文文本",
    "עברית and العربية",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈",
    "combining é versus composed é",
    "zero\u200bwidth and\u00a0no-break\ttabs\nlines",
    "'; drop table t; -- \" % _ \\ \x07",
    "x",
    "a" * 500,
)
TOLERANCE = 1e-5
"""Largest difference of a component between two embeddings of one item, relative to the vector's length."""


def embed(provider: EmbeddingProvider, items: Sequence[Item], purpose: Purpose = "document") -> Matrix:
    """`provider.embed` from synchronous code."""
    return asyncio.run(_then_close(provider, provider.embed(items, purpose)))


async def _then_close(provider: EmbeddingProvider, work: Awaitable[_T]) -> _T:
    """A remote provider's connections belong to the loop that ends with the work."""
    try:
        return await work
    finally:
        if isinstance(provider, RemoteEmbeddingProvider):
            await provider.close()


def assert_same(found: Matrix, expected: Matrix) -> None:
    """Equal up to TOLERANCE of each row's length."""
    assert found.shape == expected.shape
    scale = np.linalg.norm(expected, axis=-1, keepdims=True)
    worst = float(np.max(np.abs(found - expected) / scale))
    assert worst <= TOLERANCE, f"vectors differ by {worst:.2e} of their length"


class ProviderSuite:
    """The conformance tests. Every provider embeds text; image tests run where `modalities` says so."""

    def test_describes_its_model(self, provider: EmbeddingProvider) -> None:
        assert provider.model.id
        assert provider.model.fingerprint
        assert str(provider.model) == f"{provider.model.id}@{provider.model.fingerprint}"
        assert provider.dimensions >= 1
        assert provider.max_tokens >= 1
        assert provider.max_batch >= 1
        assert isinstance(provider.normalizes, bool)
        assert provider.modalities
        assert provider.modalities <= {"text", "tokens", "image"}

    def test_prompts_are_text(self, provider: EmbeddingProvider) -> None:
        for purpose in ("query", "document"):
            assert isinstance(provider.prompt(purpose), str)

    def test_shape_dtype_finite(self, provider: EmbeddingProvider) -> None:
        vectors = embed(provider, SHORT_TEXTS)
        assert vectors.shape == (len(SHORT_TEXTS), provider.dimensions)
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0).all()

    def test_nothing_gives_no_rows(self, provider: EmbeddingProvider) -> None:
        vectors = embed(provider, [])
        assert vectors.shape == (0, provider.dimensions)
        assert vectors.dtype == np.float32
        assert provider.lengths([]) == []

    def test_the_same_item_has_the_same_vector(self, provider: EmbeddingProvider) -> None:
        first, again = embed(provider, SHORT_TEXTS), embed(provider, SHORT_TEXTS)
        assert_same(again, first)
        assert_same(embed(provider, [SHORT_TEXTS[0]] * 3), np.repeat(first[:1], 3, axis=0))

    def test_different_texts_have_different_vectors(self, provider: EmbeddingProvider) -> None:
        vectors = embed(provider, SHORT_TEXTS)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit @ unit.T - 2 * np.eye(len(unit))
        assert cosines.max() < 1 - 1e-4

    def test_order_is_kept(self, provider: EmbeddingProvider) -> None:
        texts = [LONG_TEXT, *SHORT_TEXTS, "x", LONG_TEXT[:300]]
        backwards = embed(provider, texts[::-1])
        assert_same(backwards[::-1], embed(provider, texts))

    def test_a_vector_does_not_depend_on_its_batch(self, provider: EmbeddingProvider) -> None:
        texts = [*SHORT_TEXTS, LONG_TEXT, *UNICODE_TEXTS]
        together = embed(provider, texts)
        alone = np.concatenate([embed(provider, [text]) for text in texts])
        assert_same(together, alone)

    def test_more_than_a_batch_at_once(self, provider: EmbeddingProvider) -> None:
        texts = [f"row {i}" for i in range(150)]
        vectors = embed(provider, texts)
        assert_same(vectors[[0, 77, 149]], embed(provider, [texts[0], texts[77], texts[149]]))

    def test_embeds_any_unicode(self, provider: EmbeddingProvider) -> None:
        vectors = embed(provider, UNICODE_TEXTS)
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0).all()

    def test_empty_text_has_a_vector(self, provider: EmbeddingProvider) -> None:
        assert np.isfinite(embed(provider, ["", "  \n"])).all()

    def test_invalid_unicode_is_refused(self, provider: EmbeddingProvider) -> None:
        with pytest.raises(InvalidInput):
            embed(provider, ["fine", "a lone surrogate \ud800"])

    def test_lengths_count_and_truncate(self, provider: EmbeddingProvider) -> None:
        short, long, endless = provider.lengths(["word", LONG_TEXT, "many words " * provider.max_tokens])
        assert 1 <= short < long <= provider.max_tokens
        assert endless == provider.max_tokens

    def test_long_text_is_truncated(self, provider: EmbeddingProvider) -> None:
        text = "so many words " * provider.max_tokens
        vectors = embed(provider, [text, text + "and an end that does not count", text * 20])
        assert_same(vectors[1:], np.repeat(vectors[:1], 2, axis=0))

    def test_purposes_differ_only_by_their_prompt(self, provider: EmbeddingProvider) -> None:
        query, document = (embed(provider, SHORT_TEXTS, purpose) for purpose in ("query", "document"))
        if provider.prompt("query") == provider.prompt("document"):
            assert_same(query, document)
        else:
            assert np.abs(query - document).max() > 0

    def test_calls_may_overlap(self, provider: EmbeddingProvider) -> None:
        async def together() -> list[Matrix]:
            return await asyncio.gather(*(provider.embed([text], "document") for text in SHORT_TEXTS * 3))

        found = asyncio.run(_then_close(provider, together()))
        assert_same(np.concatenate(found), np.tile(embed(provider, SHORT_TEXTS), (3, 1)))

    def test_images_as_declared(self, provider: EmbeddingProvider, png: bytes) -> None:
        if "image" not in provider.modalities:
            with pytest.raises(Unsupported):
                embed(provider, [png])
            return
        vectors = embed(provider, [png, png, "text"] if "text" in provider.modalities else [png, png])
        assert vectors.shape[1] == provider.dimensions
        assert_same(vectors[1:2], vectors[:1])
        assert provider.lengths([png]) == [1]

    @pytest.fixture
    def png(self) -> bytes:
        """A red square of 8 x 8 pixels."""
        return square((255, 0, 0))


class ImageSuite:
    """The conformance tests of a provider that embeds images, whether or not it embeds text too."""

    def test_images_have_vectors(self, provider: EmbeddingProvider) -> None:
        vectors = embed(provider, COLOURS)
        assert vectors.shape == (len(COLOURS), provider.dimensions)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) > 0).all()
        assert provider.lengths(COLOURS) == [1] * len(COLOURS)
        assert embed(provider, []).shape == (0, provider.dimensions)

    def test_images_keep_their_order_and_depend_on_no_other(self, provider: EmbeddingProvider) -> None:
        together = embed(provider, COLOURS)
        assert_same(embed(provider, COLOURS[::-1])[::-1], together)
        assert_same(np.concatenate([embed(provider, [image]) for image in COLOURS]), together)
        assert_same(embed(provider, COLOURS * 6)[-len(COLOURS) :], together)

    def test_different_images_have_different_vectors(self, provider: EmbeddingProvider) -> None:
        first, second = embed(provider, COLOURS[:2])
        assert np.abs(first - second).max() > 0

    def test_what_is_no_image_is_refused(self, provider: EmbeddingProvider) -> None:
        for data in (b"", b"no image", COLOURS[0][:40]):
            with pytest.raises(InvalidInput):
                embed(provider, [COLOURS[0], data])

    def test_texts_as_declared(self, provider: EmbeddingProvider) -> None:
        if "text" not in provider.modalities:
            with pytest.raises(Unsupported):
                embed(provider, ["text"])


def square(colour: tuple[int, int, int]) -> bytes:
    """A PNG of 8 x 8 pixels of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\x00" + bytes(colour) * 8) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


COLOURS = [square(colour) for colour in ((255, 0, 0), (0, 0, 255), (10, 200, 30))]

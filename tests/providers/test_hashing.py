"""The hashing provider: the formula it documents, and the little meaning it has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from blake3 import blake3

from vectable import providers
from vectable.providers.hashing import HashingProvider
from vectable.testing.provider_suite import embed


def cosine(provider: HashingProvider, a: str, b: str) -> float:
    x, y = embed(provider, [a, b])
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def by_the_formula(tokens: list[str], dimensions: int) -> np.ndarray:
    """The documented formula, word for word."""
    total = np.zeros(dimensions)
    for token in dict.fromkeys(tokens):
        marked = f"<{token}>"
        grams = [marked[i : i + n] for n in (3, 4) for i in range(len(marked) - n + 1)]
        features = [(b"w" + token.encode(), 1.0)]
        features += [(b"g" + gram.encode(), 1 / math.sqrt(len(grams))) for gram in grams]
        for feature, weight in features:
            drawn = blake3(feature).digest(16)
            for probe in (0, 8):
                position = int.from_bytes(drawn[probe : probe + 4], "little") % dimensions
                sign = 1 if drawn[probe + 4] & 1 else -1
                total[position] += sign * weight / math.sqrt(2) * (1 + math.log(tokens.count(token)))
    drawn = blake3(b"text\x00" + "\x1f".join(tokens).encode()).digest(2 * dimensions)
    unit = np.frombuffer(drawn, "<i2") + 0.5
    return total + 0.1 * unit / np.linalg.norm(unit)


def test_the_formula_is_the_documented_one() -> None:
    (found,) = embed(HashingProvider(48), ["To be, or not TO be: Straße"])
    tokens = ["to", "be", ",", "or", "not", "to", "be", ":", "strasse"]
    np.testing.assert_allclose(found, by_the_formula(tokens, 48), atol=1e-6)


def test_vectors_never_change() -> None:
    (found,) = embed(HashingProvider(4), ["hello world"])
    np.testing.assert_allclose(found, [-0.52684122, 1.23954213, 0.99276328, 1.67649734], atol=1e-6)


def test_texts_that_share_words_are_nearer() -> None:
    provider = HashingProvider(384)
    near = cosine(provider, "how to use react hooks", "using react hooks in components")
    inflected = cosine(provider, "embedding", "embeddings")
    far = cosine(provider, "how to use react hooks", "boundary layer of a flat plate")
    assert near > 0.3 > abs(far)
    assert inflected > 0.4


def test_case_and_white_space_do_not_matter_but_order_does() -> None:
    provider = HashingProvider(64)
    assert cosine(provider, "Some  Words\n", "some words") == pytest.approx(1)
    assert 0.9 < cosine(provider, "some words", "words some") < 1 - 1e-4


@pytest.mark.parametrize("dimensions", [1, 2, 3, 384, 1536, 16_384])
def test_any_dimension(dimensions: int) -> None:
    vectors = embed(providers.load(f"hashing/{dimensions}"), ["text", "", b"image"])
    assert vectors.shape == (3, dimensions)
    assert (np.linalg.norm(vectors, axis=1) > 0).all()


def test_images_are_told_apart() -> None:
    a, b, text = embed(HashingProvider(64), [b"one", b"two", "one"])
    assert abs(float(a @ b)) < 0.6
    assert np.abs(a - text).max() > 0.01


def test_stand_ins_are_the_same_vectors_under_another_identity() -> None:
    plain, stand_in = HashingProvider(32), HashingProvider(32, stands_for="owner/name")
    np.testing.assert_array_equal(embed(plain, ["a"]), embed(stand_in, ["a"]))
    assert stand_in.model.id == "hashing/32?for=owner/name"
    assert plain.model.id == "hashing/32"

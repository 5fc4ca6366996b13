"""Embeddings and models over HTTP."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.server.test_envelope import check_problem

GENERATE = "/api/v1/embeddings/generate"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def test_one_text_one_vector(api: httpx.Client) -> None:
    api.post("/api/v1/embeddings/cache/clear", json={"persistent": True})
    found = api.post(GENERATE, json={"text": "hello"}).json()
    assert set(found) == {"embeddings", "model", "dimensions", "cached"}
    assert found["dimensions"] == len(found["embeddings"]) == 384
    assert np.linalg.norm(found["embeddings"]) == pytest.approx(1, abs=1e-6)
    assert found["cached"] is False
    assert api.post(GENERATE, json={"text": "hello"}).json() == {**found, "cached": True}


def test_many_texts_many_vectors(api: httpx.Client) -> None:
    api.post("/api/v1/embeddings/cache/clear", json={"persistent": True})
    texts = [f"text {i}" for i in range(100)]
    found = api.post(GENERATE, json={"text": texts, "model": "all-MiniLM-L6-v2"}).json()
    assert len(found["embeddings"]) == 100
    one = api.post(GENERATE, json={"text": [texts[7]]}).json()
    assert one["embeddings"] == [found["embeddings"][7]]
    assert one["cached"] is True
    assert api.post(GENERATE, json={"text": [texts[7], "unseen"]}).json()["cached"] is False


def test_options(api: httpx.Client) -> None:
    api.post("/api/v1/embeddings/cache/clear", json={"persistent": True})
    body: dict[str, Any] = {"text": "uncached", "options": {"cache": False}}
    first = api.post(GENERATE, json=body).json()
    assert (first["cached"], api.post(GENERATE, json=body).json()["cached"]) == (False, False)
    assert api.post(GENERATE, json={"text": "uncached"}).json()["cached"] is False, "nor was it written"
    plain = api.post(GENERATE, json={"text": "uncached", "options": {"normalize": False}}).json()
    direction = np.array(plain["embeddings"]) / np.linalg.norm(plain["embeddings"])
    assert direction == pytest.approx(np.array(first["embeddings"]), abs=1e-6)


def test_base64(api: httpx.Client) -> None:
    texts = ["a", "b"]
    floats = api.post(GENERATE, json={"text": texts}).json()["embeddings"]
    encoded = api.post(GENERATE, json={"text": texts, "encoding_format": "base64"}).json()["embeddings"]
    decoded = [np.frombuffer(base64.b64decode(e["base64"]), "<f4") for e in encoded]
    assert np.array(decoded).tolist() == np.array(floats, np.float32).tolist()
    single = api.post(GENERATE, json={"text": "a", "encoding_format": "base64"}).json()["embeddings"]
    assert single == encoded[0]


def test_what_cannot_be_embedded(api: httpx.Client) -> None:
    bad: list[Any] = [
        {"text": ""},
        {"text": []},
        {"text": ["a", ""]},
        {"text": ["x"] * 101},
        {"text": 7},
        {"text": None},
        {"text": [7]},
        {"text": {"a": 1}},
        {"text": ["a", ["b"]]},
        {},
        {"text": "a", "model": ""},
        {"text": "a", "model": 7},
        {"text": "a", "model": "a b"},
        {"text": "a", "model": "../x"},
        {"text": "a", "model": "x" * 10_000},
        {"text": "a", "model": "hashing/0"},
        {"text": "a", "model": "hashing/99999999"},
        {"text": "a", "options": {"cash": True}},
        {"text": "a", "options": {"cache": "no"}},
        {"text": "a", "encoding_format": "hex"},
        {"text": "a", "x": 1},
    ]
    for body in bad:
        assert len(check_problem(api.post(GENERATE, json=body), 400, "invalid-input")["error"]) < 600
    check_problem(api.post(GENERATE, json={"text": "a", "model": "no/such"}), 404, "model-not-found")
    surrogate = api.post(GENERATE, content=b'{"text": "\\ud800"}')
    check_problem(surrogate, 400, "invalid-input")


def test_models(api: httpx.Client) -> None:
    models = api.get("/api/v1/embeddings/models").json()["models"]
    assert models
    for model in models:
        contract = {"id", "dimensions", "type", "cached", "loaded", "max_tokens"}
        assert set(model) == contract | {"modalities", "runtime", "precision", "licence", "note"}
        assert model["type"] in ("sentence", "document", "image", "multimodal")
    kinds = {tuple(model["modalities"]) for model in models}
    assert kinds == {("text",), ("image",), ("text", "image")}


def test_preloaded(api: httpx.Client) -> None:
    for name in (MODEL, "all-MiniLM-L6-v2", "hashing/16"):
        found = api.post(f"/api/v1/embeddings/models/{name}/preload")
        assert found.status_code == 200, found.text
        assert set(found.json()) == {"id", "dimensions", "load_ms"}
    assert found.json() == {"id": "hashing/16", "dimensions": 16, "load_ms": found.json()["load_ms"]}
    again = api.post("/api/v1/embeddings/models/hashing/16/preload").json()
    assert again["load_ms"] >= 0
    check_problem(api.post("/api/v1/embeddings/models/no/such/preload"), 404, "model-not-found")
    check_problem(api.post("/api/v1/embeddings/models/a b/preload"), 400, "invalid-input")


def test_unloaded(api: httpx.Client) -> None:
    models = "/api/v1/embeddings/models"
    assert api.post(f"{models}/hashing/24/preload").status_code == 200
    assert api.post(f"{models}/hashing/24/unload").json() == {"id": "hashing/24", "unloaded": True}
    assert api.post(f"{models}/hashing/24/unload").json() == {"id": "hashing/24", "unloaded": False}
    loaded = {model["id"] for model in api.get(models).json()["models"] if model["loaded"]}
    assert "hashing/24" not in loaded
    assert api.post(GENERATE, json={"text": "a", "model": "hashing/24"}).json()["dimensions"] == 24
    check_problem(api.post(f"{models}/no/such/unload"), 404, "model-not-found")


def test_cache_cleared(api: httpx.Client) -> None:
    clear = "/api/v1/embeddings/cache/clear"
    api.post(clear, json={"persistent": True})
    api.post(GENERATE, json={"text": ["one", "two"]})
    assert api.post(clear).json() == {"cleared": 2}
    assert api.post(GENERATE, json={"text": "one"}).json()["cached"] is True, "still on the second tier"
    assert api.post(clear, json={"persistent": True}).json()["cleared"] == 2
    assert api.post(GENERATE, json={"text": "one"}).json()["cached"] is False
    check_problem(api.post(clear, json={"persistent": "yes"}), 400, "invalid-input")

"""The embedding service: texts to vectors, vectors compared, texts put in order, the cache."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.server.test_envelope import check_problem

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def clear(api: httpx.Client) -> None:
    assert api.post("/cache/clear", json={"persistent": True}).status_code == 200


def encoded(vector: Any) -> dict[str, str]:
    return {"base64": base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()}


def test_texts(api: httpx.Client) -> None:
    clear(api)
    found = api.post("/embed/text", json={"texts": ["red", "green", "red"]}).json()
    assert set(found) == {"embeddings", "model", "dimensions", "processingTime", "cached"}
    assert np.shape(found["embeddings"]) == (3, found["dimensions"]) == (3, 384)
    assert np.linalg.norm(found["embeddings"], axis=1) == pytest.approx(1, abs=1e-6)
    assert found["embeddings"][0] == found["embeddings"][2] != found["embeddings"][1]
    assert found["processingTime"] > 0
    assert found["cached"] is False
    again = api.post("/embed/text", json={"texts": ["green", "red"]}).json()
    assert again["cached"] is True
    assert again["embeddings"] == found["embeddings"][1::-1]
    assert api.post("/embed/text", json={"texts": ["red", "unseen"]}).json()["cached"] is False
    generated = api.post("/api/v1/embeddings/generate", json={"text": "red"}).json()
    assert generated["embeddings"] == found["embeddings"][0]


def test_texts_as_asked(api: httpx.Client) -> None:
    texts = [f"text {i}" for i in range(1_000)]
    body = {"texts": texts, "model": "hashing/8", "encoding_format": "base64"}
    found = api.post("/embed/text", json=body).json()
    assert (len(found["embeddings"]), found["dimensions"], found["model"]) == (1_000, 8, "hashing/8")
    decoded = np.frombuffer(base64.b64decode(found["embeddings"][7]["base64"]), "<f4")
    plain = api.post("/embed/text", json={**body, "texts": [texts[7]], "encoding_format": "float"}).json()
    assert decoded == pytest.approx(np.float32(plain["embeddings"][0]))
    raw = api.post("/embed/text", json={"texts": ["raw"], "normalize": False}).json()["embeddings"][0]
    unit = api.post("/embed/text", json={"texts": ["raw"]}).json()["embeddings"][0]
    assert np.linalg.norm(raw) != pytest.approx(1, abs=1e-3)
    assert np.array(raw) / np.linalg.norm(raw) == pytest.approx(np.array(unit), abs=1e-6)


def test_texts_that_cannot_be_embedded(api: httpx.Client) -> None:
    bad: list[Any] = [
        {},
        {"texts": "red"},
        {"texts": []},
        {"texts": ["red", ""]},
        {"texts": ["x"] * 1_001},
        {"texts": ["red", 7]},
        {"texts": None},
        {"texts": ["red"], "normalize": 1},
        {"texts": ["red"], "model": ""},
        {"texts": ["red"], "model": "../etc"},
        {"texts": ["red"], "encoding_format": "hex"},
        {"texts": ["red"], "text": "green"},
    ]
    for body in bad:
        problem = check_problem(api.post("/embed/text", json=body), 400, "invalid-input")
        assert len(problem["error"]) < 600
    assert "`texts[1]`" in api.post("/embed/text", json={"texts": ["red", ""]}).json()["detail"]
    body = {"texts": ["red"], "model": "no/such"}
    check_problem(api.post("/embed/text", json=body), 404, "model-not-found")


def test_similarity(api: httpx.Client) -> None:
    query, candidates = [1.0, 0.0], [[0.0, 1.0], [3.0, 4.0], [2.0, 0.0], [-1.0, 0.0], [2.0, 0.0]]
    found = api.post("/similarity", json={"query": query, "candidates": candidates}).json()
    assert set(found) == {"results", "processingTime"}
    assert [r["index"] for r in found["results"]] == [2, 4, 1, 0, 3], "ties by position"
    assert [r["score"] for r in found["results"]] == pytest.approx([1, 1, 0.6, 0, -1])
    for metric, scores in (("dot", [2.0, 2, 3, 0, -1]), ("euclidean", [0.5, 0.5, 1 / (1 + 20**0.5)])):
        body = {"query": query, "candidates": candidates, "metric": metric, "topK": 5}
        results = api.post("/similarity", json=body).json()["results"]
        assert sorted([r["score"] for r in results], reverse=True) == [r["score"] for r in results]
        by_index = {r["index"]: r["score"] for r in results}
        assert [by_index[i] for i in (2, 4, 1, 0, 3)][: len(scores)] == pytest.approx(scores)
    body = {"query": query, "candidates": candidates, "threshold": 0.6, "topK": 2}
    assert [r["index"] for r in api.post("/similarity", json=body).json()["results"]] == [2, 4]
    assert api.post("/similarity", json={**body, "threshold": 2}).json()["results"] == []
    assert api.post("/similarity", json={"query": query, "candidates": []}).json()["results"] == []


def test_similarity_takes_vectors_in_every_form(api: httpx.Client) -> None:
    generator = np.random.default_rng(3)
    matrix = generator.standard_normal((3_000, 16)).astype(np.float32)
    query = generator.standard_normal(16).astype(np.float32)
    forms = [
        {"query": query.tolist(), "candidates": matrix.tolist()},
        {"query": encoded(query), "candidates": [encoded(row) for row in matrix]},
        {"query": encoded(query), "candidates": encoded(matrix)},
    ]
    answers = [api.post("/similarity", json=form).json()["results"] for form in forms]
    assert answers[0] == answers[1] == answers[2]
    cosines = matrix @ query / np.linalg.norm(matrix, axis=1)
    assert [r["index"] for r in answers[0]] == np.argsort(-cosines)[:10].tolist()


def test_vectors_that_cannot_be_compared(api: httpx.Client) -> None:
    good = {"query": [1.0, 0.0], "candidates": [[1.0, 0.0]]}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"query": [1.0, 0.0, 0.0]}, "invalid-vector"),
        ({"query": []}, "invalid-vector"),
        ({"query": "red"}, "invalid-vector"),
        ({"query": [0.0, 0.0]}, "invalid-vector"),
        ({"query": [1.0, "2"]}, "invalid-vector"),
        ({"query": [True, False]}, "invalid-vector"),
        ({"query": {"base64": "AAAA"}}, "invalid-vector"),
        ({"query": {"base64": ""}}, "invalid-vector"),
        ({"candidates": [[1.0, 0.0], [1.0]]}, "invalid-vector"),
        ({"candidates": [[1.0, 0.0], [0.0, 0.0]]}, "invalid-vector"),
        ({"candidates": [[1.0, 0.0], [1e300, 0.0]]}, "invalid-vector"),
        ({"candidates": [[1.0, 0.0], [[1.0], 0.0]]}, "invalid-vector"),
        ({"candidates": [1.0, 0.0]}, "invalid-vector"),
        ({"candidates": "red"}, "invalid-input"),
        ({"candidates": {"base64": "AAAA"}}, "invalid-vector"),
        ({"candidates": {"vectors": []}}, "invalid-input"),
        ({"candidates": None}, "invalid-input"),
        ({"topK": 0}, "invalid-input"),
        ({"topK": 100_001}, "invalid-input"),
        ({"topK": 1.5}, "invalid-input"),
        ({"metric": "manhattan"}, "invalid-input"),
        ({"threshold": "high"}, "invalid-input"),
        ({"candidates": [[1.0, 0.0]] * 100_001}, "invalid-input"),
    ]
    for change, code in bad:
        check_problem(api.post("/similarity", json={**good, **change}), 400, code)
    second = api.post("/similarity", json={**good, "candidates": [[1.0, 0.0], [1.0]]}).json()
    assert second["detail"] == "candidate 1 has 1 dimensions, the query has 2", (
        "the one that is wrong is named"
    )


def test_rerank(api: httpx.Client) -> None:
    texts = ["red and green", "wait until typing stops", "how to debounce a search box"]
    asked = {"query": "how to debounce a search box", "texts": texts, "return_text": True}
    found = api.post("/rerank", json=asked).json()
    assert [set(each) for each in found] == [{"index", "score", "text"}] * 3
    assert sorted(each["index"] for each in found) == [0, 1, 2]
    assert [each["score"] for each in found] == sorted([each["score"] for each in found], reverse=True)
    assert found[0]["index"] == 2
    assert found[0]["score"] == pytest.approx(1)
    assert [each["text"] for each in found] == [texts[each["index"]] for each in found]
    plain = api.post("/rerank", json={**asked, "return_text": False, "model": MODEL}).json()
    assert plain == [{"index": each["index"], "score": each["score"]} for each in found]
    for bad in ({"query": ""}, {"texts": []}, {"texts": [""]}, {"texts": ["x"] * 1_001}, {"top": 1}):
        check_problem(api.post("/rerank", json={**asked, **bad}), 400, "invalid-input")


def test_cache(api: httpx.Client) -> None:
    clear(api)
    names = {"size", "maxSize", "hits", "misses", "hitRate", "evictions", "bytes", "persistent"}
    before = api.get("/cache/stats").json()
    assert set(before) == names
    assert (before["size"], before["bytes"]) == (0, 0)
    assert before["persistent"] == {"size": 0, "bytes": 0}
    api.post("/embed/text", json={"texts": ["one", "two"]})
    api.post("/embed/text", json={"texts": ["one", "two", "three"]})
    after = api.get("/cache/stats").json()
    assert (after["hits"], after["misses"]) == (before["hits"] + 2, before["misses"] + 3)
    assert after["hitRate"] == pytest.approx(after["hits"] / (after["hits"] + after["misses"]))
    assert after["size"] == 3
    assert after["bytes"] >= 3 * 384 * 4
    assert after["maxSize"] == 10_000
    assert api.post("/cache/clear").json() == {"cleared": 3}
    assert api.get("/cache/stats").json()["size"] == 0
    assert api.post("/embed/text", json={"texts": ["one"]}).json()["cached"] is True, "still on disk"
    assert api.post("/cache/clear", json={"persistent": True}).json() == {"cleared": 3}
    assert api.get("/cache/stats").json()["persistent"] == {"size": 0, "bytes": 0}
    check_problem(api.post("/cache/clear", json={"persistent": "yes"}), 400, "invalid-input")

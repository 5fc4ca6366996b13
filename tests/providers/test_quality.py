"""Search quality on a public test collection: the figures of sentence-transformers' fp32 exact search.

The collections are not ours to redistribute: without them (`../shared/datasets` beside the repository, or the
directory named by DATASETS) these tests skip.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from vectable.core.vectors import Matrix
from vectable.interfaces import EmbeddingProvider, Purpose

DATASETS = Path(os.environ.get("DATASETS") or Path(__file__).parents[3] / "shared" / "datasets")
TOLERANCE = 0.002


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Query id → document id → relevance."""
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judgements[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return judgements


def unit_vectors(provider: EmbeddingProvider, texts: list[str], purpose: Purpose) -> Matrix:
    vectors = asyncio.run(_embed(provider, texts, purpose))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def _embed(provider: EmbeddingProvider, texts: list[str], purpose: Purpose) -> Matrix:
    return await provider.embed(texts, purpose)


def measure(provider: EmbeddingProvider, directory: Path) -> tuple[float, float]:
    """(nDCG@10, recall@100), means over the judged queries, of exact cosine search over all documents."""
    corpus = read_lines(directory / "corpus.jsonl")
    judgements = read_judgements(directory / "qrels.tsv")
    queries = [query for query in read_lines(directory / "queries.jsonl") if query["_id"] in judgements]
    texts = [f"{doc['title']}\n{doc['text']}" if doc["title"] else doc["text"] for doc in corpus]
    documents = unit_vectors(provider, texts, "document")
    asked = unit_vectors(provider, [query["text"] for query in queries], "query")
    ranked = np.argsort(-(asked @ documents.T), axis=1, kind="stable")[:, :100]
    ids = np.array([doc["_id"] for doc in corpus])
    gains, recalls = [], []
    for query, order in zip(queries, ranked, strict=True):
        relevant = judgements[query["_id"]]
        found = [relevant.get(doc, 0) for doc in ids[order]]
        gains.append(dcg(found[:10]) / dcg(sorted(relevant.values(), reverse=True)[:10]))
        recalls.append(sum(rel > 0 for rel in found) / sum(rel > 0 for rel in relevant.values()))
    return float(np.mean(gains)), float(np.mean(recalls))


def dcg(relevances: list[int]) -> float:
    return sum((2**rel - 1) / math.log2(rank + 2) for rank, rel in enumerate(relevances))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (DATASETS / "cran").is_dir(), reason=f"no test collections in {DATASETS}")
def test_cran(minilm: EmbeddingProvider) -> None:
    gain, recall = measure(minilm, DATASETS / "cran")
    assert gain == pytest.approx(0.3995, abs=TOLERANCE)
    assert recall == pytest.approx(0.7727, abs=TOLERANCE)

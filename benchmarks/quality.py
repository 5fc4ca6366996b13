"""Search quality on the test collections: nDCG@10 and recall@100 through a real table, exact search."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import defaultdict
from pathlib import Path

import vectable
from benchmarks.measure import Figure

REFERENCE = {"cran": (0.3995, 0.7727), "npl": (0.4322, 0.6069)}
"""nDCG@10 and recall@100 of sentence-transformers, fp32, exact."""
CLOSE = 0.002


def datasets() -> Path:
    """Where the collections are: DATASETS, else shared/datasets beside the project."""
    given = os.environ.get("DATASETS")
    return Path(given) if given else Path(__file__).parents[2] / "shared" / "datasets"


def run() -> list[Figure]:
    """The figures; none where the collections are absent."""
    figures = []
    for name, (ndcg, recall) in REFERENCE.items():
        folder = datasets() / name
        if not folder.is_dir():
            print(f"(the collection {name} is not here: skipped)")
            continue
        measured_ndcg, measured_recall = evaluate(folder)
        figures += [
            Figure(f"{name}: nDCG@10", measured_ndcg, "", None, f"reference {ndcg}"),
            Figure(f"{name}: |nDCG@10 - reference|", abs(measured_ndcg - ndcg), "", ("<=", CLOSE)),
            Figure(f"{name}: recall@100", measured_recall, "", None, f"reference {recall}"),
            Figure(f"{name}: |recall@100 - reference|", abs(measured_recall - recall), "", ("<=", CLOSE)),
        ]
    return figures


def _lines(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def evaluate(folder: Path) -> tuple[float, float]:
    """(nDCG@10, recall@100) over the judged queries. nDCG: gain 2^rel - 1, discount log2(rank + 1)."""
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, relevance = line.split("\t")
        judged[query][document] = int(relevance)
    with tempfile.TemporaryDirectory() as directory, vectable.connect(Path(directory) / "db") as database:
        table = database.create_table("corpus", {"content": "string"})
        table.add_embedding_column("emb", source="content")
        rows = [
            {"id": d["_id"], "content": f"{d['title']}\n{d['text']}" if d.get("title") else d["text"]}
            for d in _lines(folder / "corpus.jsonl")
        ]
        table.insert(rows)
        gains, recalls = [], []
        for query in _lines(folder / "queries.jsonl"):
            relevant = judged.get(query["_id"])
            if not relevant:
                continue
            hits = table.similar(query["text"], on="emb", exact=True).select("id").limit(100).collect()
            ranked = [str(hit["id"]) for hit in hits]
            gains.append(_ndcg(ranked[:10], relevant))
            wanted = {d for d, r in relevant.items() if r > 0}
            if wanted:
                recalls.append(len(wanted & set(ranked)) / len(wanted))
    return sum(gains) / len(gains), sum(recalls) / len(recalls)


def _ndcg(ranked: list[str], relevant: dict[str, int]) -> float:
    def gain(relevances: list[int]) -> float:
        return sum((2**r - 1) / math.log2(rank + 2) for rank, r in enumerate(relevances))

    ideal = gain(sorted(relevant.values(), reverse=True)[:10])
    return gain([relevant.get(d, 0) for d in ranked]) / ideal if ideal else 0.0

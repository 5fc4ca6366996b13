"""What to read next: a profile from what somebody has read, nothing known already, and not five of a kind.

python examples/python/recommendation.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from articles import read_articles
from numpy.typing import NDArray

import vectable

HISTORY = {
    # What was read, and how much it counts: finished a minute ago, skimmed last month.
    "A saddle at the right height": 1.0,
    "Climbing without stopping": 0.9,
    "Gears and what the numbers mean": 0.6,
    "A loaf without kneading": 0.8,
    "The Sun in eleven years": 0.2,
}


def profile(vectors: NDArray[np.float32], weights: list[float]) -> NDArray[np.float32]:
    """The weighted mean of what was read, of length 1."""
    mean = np.average(vectors, axis=0, weights=weights)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def diverse(
    relevance: NDArray[np.float32], vectors: NDArray[np.float32], n: int, balance: float = 0.7
) -> list[int]:
    """Maximal marginal relevance: positions of `n` candidates, each the best by `balance` times its relevance
    less the rest of its likeness to what is chosen already."""
    chosen: list[int] = []
    while len(chosen) < min(n, len(vectors)):
        likeness = (vectors @ vectors[chosen].T).max(axis=1) if chosen else np.zeros(len(vectors))
        worth = balance * relevance - (1 - balance) * likeness
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
    return chosen


def shown(title: str, hits: list[Any]) -> None:
    print(f"\n{title}")
    for hit in hits:
        print(f"  {hit.score:.2f}  {hit.title} ({hit.topic})")
    print(f"  topics: {len({hit.topic for hit in hits})}")


def main() -> None:
    with vectable.connect("memory:") as db:
        articles = db.create_table(
            "articles",
            {"title": "string", "text": "string", "topic": "string", "year": "int", "minutes": "int"},
        )
        articles.add_embedding_column("meaning", template="{title}\n{text}")
        articles.insert(read_articles())

        read = articles.where(articles.title.in_(list(HISTORY))).select("title", "meaning").collect()
        taste = profile(np.stack([row.meaning for row in read]), [HISTORY[row.title] for row in read])

        # Known articles are kept out by the filter, so that candidates are always as many as asked for.
        unread = articles.where(~articles.title.in_(list(HISTORY)))
        columns = ("title", "topic", "meaning")
        candidates = unread.similar(taste, on="meaning").select(*columns).limit(20).collect()
        relevance = np.array([hit.score for hit in candidates], np.float32)
        picks = diverse(relevance, np.stack([hit.meaning for hit in candidates]), 5)

        shown("most like what was read", list(candidates)[:5])
        shown("as relevant, less alike (MMR)", [candidates[i] for i in picks])


if __name__ == "__main__":
    main()

"""Texts to vectors, and what vectors are good for: telling how alike texts are.

python examples/python/text_embeddings.py
"""

from __future__ import annotations

import numpy as np

import vectable

SENTENCES = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "Somebody holds an infant in her arms.",
    "The stock market fell by two per cent.",
]


def main() -> None:
    with vectable.Embedder() as embedder:  # the default model; any other by name or path
        vectors = embedder.encode(SENTENCES)
        print(f"{embedder.card().id}: {len(vectors)} texts, {vectors.shape[1]} numbers each\n")

        # Vectors have length 1, so a product is a cosine: 1 for the same meaning, about 0 for none in common.
        cosines = vectors @ vectors.T
        for i, sentence in enumerate(SENTENCES):
            others = np.where(np.arange(len(SENTENCES)) == i, -1.0, cosines[i])
            nearest = int(np.argmax(others))
            print(f"{others[nearest]:.2f}  {sentence}  →  {SENTENCES[nearest]}")

        query = embedder.encode("a toddler being carried", purpose="query")
        found = vectable.similarity(query, vectors, top_k=2)
        print("\na toddler being carried:")
        for match in found:
            print(f"{match.score:.2f}  {SENTENCES[match.index]}")

        embedder.encode(SENTENCES)  # known by now: no model runs
        stats = embedder.cache_stats()
        print(f"\ncache: {stats['size']} vectors, {stats['hits']} hits, {stats['misses']} misses")


if __name__ == "__main__":
    main()

"""What a pile of documents is about: k-means over their vectors, themes for each cluster, and a picture.

python examples/python/document_clustering.py [picture.png]
"""

from __future__ import annotations

import sys
from collections import Counter

import matplotlib
import numpy as np
from articles import read_articles
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

import vectable

matplotlib.use("Agg")  # draws into files, needs no screen
from matplotlib import pyplot

Labels = NDArray[np.int32]


def clustered(vectors: NDArray[np.float32]) -> Labels:
    """The cluster of each vector; as many clusters as separate best (by silhouette, of 2 to 8)."""
    with threadpool_limits(1):  # more threads would only wait for each other over so little
        # Vectors have length 1, so nearest by distance is nearest by angle.
        tried = [KMeans(k, n_init=10, random_state=0).fit_predict(vectors) for k in range(2, 9)]
    return max(tried, key=lambda labels: silhouette_score(vectors, labels, metric="cosine"))


def themes(texts: list[str], labels: Labels, words: int = 4) -> list[list[str]]:
    """The words that tell each cluster from the others, by tf-idf: each cluster is one document."""
    merged = [
        " ".join(text for text, label in zip(texts, labels, strict=True) if label == cluster)
        for cluster in range(labels.max() + 1)
    ]
    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True, token_pattern=r"[a-z]{4,}")
    weights = vectorizer.fit_transform(merged).toarray()
    names = vectorizer.get_feature_names_out()
    return [[str(names[i]) for i in np.argsort(-row)[:words]] for row in weights]


def draw(vectors: NDArray[np.float32], labels: Labels, about: list[list[str]], file: str) -> None:
    """The vectors in the plane that shows most of them, coloured by cluster."""
    places = PCA(2, random_state=0).fit_transform(vectors)
    figure, axes = pyplot.subplots(figsize=(8, 6), layout="constrained")
    for cluster, words in enumerate(about):
        of = labels == cluster
        axes.scatter(places[of, 0], places[of, 1], label=", ".join(words), s=45, alpha=0.85)
    axes.set(title=f"{len(labels)} documents in {len(about)} clusters", xticks=[], yticks=[])
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "clusters.png"
    rows = read_articles()
    texts = [f"{row['title']}. {row['text']}" for row in rows]
    with vectable.Embedder() as embedder:
        vectors = embedder.encode(texts)
    labels = clustered(vectors)
    about = themes(texts, labels)
    for cluster, words in enumerate(about):
        members = [row for row, label in zip(rows, labels, strict=True) if label == cluster]
        centre = vectors[labels == cluster].mean(axis=0)
        typical = members[int(np.argmax(vectors[labels == cluster] @ centre))]
        topics = ", ".join(f"{n} {topic}" for topic, n in Counter(r["topic"] for r in members).most_common())
        print(f"{len(members):3} documents about {', '.join(words)}")
        print(f"    most typical: {typical['title']}; topics, which the clustering did not see: {topics}")
    draw(vectors, labels, about, file)
    print(f"picture: {file}")


if __name__ == "__main__":
    main()

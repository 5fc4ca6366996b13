"""Search by meaning, with filters: the words of a question need not be those of the answer.

python examples/python/semantic_search.py ["your question"]
"""

from __future__ import annotations

import sys

from articles import read_articles

import vectable

QUESTIONS = [
    "my dough does not rise because it is chilly",
    "how do I get uphill without getting off",
    "two tasks change a variable at the same time",
]


def main() -> None:
    questions = sys.argv[1:] or QUESTIONS
    with vectable.connect("memory:") as db:  # a directory keeps it
        articles = db.create_table(
            "articles",
            {"title": "string", "text": "string", "topic": "string", "year": "int", "minutes": "int"},
        )
        # The column fills itself, now and whenever a title or text changes.
        articles.add_embedding_column("meaning", template="{title}\n{text}")
        articles.insert(read_articles())

        for question in questions:
            print(f"\n{question}")
            for hit in articles.similar(question, on="meaning").limit(3).collect():
                print(f"  {hit.score:.2f}  {hit.title} ({hit.topic}, {hit.year})")

        # Under a filter there are as many hits as match, up to the limit.
        recent = articles.where((articles.year >= 2020) & (articles.minutes <= 5))
        question = "riding in bad weather"
        print(f"\n{question}, short and recent ({recent.count()} of {articles.count()} match the filter)")
        for hit in recent.similar(question, on="meaning").limit(3).collect():
            print(f"  {hit.score:.2f}  {hit.title} ({hit.minutes} min, {hit.year})")


if __name__ == "__main__":
    main()

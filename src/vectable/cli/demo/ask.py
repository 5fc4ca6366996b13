"""Questions the demo asks, with and without filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vectable.cli.demo.build import COLUMN

if TYPE_CHECKING:
    from vectable.handles import AsyncTable, Result

HITS = 5


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for, and among which rows (None: all)."""

    text: str
    where: str | None = None


QUESTIONS = (
    Question("pick k random items without repetition"),
    Question("temporary directory that deletes itself"),
    Question("how alike are two pieces of text"),
    Question("how alike are two pieces of text", "quality_score >= 6"),
    Question("split text at whitespace", "language = 'C'"),
    Question("give up after a number of seconds", "module like 'asyncio%' and quality_score >= 3"),
)
WARM_UP = Question("warm up", "quality_score >= 1 and language != '' and module != ''")
SHOWN = ("title", "kind", "quality_score", "teaches")


async def ask(table: AsyncTable, question: Question) -> Result:
    """The hits, best first."""
    query = table.similar(question.text, on=COLUMN).limit(HITS).select(*SHOWN, "repo_url")
    return await (query if question.where is None else query.where(question.where)).collect()


def columns(found: Result) -> dict[str, list[Any]]:
    """What to print of the hits: the documentation's first line is enough."""
    assert found.scores is not None  # noqa: S101 - of a similarity search there are scores
    return {
        "score": [f"{score:.3f}" for score in found.scores],
        "title": [row["title"] for row in found.rows],
        "kind": [row["kind"] for row in found.rows],
        "quality": [row["quality_score"] for row in found.rows],
        "teaches": [row["teaches"].split("\n", 1)[0] for row in found.rows],
    }

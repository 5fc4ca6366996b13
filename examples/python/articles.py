"""The articles the examples are about: 60 short texts on five topics, written for this purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "articles.jsonl"


def read_articles() -> list[dict[str, Any]]:
    """Rows with `id`, `title`, `text`, `topic`, `year` and `minutes` (to read it)."""
    return [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]

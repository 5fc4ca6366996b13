"""`vectable search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vectable.cli.options import db_option, json_option, open_existing, run
from vectable.cli.output import heading, times, write, write_json

if TYPE_CHECKING:
    from vectable.handles import Result

_READABLE = 24
"""Characters."""


@click.command(
    "search",
    epilog="""\b
Examples:
  vectable search code_layouts "parse dates"
  vectable search code_layouts "parse dates" --on teaches_embedding \\
      --where "quality_score >= 7 and language = 'Python'" --limit 5
  vectable search books "a heist in space" --where "author = ?" --param "Ann O'Hara"
  vectable search books "a heist in space" --select title,year --threshold 0.4 --explain
  vectable search books "a heist in space" --json | jq '.results[0].data.title'

\b
Filters compare columns with = != < <= > >=, and know in (…), between … and …, like, ilike,
is null, is not null, contains(column, 'x'), starts_with(column, 'x'), and, or, not.
Text stands in single quotes. A part of a json column is written meta.stars.
A filter never costs hits: what is asked for with --limit is found if it exists.""",
)
@click.argument("table")
@click.argument("text")
@click.option("--on", metavar="COLUMN", help="The vector column.  [default: the only one there is]")
@click.option(
    "--where", metavar="FILTER", multiple=True, help="Keep only matching rows; all given must hold."
)
@click.option(
    "--param",
    metavar="VALUE",
    multiple=True,
    help="The value of the next ? in the filters. 7, 0.5, true and null are what they look like, "
    "anything else is text; '\"7\"' is the text 7.",
)
@click.option(
    "--limit", type=click.IntRange(0, 10_000), default=10, show_default=True, help="At most so many hits."
)
@click.option("--threshold", type=float, metavar="SCORE", help="Only hits with at least this score.")
@click.option("--select", metavar="COLUMNS", multiple=True, help="Columns to show, comma-separated.")
@click.option("--order-by", metavar="COLUMN", multiple=True, help="Sort the hits: stars, -stars, -score.")
@click.option("--exact", is_flag=True, help="Compare with every row, whatever indexes there are.")
@click.option("--explain", is_flag=True, help="Show how the answer was found.")
@click.option(
    "--backend-plan", is_flag=True, help="Show also how PostgreSQL says it searches, where it does."
)
@db_option
@json_option
def search_command(table: str, text: str, db: str, as_json: bool, explain: bool, **request: Any) -> None:
    """Find the rows of TABLE nearest in meaning to TEXT.

    Scores are cosines, unless the column's metric is another: 1 means the same, 0 unrelated."""
    found = run(_search(db, table, text, request))
    explain = explain or request["backend_plan"]
    if as_json:
        write_json(as_data(found, explain))
        return
    write_result(found)
    if explain:
        from vectable.handles.show import plan_text

        heading("\nPlan")
        write(plan_text(found.plan))


async def _search(db: str, name: str, text: str, request: dict[str, Any]) -> Result:
    async with await open_existing(db) as database:
        table = await database.table(name)
        query = table.similar(
            text, on=request["on"], threshold=request["threshold"], exact=request["exact"]
        ).limit(request["limit"])
        query = query.where(conditions(request["where"], request["param"]))
        columns = [c.strip() for text in request["select"] for c in text.split(",") if c.strip()]
        if columns:
            query = query.select(*columns)
        if request["order_by"]:
            query = query.order_by(*[t for text in request["order_by"] for t in text.split(",")])
        found = await query.collect()
        if request["backend_plan"]:
            found.plan.backend_plan = (await query.explain(backend_plan=True)).backend_plan
        return found


def conditions(where: tuple[str, ...], params: tuple[str, ...]) -> Any:
    """One filter of several texts, each in parentheses, so that an `or` stays inside its own."""
    if not where:
        if params:
            raise click.UsageError("--param gives the value of a ? in --where, and there is none.")
        return None
    from vectable.core.predicate import SqlFilter

    text = where[0] if len(where) == 1 else " and ".join(f"({w})" for w in where)
    return SqlFilter(sql=text, params=tuple(value_of(p) for p in params))


def value_of(text: str) -> Any:
    """A number, true, false, null or quoted text as JSON has it; anything else is itself."""
    import json

    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return text if isinstance(value, (list, dict)) else value


def as_data(found: Result, explain: bool) -> dict[str, Any]:
    """The result as the HTTP API answers a search."""
    total = found.plan.times_ms.get("total", 0.0)
    data: dict[str, Any] = {
        "results": [{"data": dict(r), "score": r.score, "distance": r.distance} for r in found],
        "search_time_ms": round(total - found.plan.times_ms.get("embed", 0.0), 3),
        "embedding_time_ms": round(found.plan.times_ms.get("embed", 0.0), 3),
        "coverage": None if found.coverage is None else found.coverage._asdict(),
    }
    if explain:
        data["plan"] = found.plan.model_dump(mode="json")
    return data


def write_result(found: Result) -> None:
    """The hits as a table, and below what they are worth and what they took. Where not told what to show, as
    many columns as can be read side by side."""
    from vectable.handles.show import columns_text, footer

    if len(found):
        texts: dict[str, list[Any]] = {name: [row[name] for row in found.rows] for name in found.columns}
        shown = list(texts) if found.select else _readable(texts, _first_of_interest(found))
        scores = {} if found.scores is None else {"score": [f"{s:.4f}" for s in found.scores]}
        write(columns_text({**scores, **{name: texts[name] for name in shown}}))
        hidden = [name for name in texts if name not in shown]
        if hidden:
            write(f"Not shown: {', '.join(hidden)}. Choose with --select.")
    write(f"{footer(found)} ({times(found.plan)})")


def _first_of_interest(found: Result) -> list[str]:
    """The key, then what the searched column is made from."""
    from vectable.core.recipe import template_columns

    names = [c.name for c in found.table.key_columns]
    column = found.table.column(found.plan.column) if found.plan.column else None
    if column is not None and column.embedding is not None:
        names += template_columns(column.embedding.template)
    return names


def _readable(texts: dict[str, list[Any]], first: list[str]) -> list[str]:
    """As many columns as fit with `_READABLE` characters each, `first` ones before others."""
    import shutil

    from vectable.handles.show import cell

    room = shutil.get_terminal_size((100, 24)).columns - len("0.1234")
    taken: list[str] = []
    for name in dict.fromkeys([*first, *texts]):
        if name in texts:
            room -= 2 + min(_READABLE, max(len(text) for text in [name, *map(cell, texts[name])]))
            if room >= 0 or not taken:
                taken.append(name)
    return [name for name in texts if name in taken]

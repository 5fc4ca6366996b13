"""Rows and outcomes as people read them: aligned text for a terminal, an escaped table for a notebook."""

from __future__ import annotations

import datetime as dt
import html
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vectable.core.plan import Plan
    from vectable.handles.result import Result

MAX_ROWS = 20
MAX_CELL = 60
"""Character cells of one column in a terminal."""
MAX_HTML_CELL = 200
_NARROWEST = 8
_WIDEST_HEAD = 20
_GAP = "  "
_JOINERS = "\u200c\u200d"
"""What emoji and several scripts are put together with."""
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"


def clean(text: str) -> str:
    """`text` on one line, without characters a terminal would obey."""
    return text if text.isprintable() else "".join(map(_clean_character, text))


def _clean_character(c: str) -> str:
    if c.isprintable() or c in _JOINERS:
        return c
    if c in _INVISIBLE:
        return ""
    return " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"


def cell(value: Any) -> str:
    """One value as text on one line, of any length."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return " ".join(clean(value).split())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ").replace("+00:00", "Z")
    if isinstance(value, (bytes, bytearray)):
        return f"‹{len(value):,} bytes›"
    if isinstance(value, np.ndarray):
        return f"[{', '.join(f'{x:.3g}' for x in value[:3].tolist())}, … {value.size}]"
    if isinstance(value, (list, tuple, dict)):
        return clean(json.dumps(value, ensure_ascii=False, default=str))
    return clean(str(value))


def brief(value: Any, width: int = 40) -> str:
    """One value inside a repr: strings quoted, everything cut to `width`."""
    if isinstance(value, str):
        return repr(value if len(value) <= width else value[: width - 1] + "…")
    return cut(cell(value), width) if value is not None else "None"


def cut(text: str, width: int) -> str:
    """At most `width` terminal cells of `text`; an ellipsis marks what is missing."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _pad(text: str, width: int, right: bool) -> str:
    from rich.cells import cell_len

    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def columns_text(columns: Mapping[str, Sequence[Any]], width: int | None = None) -> str:
    """Columns of equal length, aligned, within `width` (default: the terminal's): numbers to the right,
    long text cut, columns that do not fit named in a last line."""
    from rich.cells import cell_len

    room = width or shutil.get_terminal_size((100, 24)).columns
    texts = {name: [cell(v) for v in values] for name, values in columns.items()}
    wanted = {n: min(MAX_CELL, max(map(cell_len, [clean(n), *texts[n]]))) for n in texts}
    floors = {n: min(wanted[n], max(_NARROWEST, min(cell_len(clean(n)), _WIDEST_HEAD))) for n in texts}
    shown = list(texts)
    while len(shown) > 1 and sum(floors[n] + len(_GAP) for n in shown) > room + len(_GAP):
        shown.pop()
    widths = _shrink({n: wanted[n] for n in shown}, floors, room - len(_GAP) * (len(shown) - 1))
    right = {n: bool(columns[n]) and all(_number(v) or v is None for v in columns[n]) for n in shown}

    def line(parts: Callable[[str], str]) -> str:
        return _GAP.join(_pad(cut(parts(n), widths[n]), widths[n], right[n]) for n in shown).rstrip()

    lines = [line(clean), _GAP.join("─" * widths[n] for n in shown)]
    count = len(texts[shown[0]]) if shown else 0
    lines += [line(lambda n, i=i: texts[n][i]) for i in range(count)]  # type: ignore[misc]
    hidden = [clean(n) for n in texts if n not in shown]
    return "\n".join([*lines, *(["not shown: " + cut(", ".join(hidden), room - 11)] if hidden else [])])


def _shrink(widths: dict[str, int], floors: Mapping[str, int], room: int) -> dict[str, int]:
    """Takes cells from the widest columns until all fit, or all are at their floors."""
    while sum(widths.values()) > room:
        able = [n for n in widths if widths[n] > floors[n]]
        if not able:
            break
        widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def footer(result: Result) -> str:
    """ "10 hits in 1.2 ms, exact, 9,998 of 10,000 rows searchable"."""
    noun = "row" if result.scores is None else "hit"
    parts = [f"{len(result):,} {noun}{'' if len(result) == 1 else 's'}"]
    if "total" in result.plan.times_ms:
        parts[0] += f" in {milliseconds(result.plan.times_ms['total'])}"
    if result.scores is not None:
        parts.append(_certainty(result.plan))
        if result.coverage is not None:
            parts.append(f"{result.coverage.searchable:,} of {result.coverage.rows:,} rows searchable")
    if result.next_cursor is not None:
        parts.append("more follow (next_cursor)")
    return ", ".join(parts)


def _certainty(plan: Plan) -> str:
    if plan.exact:
        return "exact"
    return "approximate" + (f" (recall {plan.recall:.4g})" if plan.recall is not None else "")


def milliseconds(value: float) -> str:
    """ "0.42 ms", "12.3 ms", "1.2 s"."""
    if value >= 1_000:
        return f"{value / 1_000:.1f} s"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms"


def _shown(result: Result, limit: int) -> dict[str, list[Any]]:
    """The columns to print, score first."""
    rows = result.rows[:limit]
    shown: dict[str, list[Any]] = {}
    if result.scores is not None:
        shown["score"] = [float(s) for s in result.scores[:limit]]
    for name in result.columns:
        shown[name] = [row[name] for row in rows]
    return shown


def _decimals(columns: dict[str, list[Any]], result: Result) -> dict[str, list[Any]]:
    if result.scores is not None:
        columns["score"] = [f"{s:.4f}" for s in columns["score"]]
    return columns


def result_text(result: Result, width: int | None = None) -> str:
    """The result as an aligned table of at most 20 rows, and what it is worth in the last line."""
    lines = []
    if len(result):
        lines.append(columns_text(_decimals(_shown(result, MAX_ROWS), result), width))
        if len(result) > MAX_ROWS:
            lines.append(f"… {len(result) - MAX_ROWS:,} more")
    return "\n".join([*lines, footer(result)])


def result_html(result: Result) -> str:
    """The same as an HTML table. Every value is escaped."""

    def text(value: Any) -> str:
        shown = cell(value)
        return html.escape(shown if len(shown) <= MAX_HTML_CELL else shown[: MAX_HTML_CELL - 1] + "…")

    columns = _decimals(_shown(result, MAX_ROWS), result)
    head = "".join(f"<th>{html.escape(clean(name))}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(v)}</td>" for v in values) + "</tr>"
        for values in zip(*columns.values(), strict=True)
    )
    more = f"<p>… {len(result) - MAX_ROWS:,} more</p>" if len(result) > MAX_ROWS else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if len(result) else ""
    return f"<div>{table}{more}<p>{html.escape(footer(result))}</p></div>"


def plan_text(plan: Plan) -> str:
    """A plan, one fact a line."""
    facts = [
        ("path", f"{plan.path} ({_certainty(plan)})"),
        ("why", plan.why),
        ("column", plan.column and f"{plan.column}, {plan.metric}"),
        ("index", plan.index),
        ("rows", _rows_fact(plan)),
        (
            "examined",
            f"{plan.rows_examined:,}" + (f", {plan.candidates:,} candidates" if plan.candidates else ""),
        ),
        ("filter", plan.filter_pushed),
        ("checked after", plan.filter_residual),
        *(("tried first", fallback) for fallback in plan.fallbacks),
        *(("backend plan", line) for line in (plan.backend_plan or "").splitlines()),
        ("times", ", ".join(f"{stage} {milliseconds(ms)}" for stage, ms in plan.times_ms.items())),
    ]
    return "\n".join(f"{name:<14} {clean(text)}" for name, text in facts if text)


def _rows_fact(plan: Plan) -> str:
    text = f"{plan.rows_total:,}"
    if plan.column is not None:
        text += f", {plan.rows_searchable:,} searchable"
    unfiltered = plan.filter_pushed is None and plan.rows_matching == plan.rows_searchable
    if plan.rows_matching is None or unfiltered:
        return text
    return text + f", {plan.rows_matching:,} matching the filter"

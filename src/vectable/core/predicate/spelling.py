"""Filters spelt out as the SQL-like text: for plans, messages and people."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

from vectable.core.predicate.columns import split_name
from vectable.core.predicate.nodes import FALSE, TRUE, Clause, Negation, Predicate
from vectable.core.predicate.reserved import RESERVED
from vectable.core.predicate.values import shown

_WORD = re.compile(r"[^\W\d]\w*")
_LISTED = 10
_LETTERS = 100


def spelled(predicate: Predicate, *, brief: bool = False) -> str:
    """`predicate` as text that `parse_filter` reads back into an equal filter, as long as its literals are
    texts, numbers and bools: the language has no others, so moments, lists and objects are merely shown.
    `brief` shortens long literals and lists."""
    return _node(predicate, brief, nested=False)


def _node(node: Predicate, brief: bool, nested: bool) -> str:
    if isinstance(node, Clause):
        return _clause(node, brief)
    if isinstance(node, Negation):
        return f"not ({_node(node.arg, brief, nested=False)})"
    if node in (TRUE, FALSE):
        return "true" if node == TRUE else "false"
    text = f" {node.op} ".join(_node(arg, brief, nested=True) for arg in node.args)
    return f"({text})" if nested else text


def _clause(clause: Clause, brief: bool) -> str:
    column, operator, value = _column(clause.column), clause.operator, clause.value
    if operator in ("is null", "is not null"):
        return f"{column} {operator}"
    if operator in ("contains", "starts_with"):
        return f"{operator}({column}, {_literal(value, brief)})"
    if operator == "between":
        return f"{column} between {_literal(value[0], brief)} and {_literal(value[1], brief)}"
    if operator in ("in", "not in"):
        listed = [_literal(v, brief) for v in (value[:_LISTED] if brief else value)]
        more = [f"… {len(value) - _LISTED:,} more"] if len(value) > len(listed) else []
        return f"{column} {operator} ({', '.join(listed + more)})"
    return f"{column} {operator} {_literal(value, brief)}"


def _column(name: str) -> str:
    column, path = split_name(name)
    plain = _WORD.fullmatch(column) and column.lower() not in RESERVED
    text = column if plain else _quoted(column)
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step:
            text += "." + (step if _WORD.fullmatch(step) else _quoted(step))
        else:
            text += "['']"
    return text


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any, brief: bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return f"'{value.isoformat().replace('+00:00', 'Z')}'"
    if isinstance(value, str):
        text = value[: _LETTERS - 1] + "…" if brief and len(value) > _LETTERS else value
        return "'" + text.replace("'", "''") + "'"
    if isinstance(value, float) or (isinstance(value, int) and not brief):
        return repr(value)
    if isinstance(value, int):
        return shown(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text[: _LETTERS - 1] + "…" if brief and len(text) > _LETTERS else text

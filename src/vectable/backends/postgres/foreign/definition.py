"""From a table of others, as it was seen, to a definition of ours."""

from __future__ import annotations

import re
from collections.abc import Collection

from vectable.backends.postgres.foreign.inspect import SeenTable
from vectable.backends.postgres.foreign.watch import key_types
from vectable.core.schema import MAX_COLUMNS, MAX_NAME_LENGTH, Column, Foreign, ForeignColumn, Table
from vectable.errors import Unsupported

_HITS_OWN = frozenset({"score", "similarity_score", "distance"})
_UNFIT = re.compile(r"\W+")


def definition_of(seen: SeenTable) -> Table:
    """The table under a name of its own, `main`'s; every column but the key's may be null, since some values
    have no meaning here. Raises Unsupported for too many columns."""
    if len(seen.columns) > MAX_COLUMNS:
        raise Unsupported(
            f"{seen.schema}.{seen.name} has {len(seen.columns)} columns",
            hint=f"a table has at most {MAX_COLUMNS:,}",
        )
    columns: list[Column] = []
    foreign: dict[str, ForeignColumn] = {}
    stored = dict(zip(seen.key, key_types([seen.columns[at] for at in seen.key]), strict=True))
    taken: set[str] = set(_HITS_OWN)
    for at, column in enumerate(seen.columns):
        type_ = column.mapped.key_type if at in seen.key else column.mapped.type
        name = fitting(column.name, taken)
        taken.add(name)
        ours = Column(name=name, type=type_, nullable=at not in seen.key)
        columns.append(ours)
        foreign[ours.id] = ForeignColumn(
            name=column.name, number=column.number, type=column.type, stored=stored.get(at, "")
        )
    moment = next((c.id for c in columns if foreign[c.id].name == seen.updated_at), None)
    return Table(
        name=fitting(seen.name, ()),
        key=tuple(columns[at].id for at in seen.key),
        columns=tuple(columns),
        foreign=Foreign(
            place=seen.schema, name=seen.name, number=seen.number, columns=foreign, updated_at=moment
        ),
    )


def fitting(name: str, taken: Collection[str]) -> str:
    """A name of ours for theirs: the same, where it is one of ours and free."""
    plain = _UNFIT.sub("_", name)
    if not plain or plain[0].isdigit() or not plain.isidentifier():
        plain = f"_{plain}"
    plain = plain[:MAX_NAME_LENGTH]
    found, number = plain, 2
    while found in taken:
        found = f"{plain[: MAX_NAME_LENGTH - 5]}_{number}"
        number += 1
    return found

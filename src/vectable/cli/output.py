"""What goes to standard output: JSON for programs, aligned text for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from vectable.cli.report import painted

if TYPE_CHECKING:
    from vectable.core.plan import Plan


def write_json(value: Any) -> None:
    """`value` as one JSON document. Moments are RFC 3339 in UTC, bytes {"base64": …}, vectors numbers."""
    import json

    plain_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    click.echo(json.dumps(value, default=_plain, ensure_ascii=plain_ascii, indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (bytes, bytearray, memoryview)):
        from base64 import b64encode

        return {"base64": b64encode(value).decode("ascii")}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def write(text: str = "") -> None:
    """Lines for people. What the terminal's encoding cannot say is written as ?."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "replace").decode(encoding))


def heading(text: str) -> None:
    """A line that stands out on a terminal."""
    write(painted(sys.stdout, text, bold=True))


def write_columns(columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of equal length as an aligned table that fits the terminal."""
    from vectable.handles.show import columns_text

    write(columns_text(columns))


def size(count: int) -> str:
    """ "17.2 MB"."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1_000
    return f"{amount:.1f} TB"


def times(plan: Plan) -> str:
    """ "embedding 2.9 ms, search 0.4 ms": what the model took, and everything else."""
    from vectable.handles.show import milliseconds

    embed = plan.times_ms.get("embed")
    total = plan.times_ms.get("total", 0.0)
    if embed is None:
        return f"search {milliseconds(total)}"
    return f"embedding {milliseconds(embed)}, search {milliseconds(max(0.0, total - embed))}"


def cell_states(states: Mapping[str, int]) -> str:
    """ "9,603 ready, 12 new"; "no rows" where all are zero."""
    parts = [f"{count:,} {state.replace('_', ' ')}" for state, count in states.items() if count]
    return ", ".join(parts) or "no rows"

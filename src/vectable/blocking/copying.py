"""Copying tables from one database to another, synchronous: the same function, which waits."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectable.blocking.loop import current_loop
from vectable.handles.copying import copy_async

if TYPE_CHECKING:
    from vectable.engine.copy import Copied


def copy(
    source: str | Path, destination: str | Path, tables: Sequence[str] | None = None, **settings: Any
) -> Copied:
    return current_loop().run(copy_async(source, destination, tables, **settings))


copy.__doc__ = inspect.getdoc(copy_async)

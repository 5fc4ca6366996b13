"""Rows in memory that are far behind their table are brought up to date beside the searches, which the
backend answers meanwhile, each at its own moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from vectable.engine.resident.resident import GivenUp, ResidentKey
from vectable.errors import VectableError

log = logging.getLogger(__name__)
AT_ONCE = 2_000
"""So many changed rows a search brings up itself: it takes no longer than to let the backend answer."""
WHY = f"more than {AT_ONCE:,} rows changed: those in memory are brought up to date beside this search"


class CatchUps:
    """What is under way in one database, on its event loop: one at a time for the same rows."""

    def __init__(self) -> None:
        self._tasks: dict[ResidentKey, asyncio.Task[None]] = {}

    def under_way(self, key: ResidentKey) -> bool:
        """Whether these rows are being brought up to date."""
        return key in self._tasks

    def start(self, key: ResidentKey, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `work` unless these rows are at it already."""
        if key not in self._tasks:
            self._tasks[key] = task = asyncio.create_task(self._quietly(work), name="catch up")
            task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _quietly(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except GivenUp:
            pass  # evicted meanwhile: the next search loads them
        except VectableError as error:
            log.info("rows in memory stay behind for now: %s", error)
        except Exception:
            log.exception("bringing rows in memory up to date has failed")

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

"""Claims on contents: of all processes that need the same vector, one pays for it, the others wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from pydantic import ValidationError

from vectable.core.schema import new_id
from vectable.engine.leases import RENEW_S, Process, this_process
from vectable.errors import BackendError, Conflict
from vectable.interfaces import Entry, StateStore

_PREFIX = "claim/"
_TRIES = 5
_POLL_S = 0.1
log = logging.getLogger(__name__)


class _Claim(Process):
    owner: str


class Claims:
    """Claims of one process, kept in the state store. Where that cannot be written nothing is claimed, and
    all is granted."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._owner = new_id()
        self._held: set[bytes] = set()
        """Claimed now: a claim of ours that is not among them could not be given back when it ended."""

    @contextlib.asynccontextmanager
    async def take(self, keys: Sequence[bytes]) -> AsyncIterator[list[bytes]]:
        """Those of `keys` that nobody else is at work on, claimed for as long as the block runs. A claim of a
        process that ended counts for nothing."""
        granted, kept = await self._granted(keys)
        if not kept:
            yield granted
            return
        self._held.update(granted)
        renewal = asyncio.create_task(self._renew_forever(granted))
        try:
            yield granted
        finally:
            renewal.cancel()
            self._held.difference_update(granted)
            await self._release(granted)

    async def each_once(
        self,
        keys: Sequence[bytes],
        look: Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, bytes]]],
        compute: Callable[[Sequence[bytes]], Awaitable[None]],
        deliver: Callable[[bytes, bytes], None],
    ) -> None:
        """Computes those of `keys` that nobody else is at work on; the others are waited for, and delivered
        as soon as `look` finds them. Each key comes to `compute` or to `deliver`, once."""
        left = dict.fromkeys(keys)
        while left:
            async with self.take(list(left)) as granted:
                # Whoever had them claimed a moment ago may have kept them.
                known = await look(granted)
                await compute([key for key in granted if key not in known])
            for key in granted:
                del left[key]
            if left and not granted:
                await asyncio.sleep(_POLL_S)
                known = await look(list(left))
            for key, vector in known.items():
                deliver(key, vector)
                left.pop(key, None)

    async def _granted(self, keys: Sequence[bytes]) -> tuple[list[bytes], bool]:
        """(Those claimed, whether that is written down)."""
        try:
            for _ in range(_TRIES):
                entries = await self._state.get([_name(key) for key in keys])
                free = [key for key in keys if not self._taken(key, entries.get(_name(key)))]
                expects = {n: entries[n].revision if n in entries else 0 for n in map(_name, free)}
                if not free:
                    return [], False
                try:
                    await self._state.commit(expects, dict.fromkeys(expects, self._claim()))
                    return free, True
                except Conflict:
                    continue  # somebody claimed one of them just now
        except BackendError as error:
            log.info("contents are embedded without a claim on them: %s", error)
            return list(keys), False
        return [], False

    async def prune(self) -> None:
        """Forgets the claims of processes that ended."""
        entries = await self._state.scan(_PREFIX)
        dead = {n: e.revision for n, e in entries.items() if not ((c := _read(e)) and c.alive())}
        if dead:
            try:
                await self._state.commit(dead, deletes=list(dead))
            except Conflict:
                pass  # some were taken over just now: the others can wait

    def _taken(self, key: bytes, entry: Entry | None) -> bool:
        claim = None if entry is None else _read(entry)
        if claim is None:
            return False
        return key in self._held if claim.owner == self._owner else claim.alive()

    def _claim(self) -> bytes:
        return _Claim(owner=self._owner, **this_process()).model_dump_json().encode()

    async def _mine(self, keys: Sequence[bytes]) -> dict[str, int]:
        """Revisions of those claims that nobody has taken over."""
        entries = await self._state.get([_name(key) for key in keys])
        return {n: e.revision for n, e in entries.items() if (c := _read(e)) and c.owner == self._owner}

    async def _renew_forever(self, keys: Sequence[bytes]) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                mine = await self._mine(keys)
                await self._state.commit(mine, dict.fromkeys(mine, self._claim()))
            except (BackendError, Conflict) as error:
                log.info("claims on contents could not be renewed: %s", error)

    async def _release(self, keys: Sequence[bytes]) -> None:
        try:
            mine = await self._mine(keys)
            await self._state.commit(mine, deletes=list(mine))
        except (BackendError, Conflict) as error:
            log.info("claims on contents will expire by themselves: %s", error)


def _name(key: bytes) -> str:
    return _PREFIX + key.hex()


def _read(entry: Entry) -> _Claim | None:
    try:
        return _Claim.model_validate_json(entry.value)
    except ValidationError:
        return None

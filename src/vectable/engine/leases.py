"""Leases: one worker at a time for a piece of work, over any number of processes and their sudden ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from vectable.core.schema import new_id
from vectable.errors import BackendError, Conflict
from vectable.interfaces import StateStore

TTL_S = 30.0
RENEW_S = 8.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """`fence` grows with every holder, so that a later write can tell a holder that has been replaced."""

    name: str
    owner: str
    fence: int


def signature() -> dict[str, object]:
    """What others can tell this process by, for a time: see `alive`."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "expires": time.time() + TTL_S}


def alive(holder: dict[str, object]) -> bool:
    """Whether the holder may still be working: not expired, and its process exists where that can be seen."""
    if float(str(holder["expires"])) < time.time():
        return False
    return holder["host"] != socket.gethostname() or _runs(int(str(holder["pid"])))


def _runs(process: int) -> bool:
    """Whether that process of this machine still runs: one that ended and nobody waited for does not."""
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's, or this system has no /proc
    return stat.rpartition(b")")[2].split()[:1] not in ([b"Z"], [b"X"])


class Leases:
    """Leases of one process, kept in the state store."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._owner = new_id()
        self._mine: set[str] = set()
        """Names held now: a lease of ours that is not among them could not be given back when it ended."""

    def _taken(self, name: str, holder: dict[str, object]) -> bool:
        return name in self._mine if holder["owner"] == self._owner else alive(holder)

    async def acquire(self, name: str) -> Lease | None:
        """The lease, or None while somebody else holds it."""
        key = f"lease/{name}"
        entry = (await self._state.get([key])).get(key)
        holder = json.loads(entry.value) if entry else None
        if holder is not None and holder["owner"] is not None and self._taken(name, holder):
            return None
        lease = Lease(name, self._owner, (holder["fence"] if holder else 0) + 1)
        try:
            await self._state.commit({key: entry.revision if entry else 0}, {key: self._record(lease)})
        except Conflict:
            return None
        self._mine.add(name)
        return lease

    def _record(self, lease: Lease) -> bytes:
        return json.dumps({"owner": lease.owner, "fence": lease.fence, **signature()}).encode()

    async def held(self, name: str) -> bool:
        """Whether anybody is at work under that name now."""
        key = f"lease/{name}"
        entry = (await self._state.get([key])).get(key)
        if entry is None:
            return False
        holder = json.loads(entry.value)
        return holder["owner"] is not None and self._taken(name, holder)

    async def renew(self, lease: Lease) -> bool:
        """Extends it; False when it was lost to somebody else."""
        key = f"lease/{lease.name}"
        entry = (await self._state.get([key])).get(key)
        if entry is None or json.loads(entry.value)["fence"] != lease.fence:
            return False
        with contextlib.suppress(Conflict):
            await self._state.commit({key: entry.revision}, {key: self._record(lease)})
            return True
        return False

    async def release(self, lease: Lease) -> None:
        """Gives it back; the fencing number is kept."""
        self._mine.discard(lease.name)
        key = f"lease/{lease.name}"
        entry = (await self._state.get([key])).get(key)
        if entry is None or json.loads(entry.value)["fence"] != lease.fence:
            return
        free = json.dumps({"owner": None, "fence": lease.fence, "pid": 0, "host": "", "expires": 0})
        with contextlib.suppress(Conflict):
            await self._state.commit({key: entry.revision}, {key: free.encode()})

    @contextlib.asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Lease | None]:
        """Holds the lease while the block runs, renewing it; None when somebody else has it."""
        lease = await self.acquire(name)
        if lease is None:
            yield None
            return
        renewal = asyncio.create_task(self._renew_forever(lease))
        try:
            yield lease
        finally:
            renewal.cancel()
            try:
                await self.release(lease)
            except BackendError as error:
                log.warning("the lease %s will expire by itself: %s", lease.name, error)

    async def _renew_forever(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                if not await self.renew(lease):
                    return
            except BackendError as error:
                log.warning("the lease %s could not be renewed: %s", lease.name, error)

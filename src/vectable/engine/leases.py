"""Leases: one worker at a time for a piece of work, over any number of processes and their sudden ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vectable.core.schema import new_id
from vectable.engine.stored import stored_model
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


class Process(BaseModel):
    """A process, for others to tell whether it may still be at work."""

    pid: int
    host: str
    expires: float
    """Unix time from which it counts as gone, wherever it is."""

    def alive(self) -> bool:
        """Not expired, and there, where that can be seen."""
        if self.expires < time.time():
            return False
        return self.host != _host() or _runs(self.pid)


def this_process() -> dict[str, Any]:
    """The fields of `Process` for this one, for the time of a lease."""
    return {"pid": os.getpid(), "host": _host(), "expires": time.time() + TTL_S}


@cache
def _host() -> str:
    """Where a process number means the same process: this machine, since it started, in this container. Its
    name alone may be that of many containers."""
    name = socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return name


class _Holder(Process):
    """What is kept of a lease; `owner` None: it was given back."""

    owner: str | None
    fence: int


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

    async def _find(self, name: str) -> tuple[_Holder | None, int]:
        """The record of a lease and its revision."""
        key = f"lease/{name}"
        entry = (await self._state.get([key])).get(key)
        return (None, 0) if entry is None else (stored_model(_Holder, key, entry), entry.revision)

    def _taken(self, name: str, holder: _Holder | None) -> bool:
        if holder is None or holder.owner is None:
            return False
        return name in self._mine if holder.owner == self._owner else holder.alive()

    async def _put(self, revision: int, name: str, **facts: Any) -> bool:
        """False when somebody else was faster."""
        key = f"lease/{name}"
        try:
            await self._state.commit({key: revision}, {key: _Holder(**facts).model_dump_json().encode()})
        except Conflict:
            return False
        return True

    async def acquire(self, name: str) -> Lease | None:
        """The lease, or None while somebody else holds it."""
        holder, revision = await self._find(name)
        if self._taken(name, holder):
            return None
        lease = Lease(name, self._owner, (holder.fence if holder else 0) + 1)
        if not await self._put(revision, name, owner=lease.owner, fence=lease.fence, **this_process()):
            return None
        self._mine.add(name)
        return lease

    async def held(self, name: str) -> bool:
        """Whether anybody is at work under that name now."""
        return self._taken(name, (await self._find(name))[0])

    async def renew(self, lease: Lease) -> bool:
        """Extends it; False when it was lost to somebody else."""
        holder, revision = await self._find(lease.name)
        if holder is None or holder.fence != lease.fence:
            return False
        return await self._put(revision, lease.name, owner=lease.owner, fence=lease.fence, **this_process())

    async def release(self, lease: Lease) -> None:
        """Gives it back; the fencing number is kept."""
        self._mine.discard(lease.name)
        holder, revision = await self._find(lease.name)
        if holder is not None and holder.fence == lease.fence:
            await self._put(revision, lease.name, owner=None, fence=lease.fence, pid=0, host="", expires=0)

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

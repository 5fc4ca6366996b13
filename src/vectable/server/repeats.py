"""`Idempotency-Key`: a POST sent twice acts once, and both are given the same answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vectable.errors import BackendError, Conflict, InvalidInput
from vectable.interfaces import StateStore
from vectable.server.limits import drain

HEADER = "idempotency-key"
REPLAYED = "Idempotency-Replayed"
KEEP_S = 24 * 3600
_VALID = re.compile(r"[\x21-\x7e]{1,200}")
_PREFIX = "idempotency/"
_PRUNE_EVERY = 500


def key_of(request: Request) -> str | None:
    """The request's key, if it has one. Raises InvalidInput for one that cannot be a key."""
    key = request.headers.get(HEADER)
    if key is not None and not _VALID.fullmatch(key):
        raise InvalidInput(
            "the Idempotency-Key must be 1 to 200 visible ASCII characters", hint="a UUID is a good key"
        )
    return key


class Fingerprint:
    """What tells one request from another: method, path, media type and body. The body may be given at once
    or be read from
    `chunks`; what is left of it is read before the fingerprint is taken."""

    def __init__(self, request: Request, body: bytes | None = None) -> None:
        self._hash = hashlib.sha256()
        head = (request.method, request.scope["path"], request.headers.get("content-type", ""))
        self._hash.update("\n".join((*head, "")).encode("utf-8", "surrogatepass"))
        self.chunks: AsyncIterator[bytes] | None = None
        """The body, where it was not given: reading it here takes it into the fingerprint."""
        if body is None:
            self.chunks = self._read(request)
        else:
            self._hash.update(body)

    async def _read(self, request: Request) -> AsyncIterator[bytes]:
        async for chunk in request.stream():
            self._hash.update(chunk)
            yield chunk

    async def take(self) -> str:
        """The fingerprint, in hexadecimal."""
        if self.chunks is not None:
            await drain(self.chunks)
        return self._hash.hexdigest()


class Repeats:
    """Answers already given, kept for a day in the state store. Only success is kept: what failed did
    nothing, so doing it again is right."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._since_pruned = _PRUNE_EVERY

    async def once(
        self,
        principal: str,
        key: str,
        fingerprint: Fingerprint,
        work: Callable[[], Awaitable[Response]],
    ) -> Response:
        """The answer of `work`, or the one given to the same request before. Requests of one key wait for
        each other. Raises Conflict when `key` came with another request."""
        name = f"{_PREFIX}{principal}/{key}"
        async with self._alone(name):
            entry = (await self._state.get([name])).get(name)
            if entry is not None:
                return _replayed(entry.value, await fingerprint.take(), key)
            response = await work()
            if response.status_code < 300 and hasattr(response, "body"):
                await self._keep(name, await fingerprint.take(), response)
            return response

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        lock, waiting = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[name]
            if waiting == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, waiting - 1)

    async def _keep(self, name: str, fingerprint: str, response: Response) -> None:
        kept = {
            "request": fingerprint,
            "status": response.status_code,
            "body": bytes(response.body).decode("utf-8"),
            "media_type": response.media_type,
            "at": time.time(),
        }
        try:
            await self._state.commit({name: 0}, {name: orjson.dumps(kept)})
        except Conflict:
            return  # another process answered the same request; either answer is right
        except BackendError:
            return  # what was asked for is done, so the answer is given though it cannot be kept
        self._since_pruned += 1
        if self._since_pruned > _PRUNE_EVERY:
            self._since_pruned = 0
            await self.prune()

    async def prune(self) -> None:
        """Forgets answers older than a day."""
        oldest = time.time() - KEEP_S
        entries = await self._state.scan(_PREFIX)
        old = [name for name, entry in entries.items() if orjson.loads(entry.value)["at"] < oldest]
        if old:
            await self._state.commit(deletes=old)


def _replayed(kept: bytes, fingerprint: str, key: str) -> Response:
    found = orjson.loads(kept)
    if found["request"] != fingerprint:
        raise Conflict(
            f"the Idempotency-Key {key!r} was used for another request",
            hint="use a new key for a new request, and the same body for a repeated one",
        )
    headers = {REPLAYED: "true"}
    return Response(found["body"].encode(), found["status"], headers, found["media_type"])

"""Who may do what: keys recognised, roles and table scopes kept, refusals counted and slowed down."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from vectable.engine.keys import ApiKey, ApiKeys, Role
from vectable.errors import AccessDenied, RateLimited, Unauthenticated, VectableError
from vectable.server.metrics import Metrics
from vectable.server.roles import suffices
from vectable.server.source import Source

_MINUTE_S = 60.0
_MOST_CLIENTS = 10_000
_MOST_KEYS = 1_000
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `key` is None where nobody is asked for one: everything is allowed."""

    key: ApiKey | None = None

    @property
    def principal(self) -> str:
        """Names the caller in records."""
        return "local" if self.key is None else f"key/{self.key.id}"

    def reaches(self, table: str) -> bool:
        """Whether the caller may see the table of that name."""
        return self.key is None or self.key.reaches(table)


ANYBODY = Caller()


class Refusals:
    """How often each client was refused within a minute. Bounded: those refused longest ago go first."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Seconds for which `client` is not listened to; 0: it is."""
        began, count = self._windows.get(client, (0.0, 0))
        return max(0.0, began + _MINUTE_S - self._clock()) if count >= self._most else 0.0

    def note(self, client: str) -> None:
        """`client` was refused."""
        now = self._clock()
        began, count = self._windows.pop(client, (now, 0))
        self._windows[client] = (began, count + 1) if now - began < _MINUTE_S else (now, 1)
        while len(self._windows) > _MOST_CLIENTS:
            self._windows.popitem(last=False)


class Access:
    """The guard of one server process."""

    def __init__(
        self, keys: ApiKeys, metrics: Metrics, *, asks: bool, plain_http: bool, refusals: Refusals
    ) -> None:
        """`asks`: for a key even where none was ever made. `plain_http`: keys are taken unencrypted from
        other machines, too."""
        self._keys = keys
        self._metrics = metrics
        self._asks = asks
        self._plain_http = plain_http
        self._refusals = refusals
        self._looked_at = float("-inf")
        self._recognised: OrderedDict[str, None] = OrderedDict()

    async def caller(self, authorization: bytes | None, source: Source) -> Caller:
        """Who makes the request. Raises Unauthenticated, AccessDenied, and RateLimited for a client that was
        refused too often."""
        if not await self._asks_for_keys():
            return ANYBODY  # some clients cannot help sending a key
        if authorization is None:
            raise self._refused(
                "no-key",
                source.address,
                Unauthenticated("a key is needed here", hint="send the header: Authorization: Bearer KEY"),
            )
        if not (source.encrypted or source.local or self._plain_http):
            raise self._refused("plain-http", source.address, _readable())
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            unusable = Unauthenticated(
                "the Authorization header holds no key", hint="send it as: Authorization: Bearer KEY"
            )
            raise self._refused("no-key", source.address, unusable)
        return Caller(await self._recognise(token.strip(), source.address))

    async def _recognise(self, token: str, client: str) -> ApiKey:
        wait_s = self._refusals.wait_s(client)
        if wait_s and token.removeprefix("vt_").partition("_")[0] not in self._recognised:
            # Nothing is looked up: guessing costs the database nothing. Keys in use are not locked out by it.
            self._metrics.refused("too-often")
            raise _too_often(wait_s)
        try:
            key = await self._keys.recognise(token)
        except Unauthenticated as error:
            raise self._refused("unknown-key", client, error) from None
        self._recognised[key.id] = None
        self._recognised.move_to_end(key.id)
        if len(self._recognised) > _MOST_KEYS:
            self._recognised.popitem(last=False)
        return key

    async def _asks_for_keys(self) -> bool:
        """Once there was a key, one is asked for. Until then it is looked for about once a second."""
        if not self._asks and time.monotonic() - self._looked_at > LOOK_AGAIN_S:
            self._looked_at = time.monotonic()
            self._asks = await self._keys.exist()
        return self._asks

    def allow(self, caller: Caller, needed: Role, table: str | None, *, concerns_all: bool = False) -> None:
        """Raises AccessDenied when the caller's key is not for that: its role, the table, or every table."""
        key = caller.key
        if key is None:
            return
        if not suffices(key.role, needed):
            denied = AccessDenied(
                f"this needs the role {needed}, and the key {key.name!r} has {key.role}",
                hint=f"use a key made with: vectable keys create NAME --role {needed}",
            )
            raise self._refused("role", caller.principal, denied)
        if concerns_all and key.tables is not None:
            denied = AccessDenied(
                f"the key {key.name!r} is for single tables, and this is for all of them",
                hint="use a key made without --table",
            )
            raise self._refused("table", caller.principal, denied)
        if table is not None and not key.reaches(table):
            self.deny_table(caller, table)

    def deny_table(self, caller: Caller, table: str) -> None:
        """Raises AccessDenied for a table the caller's key is not for: whether it exists is not told."""
        name = caller.key.name if caller.key else ""
        denied = AccessDenied(
            f"the key {name!r} is not for the table {table[:100]!r}", hint="use a key that is"
        )
        raise self._refused("table", caller.principal, denied)

    def _refused(self, reason: str, client: str, error: VectableError) -> VectableError:
        """Counts a refusal; the error to raise: `error`, or RateLimited for a client refused too often."""
        wait_s = self._refusals.wait_s(client)
        self._metrics.refused("too-often" if wait_s else reason)
        if wait_s:
            return _too_often(wait_s)
        self._refusals.note(client)
        return error


def _too_often(wait_s: float) -> RateLimited:
    seconds = max(1, round(wait_s))
    return RateLimited(
        "too many requests from there were refused",
        hint=f"come back in {seconds} s, with a key that is valid for this",
        context={"retry_after_s": seconds},
    )


def _readable() -> AccessDenied:
    return AccessDenied(
        "a key may not be sent over plain HTTP: everybody on the way can read it; revoke this one",
        hint="use https; behind a proxy that ends TLS, declare it with --trusted-proxies, and let it send "
        "X-Forwarded-Proto: https",
    )

"""API keys: made, listed, revoked, recognised. Kept with the database: all its servers know the same."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from vectable.core.schema import DEFAULT_NAMESPACE, split_table_name
from vectable.engine.stored import stored_model
from vectable.errors import AlreadyExists, Conflict, InvalidInput, NotFound, Unauthenticated, did_you_mean
from vectable.interfaces import StateStore

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "admin")
_PREFIX = "api-key/"
_MARKER = "api-keys"
"""Exists from the first key on, for ever: a database whose last key was revoked still asks for one."""
_TOKEN = re.compile(r"vt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


class ApiKey(BaseModel):
    """What may be shown of a key. `tables`: the only ones it reaches, by full name; None: all."""

    id: str
    name: str
    role: Role
    tables: list[str] | None = None
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None

    @property
    def state(self) -> Literal["active", "revoked", "expired"]:
        """Whether it opens anything now."""
        if self.revoked_at is not None:
            return "revoked"
        expired = self.expires_at is not None and dt.datetime.fromisoformat(self.expires_at) <= _now()
        return "expired" if expired else "active"

    def reaches(self, table: str) -> bool:
        """Whether it may be used for the table of that name. Raises InvalidInput for what names none."""
        return self.tables is None or _full_name(table) in self.tables


class _Kept(BaseModel):
    """A key as it is stored: without the secret, by whose hash it is recognised."""

    key: ApiKey
    digest: str


class ApiKeys:
    """The keys of one database. Nothing is remembered in between: what one process revokes is refused by all
    from then on."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    async def create(
        self,
        name: str,
        role: Role = "read",
        tables: Sequence[str] = (),
        expires_at: dt.datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key, and the text that is it: the only time that it can be had. `tables` need not exist yet;
        none: all. Raises AlreadyExists for a name in use, InvalidInput."""
        if not _NAME.fullmatch(name) or name != name.strip():
            raise InvalidInput(f"{name[:100]!r} names no key", hint="give 1 to 100 printable characters")
        if role not in ROLES:
            raise InvalidInput(f"there is no role {role!r}", hint=f"roles: {', '.join(ROLES)}")
        if expires_at is not None and expires_at <= _now():
            raise InvalidInput("the key would have expired already", hint="name a moment to come")
        if any(key.name == name and key.state == "active" for key in await self.list()):
            raise AlreadyExists(
                f"there is a key named {name!r}", hint="revoke it first, or choose another name"
            )
        secret = secrets.token_urlsafe(32)
        key = ApiKey(
            id=secrets.token_hex(6),
            name=name,
            role=role,
            tables=sorted({_full_name(table) for table in tables}) or None,
            created_at=_text(_now()),
            expires_at=None if expires_at is None else _text(expires_at),
        )
        kept = _Kept(key=key, digest=_digest(key.id, secret))
        stored = f"{_PREFIX}{key.id}"
        await self._state.commit({stored: 0}, {stored: kept.model_dump_json().encode(), _MARKER: b"1"})
        return key, f"vt_{key.id}_{secret}"

    async def list(self) -> list[ApiKey]:
        """Every key ever made, the oldest first."""
        entries = await self._state.scan(_PREFIX)
        keys = [stored_model(_Kept, name, entry).key for name, entry in entries.items()]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def revoke(self, named: str) -> ApiKey:
        """Makes a key, by id or name, open nothing any more. May be repeated. Raises NotFound."""
        keys = await self.list()
        found = [k for k in keys if k.id == named] or [k for k in keys if k.name == named]
        active = [k for k in found if k.revoked_at is None]
        if not found:
            hint = did_you_mean(named, [k.name for k in keys], "keys")
            raise NotFound(f"there is no key {named[:100]!r}", hint=hint)
        if not active:
            return found[-1]
        # Two that were made at the same moment may share a name: neither may be left.
        return [await self._revoke(key.id) for key in active][-1]

    async def _revoke(self, id: str) -> ApiKey:
        name = f"{_PREFIX}{id}"
        while True:
            entry = (await self._state.get([name]))[name]
            kept = stored_model(_Kept, name, entry)
            if kept.key.revoked_at is not None:
                return kept.key
            kept.key.revoked_at = _text(_now())
            try:
                await self._state.commit({name: entry.revision}, {name: kept.model_dump_json().encode()})
                return kept.key
            except Conflict:
                continue  # somebody else revokes it at the same moment

    async def exist(self) -> bool:
        """Whether there ever was a key: from then on, one is asked for."""
        return bool(await self._state.get([_MARKER]))

    async def recognise(self, token: str) -> ApiKey:
        """The key that `token` is. Raises Unauthenticated, in the same words for a key that never was and one
        whose secret is wrong; a revoked or expired one is told so, to those who hold it."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise _unknown()
        name = f"{_PREFIX}{match[1]}"
        entry = (await self._state.get([name])).get(name)
        if entry is None:
            raise _unknown()
        kept = stored_model(_Kept, name, entry)
        if not hmac.compare_digest(kept.digest, _digest(match[1], match[2])):
            raise _unknown()
        if kept.key.state != "active":
            raise Unauthenticated(
                f"the key {kept.key.name!r} is {kept.key.state}",
                hint="make a new one: vectable keys create NAME",
            )
        return kept.key


def _full_name(name: str) -> str:
    namespace, table = split_table_name(name)
    return table if namespace == DEFAULT_NAMESPACE else f"{namespace}.{table}"


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "this key is not known here", hint="vectable keys create NAME makes one, and shows it once"
    )


def _digest(id: str, secret: str) -> str:
    # A slow hash guards what people choose. The secret is 256 random bits: nobody finds it by trying.
    return hashlib.sha256(f"{id}.{secret}".encode()).hexdigest()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")

"""The day's spend, kept in the state store: one account for every process, over restarts.

Before a request is sent the most it can cost is reserved, by compare-and-set, so that no two processes spend
the same remainder; afterwards the reservation is replaced by what it did cost. A process that dies in between
leaves its reservation standing: the request may have been billed, and the cap is to hold all the same.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from vectable.errors import BackendError, Conflict, Overloaded, SpendCapReached
from vectable.interfaces import StateStore
from vectable.providers.guard.money import shown

log = logging.getLogger(__name__)
_PREFIX = "spend/"
_KEPT_DAYS = 90
_TRIES = 200
_RETRY_S = 0.02


class Spend(BaseModel):
    """A model's account of one day, amounts in pieces of `money`."""

    spent: int = 0
    reserved: int = 0
    """For requests under way, and for those of processes that died meanwhile."""
    requests: int = 0
    tokens: int = 0

    @property
    def committed(self) -> int:
        """What counts against the cap."""
        return self.spent + self.reserved


class _Day(BaseModel):
    models: dict[str, Spend] = {}


@dataclass(frozen=True, slots=True)
class Reservation:
    """`amount` set aside for one request of `model`, in the account of `day`."""

    day: str
    model: str
    amount: int


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit for a day: of one model, or (`model` None) of all together."""

    amount: int
    model: str | None = None


def utc_now() -> datetime.datetime:
    """Now, in the time zone days are counted in."""
    return datetime.datetime.now(datetime.UTC)


class SpendLedger:
    """The accounts in one state store. Days are UTC's."""

    def __init__(self, state: StateStore, now: Callable[[], datetime.datetime] | None = None) -> None:
        self._state = state
        self._now = now or utc_now
        self._pruned = ""

    async def reserve(self, model: str, amount: int, caps: list[Cap]) -> Reservation:
        """Sets `amount` aside. Raises SpendCapReached when a cap leaves less, and BackendError when there
        are caps and the account cannot be written: nothing may be sent then."""
        day = self._now().date().isoformat()
        await self._prune(day)

        def set_aside(accounts: _Day) -> None:
            for cap in caps:
                self._check(accounts, cap, model, amount)
            accounts.models.setdefault(model, Spend()).reserved += amount

        await self._change(day, set_aside, needed=bool(caps))
        return Reservation(day, model, amount)

    async def settle(self, reservation: Reservation, amount: int, tokens: int) -> None:
        """Replaces the reservation by what the request did cost (0: it was not billed)."""

        def replace(accounts: _Day) -> None:
            account = accounts.models.setdefault(reservation.model, Spend())
            account.reserved = max(0, account.reserved - reservation.amount)
            account.spent += amount
            account.requests += 1
            account.tokens += tokens

        await self._change(reservation.day, replace, needed=False)

    async def today(self) -> dict[str, Spend]:
        """The accounts of this day, by model id."""
        return (await self._read(self._now().date().isoformat()))[0].models

    def _check(self, accounts: _Day, cap: Cap, model: str, amount: int) -> None:
        counted = [s for m, s in accounts.models.items() if cap.model in (None, m)]
        committed = sum(account.committed for account in counted)
        if committed + amount <= cap.amount:
            return
        now = self._now()
        midnight = (now + datetime.timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        of = f"of {cap.model}" if cap.model else "of all remote models"
        raise SpendCapReached(
            f"the daily spend cap {of} is {shown(cap.amount)}, {shown(committed)} of it is spent, and this "
            f"request of {model} may cost {shown(amount)}: nothing was sent",
            hint="raise daily_spend_cap in the models file, or wait for the next day (UTC)",
            context={
                "model": model,
                "cap": shown(cap.amount),
                "spent": shown(committed),
                "retry_after_s": max(1, int((midnight - now).total_seconds())),
            },
        )

    async def _read(self, day: str) -> tuple[_Day, int]:
        key = _PREFIX + day
        entry = (await self._state.get([key])).get(key)
        if entry is None:
            return _Day(), 0
        try:
            return _Day.model_validate_json(entry.value), entry.revision
        except ValidationError:
            raise BackendError(
                f"the account of what was spent on {day} is damaged", hint=f"the state store's key is {key}"
            ) from None

    async def _change(self, day: str, change: Callable[[_Day], None], *, needed: bool) -> None:
        try:
            for attempt in range(_TRIES):
                accounts, revision = await self._read(day)
                change(accounts)
                try:
                    await self._state.commit(
                        {_PREFIX + day: revision}, {_PREFIX + day: accounts.model_dump_json().encode()}
                    )
                    return
                except Conflict:
                    await asyncio.sleep(random.uniform(0, _RETRY_S * min(attempt + 1, 10)))  # noqa: S311
        except BackendError as error:
            if needed:
                raise
            log.warning("what was spent could not be noted: %s", error)
            return
        if needed:
            raise Overloaded("too many processes are noting what they spend", hint="try again")
        log.warning("what was spent could not be noted: too many processes do so at once")

    async def _prune(self, day: str) -> None:
        """Once a day and process: accounts nobody asks for any more go."""
        if self._pruned == day:
            return
        self._pruned = day
        oldest = (self._now().date() - datetime.timedelta(days=_KEPT_DAYS)).isoformat()
        try:
            old = [key for key in await self._state.scan(_PREFIX) if key < _PREFIX + oldest]
            if old:
                await self._state.commit(deletes=old)
        except (BackendError, Conflict) as error:
            log.info("old accounts of spend stay: %s", error)

"""What a request may cost, and what it did cost: booked to the end, though its caller is cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from vectable.providers.guard.money import cost
from vectable.providers.guard.spend import Cap, Reservation, SpendLedger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """Whose account pays, at what price, within which caps."""

    ledger: SpendLedger
    model: str
    price_per_million: Decimal = Decimal(0)
    caps: list[Cap] = field(default_factory=list)

    async def reserve(self, tokens: int) -> Reservation | None:
        """None where requests cost nothing. Raises SpendCapReached."""
        if not self.price_per_million:
            return None
        amount = cost(tokens, self.price_per_million)
        booking = asyncio.ensure_future(self.ledger.reserve(self.model, amount, self.caps))
        try:
            return await finished(booking)
        except asyncio.CancelledError:
            if booking.done() and not booking.cancelled() and booking.exception() is None:
                await self.settle(booking.result(), 0)
            raise

    async def settle(self, reservation: Reservation | None, tokens: int) -> None:
        """Replaces the reservation by the cost of `tokens`."""
        if reservation is None:
            return
        amount = cost(tokens, self.price_per_million)
        await finished(asyncio.ensure_future(self.ledger.settle(reservation, amount, tokens)))


async def finished(work: asyncio.Future[T]) -> T:
    """The result of `work`, which runs to its end however often the wait is cancelled; only then the
    cancellation goes on."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: S110 - it is raised below, by `result`
            pass
    if cancelled is not None and not work.cancelled():
        work.exception()  # seen: what the caller gets is its cancellation
        raise cancelled
    return work.result()

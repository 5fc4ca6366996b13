"""The guards of remote endpoints, by clocks of their own."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectable.config import Settings
from vectable.errors import (
    BackendError,
    EndpointError,
    EndpointUnavailable,
    ReadOnlyDatabase,
    SpendCapReached,
)
from vectable.providers.guard.attempt import Answered, AttemptFailed, retry_after
from vectable.providers.guard.breaker import Breaker
from vectable.providers.guard.bucket import TokenBucket
from vectable.providers.guard.budget import Budget
from vectable.providers.guard.guarded import GuardedEndpoint, Patience
from vectable.providers.guard.money import UNIT, cost, from_decimal, shown
from vectable.providers.guard.slots import HostSlots
from vectable.providers.guard.spend import Cap, SpendLedger
from vectable.state.memory import MemoryState, MemoryStateStore
from vectable.storage import open_storage


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


# -- Retry-After ---------------------------------------------------------------------------------------------

NOON = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("1e9", None),
        ("٣", None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("9" * 12, 365 * 86_400.0),
        ("9" * 400, None),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, lambda: NOON) == seconds


@settings(max_examples=25)
@given(st.text(max_size=40))
def test_no_retry_after_breaks_anything(value: str) -> None:
    found = retry_after(value, lambda: NOON)
    assert found is None or 0 <= found <= 365 * 86_400


# -- token buckets -------------------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_through_then_so_much_a_minute() -> None:
    clock = Clock()
    bucket = TokenBucket(600, clock)
    assert sum(bucket.draw(1) == 0 for _ in range(60)) == 60
    waits = [bucket.draw(1) for _ in range(20)]
    assert waits == pytest.approx([0.1 * (i + 1) for i in range(20)]), "first come, first served"
    clock.now += 60
    assert bucket.draw(60) == 0
    assert bucket.draw(1) == pytest.approx(0.1), "a minute's quiet saves up no more than a burst"


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 400)), min_size=1, max_size=60))
def test_no_minute_gets_more_than_its_share(draws: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket = TokenBucket(1_000, clock)
    used: list[tuple[float, int]] = []
    for pause, amount in draws:
        clock.now += pause
        used.append((clock.now + bucket.draw(amount), amount))
    largest = max(amount for _, amount in draws)
    for start, _ in used:
        within = sum(amount for at, amount in used if start <= at < start + 60)
        assert within <= 1_100 + largest + 1e-6


def test_what_was_not_used_is_given_back() -> None:
    clock = Clock()
    bucket = TokenBucket(600, clock)
    bucket.draw(60)
    bucket.give_back(60)
    assert bucket.draw(60) == 0
    bucket.give_back(-30)
    assert bucket.draw(1) == pytest.approx(3.1), "what was used beyond what was drawn is paid back"


def test_a_closed_bucket_lets_nothing_through() -> None:
    clock = Clock()
    bucket = TokenBucket(None, clock)
    assert bucket.draw(10**9) == 0
    bucket.close_for(5)
    bucket.close_for(2)
    assert bucket.draw(1) == 5
    clock.now += 5
    assert bucket.draw(1) == 0


async def test_a_cancelled_wait_gives_back() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock)
    bucket.draw(6)
    waiting = asyncio.create_task(bucket.take(6))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clock.now += 6
    assert bucket.draw(6) == 0


# -- breaker -------------------------------------------------------------------------------------------------


def test_the_breaker_opens_tries_once_and_closes() -> None:
    clock, told = Clock(), []
    breaker = Breaker(3, 30, clock=clock, on_change=lambda state, reason: told.append((state, reason)))
    for _ in range(2):
        assert breaker.admit()
        breaker.failed("down")
    assert breaker.state == "closed"
    breaker.failed("gone")
    assert (breaker.state, breaker.admit(), breaker.wait_s()) == ("open", False, 30)
    clock.now += 30
    assert breaker.state == "half-open"
    assert breaker.admit(), "one may try"
    assert not breaker.admit(), "only one"
    breaker.failed("still gone")
    assert (breaker.state, breaker.wait_s(), breaker.opened) == ("open", 30, 2)
    clock.now += 31
    assert breaker.admit()
    breaker.succeeded()
    assert (breaker.state, breaker.failures) == ("closed", 0)
    states = ["open", "half-open", "open", "half-open", "closed"]
    assert [state for state, _ in told] == states
    assert told[0][1] == "gone"


def test_a_success_between_failures_starts_the_count_anew() -> None:
    breaker = Breaker(2, 30)
    for _ in range(5):
        breaker.failed("down")
        breaker.succeeded()
    assert breaker.state == "closed"


def test_an_abandoned_trial_lets_another_try() -> None:
    clock = Clock()
    breaker = Breaker(1, 30, clock=clock)
    breaker.failed("down")
    clock.now += 30
    assert breaker.admit()
    breaker.abandoned()
    assert breaker.admit()


# -- money ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.decimals(0, 1_000, places=6))
def test_costs_are_whole_and_never_too_low(tokens: int, price: Decimal) -> None:
    exact = price * tokens / 10**6 * UNIT
    assert exact <= cost(tokens, price) < exact + 1


def test_money_for_people() -> None:
    assert shown(from_decimal(Decimal("12.5"))) == "12.50"
    assert shown(cost(1_234, Decimal("0.02"))) == "0.000025"
    assert shown(0) == "0.00"


# -- spend ---------------------------------------------------------------------------------------------------

DOLLAR = from_decimal(Decimal(1))


async def test_the_cap_holds_for_every_account() -> None:
    ledger = SpendLedger(MemoryStateStore(), lambda: NOON)
    caps = [Cap(5 * DOLLAR, "a"), Cap(8 * DOLLAR)]
    first = await ledger.reserve("a", 3 * DOLLAR, caps)
    with pytest.raises(SpendCapReached, match="nothing was sent") as raised:
        await ledger.reserve("a", 3 * DOLLAR, caps)
    assert raised.value.context["cap"] == "5.00"
    assert raised.value.context["spent"] == "3.00"
    assert 0 < raised.value.context["retry_after_s"] <= 86_400
    await ledger.settle(first, 1 * DOLLAR, 1_000)
    await ledger.reserve("a", 4 * DOLLAR, caps)
    with pytest.raises(SpendCapReached, match="of all remote models"):
        await ledger.reserve("b", 4 * DOLLAR, [Cap(100 * DOLLAR, "b"), Cap(8 * DOLLAR)])
    await ledger.reserve("b", 3 * DOLLAR, [Cap(8 * DOLLAR)])
    today = await ledger.today()
    assert (today["a"].spent, today["a"].reserved) == (1 * DOLLAR, 4 * DOLLAR)
    assert (today["a"].requests, today["a"].tokens) == (1, 1_000)


async def test_a_new_day_has_a_new_account_and_old_ones_go() -> None:
    now = NOON
    state = MemoryStateStore()
    ledger = SpendLedger(state, lambda: now)
    late = await ledger.reserve("a", DOLLAR, [Cap(DOLLAR, "a")])
    now += datetime.timedelta(days=1)
    await ledger.reserve("a", DOLLAR, [Cap(DOLLAR, "a")])
    await ledger.settle(late, 0, 0)
    assert (await ledger.today())["a"].reserved == DOLLAR, "a request is settled on the day it was sent"
    now += datetime.timedelta(days=200)
    await ledger.reserve("a", DOLLAR, [])
    assert len(await state.scan("spend/")) == 1


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")


async def test_many_at_once_over_a_real_store_never_pass_the_cap(url: str) -> None:
    stores = [await open_storage(url, Settings()) for _ in range(2)]
    try:

        async def spend(ledger: SpendLedger) -> int:
            try:
                reservation = await ledger.reserve("a", DOLLAR, [Cap(10 * DOLLAR, "a")])
            except SpendCapReached:
                return 0
            await ledger.settle(reservation, DOLLAR, 10)
            return 1

        ledgers = [SpendLedger(storage.state, lambda: NOON) for storage in stores]
        done = await asyncio.gather(*(spend(ledgers[i % 2]) for i in range(24)))
        assert sum(done) == 10
        assert (await ledgers[0].today())["a"].spent == 10 * DOLLAR
    finally:
        for storage in stores:
            await storage.close()


class BrokenState(MemoryStateStore):
    """A store that can be read and not written."""

    async def commit(self, *_: Any, **__: Any) -> None:
        raise ReadOnlyDatabase("this store is read-only")


async def test_a_cap_that_cannot_be_kept_lets_nothing_through() -> None:
    ledger = SpendLedger(BrokenState())
    with pytest.raises(ReadOnlyDatabase):
        await ledger.reserve("a", DOLLAR, [Cap(10 * DOLLAR, "a")])
    await ledger.reserve("a", DOLLAR, [])


async def test_a_damaged_account_is_told() -> None:
    state = MemoryStateStore()
    await state.commit(puts={f"spend/{NOON.date()}": b"{"})
    with pytest.raises(BackendError, match="2026-03-01 is damaged"):
        await SpendLedger(state, lambda: NOON).reserve("a", DOLLAR, [Cap(DOLLAR, "a")])


# -- all of them ---------------------------------------------------------------------------------------------


def endpoint(
    state: MemoryStateStore | None = None, failures: int = 5, attempts: int = 3, **budget: Any
) -> GuardedEndpoint:
    ledger = SpendLedger(state or MemoryStateStore(), lambda: NOON)
    return GuardedEndpoint(
        "host",
        breaker=Breaker(failures, 30),
        requests=TokenBucket(None),
        tokens=TokenBucket(None),
        slots=HostSlots(2),
        budget=Budget(ledger, "m", **budget),
        patience=Patience(attempts, 5, 0.001),
    )


def fails(times: int, **how: Any) -> Callable[[], Awaitable[Answered[str]]]:
    """Fails so many times, then answers."""
    left = times

    async def send() -> Answered[str]:
        nonlocal left
        if left:
            left -= 1
            raise AttemptFailed(EndpointError("no"), **{"retry": True, "against_endpoint": True, **how})
        return Answered("yes", 7)

    return send


async def call(guarded: GuardedEndpoint, send: Callable[[], Awaitable[Answered[str]]]) -> str:
    return await guarded.call(send, likely_tokens=10, most_tokens=100)


async def test_an_open_breaker_sends_nothing() -> None:
    guarded = endpoint(failures=2)
    with pytest.raises(AttemptFailed) as raised:
        await call(guarded, fails(9))
    assert isinstance(raised.value.error, EndpointUnavailable), "the third try was not made"
    assert guarded.counts.requests == 2
    with pytest.raises(AttemptFailed) as raised:
        await call(guarded, fails(0))
    assert "left alone after 2 failures" in raised.value.error.detail
    assert raised.value.error.context["retry_after_s"] == 30
    assert (guarded.counts.requests, guarded.counts.refused) == (2, 2)


async def test_a_host_gets_so_many_requests_at_once() -> None:
    guarded, now, most = endpoint(), 0, 0

    async def send() -> Answered[str]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1
        return Answered("yes", 1)

    await asyncio.gather(*(call(guarded, send) for _ in range(10)))
    assert most == 2


PRICED = {"price_per_million": Decimal(10_000), "caps": [Cap(10 * DOLLAR, "m")]}


async def test_what_is_billed_is_what_was_counted() -> None:
    state = MemoryStateStore()
    guarded = endpoint(state, **PRICED)
    await call(guarded, fails(0))
    account = (await SpendLedger(state, lambda: NOON).today())["m"]
    assert (account.spent, account.reserved, account.tokens) == (cost(7, Decimal(10_000)), 0, 7)


@pytest.mark.parametrize(
    ("how", "tokens"), [({}, 7), ({"billed": True}, 107), ({"billed": True, "tokens": 9}, 16)]
)
async def test_failures_that_may_be_billed_are_counted(how: dict[str, Any], tokens: int) -> None:
    state = MemoryStateStore()
    await call(endpoint(state, **PRICED), fails(1, **how))
    account = (await SpendLedger(state, lambda: NOON).today())["m"]
    assert (account.spent, account.tokens) == (cost(tokens, Decimal(10_000)), tokens)


async def test_over_the_cap_nothing_is_sent_and_nothing_repeated() -> None:
    state = MemoryStateStore()
    guarded = endpoint(state, price_per_million=Decimal(200_000), caps=[Cap(10 * DOLLAR, "m")])
    with pytest.raises(SpendCapReached):
        await call(guarded, fails(0))
    assert guarded.counts.requests == 0


async def test_a_cancelled_request_may_have_been_billed() -> None:
    memory = MemoryState()
    guarded = endpoint(MemoryStateStore(memory), **PRICED)
    started = asyncio.Event()

    async def send() -> Answered[str]:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(call(guarded, send))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    account = (await SpendLedger(MemoryStateStore(memory), lambda: NOON).today())["m"]
    assert (account.spent, account.reserved) == (cost(100, Decimal(10_000)), 0)
    assert guarded.breaker.state == "closed"

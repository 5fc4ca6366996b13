"""Requests that wait for a model: shared passes, clients that go away, queues that are full."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest

from tests.engine.test_passes import GatedProvider
from tests.server.live import Live, live_server
from tests.server.test_envelope import check_problem
from tests.waiting import until
from vectable.errors import RateLimited
from vectable.server.clients import Clients
from vectable.server.limits import Limits

MODEL = GatedProvider.model.id


@contextmanager
def gated_server(**settings: Any) -> Iterator[tuple[Live, GatedProvider]]:
    """A server with the simulated model, whose passes wait to be let through."""
    with live_server("memory:", fake_embeddings=True, **settings) as live:
        model = GatedProvider()

        async def add() -> None:
            live.database.embedder.models.add(MODEL, model)

        live.on_loop(add())
        yield live, model


def let_through(live: Live, model: GatedProvider, passes: int = 1_000) -> None:
    for _ in range(passes):
        live.loop.call_soon_threadsafe(model.gate.release)


def waiting_items(live: Live) -> int:
    async def count() -> int:
        return sum(items for items, _ in live.database.embedder.waiting().values())

    return int(live.on_loop(count()))


def body_of(*texts: str) -> dict[str, Any]:
    return {"texts": list(texts), "model": MODEL}


def test_requests_at_the_same_time_share_a_pass() -> None:
    with gated_server() as (live, model), ThreadPoolExecutor(9) as clients:
        first = clients.submit(live.client.post, "/embed/text", json=body_of("first"))
        until(lambda: len(model.passes) == 1)
        asked = [
            clients.submit(live.client.post, "/embed/text", json=body_of(f"text {i % 4}")) for i in range(8)
        ]
        until(lambda: waiting_items(live) == 5)
        let_through(live, model)
        assert [each.result().status_code for each in (first, *asked)] == [200] * 9
        assert [sorted(batch) for batch in model.passes] == [["first"], [f"text {i}" for i in range(4)]]


def test_hits_never_wait_for_the_model() -> None:
    with gated_server() as (live, model), ThreadPoolExecutor(1) as clients:
        let_through(live, model, 1)
        assert live.client.post("/embed/text", json=body_of("known")).json()["cached"] is False
        blocked = clients.submit(live.client.post, "/embed/text", json=body_of("blocked"))
        until(lambda: len(model.passes) == 2)
        assert live.client.post("/embed/text", json=body_of("known", "known")).json()["cached"] is True
        assert not blocked.done()
        let_through(live, model)
        assert blocked.result().status_code == 200


def request_bytes(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "POST /embed/text HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def test_the_work_of_clients_that_went_away_is_dropped() -> None:
    with gated_server() as (live, model), ThreadPoolExecutor(1) as clients:
        first = clients.submit(live.client.post, "/embed/text", json=body_of("first"))
        until(lambda: len(model.passes) == 1)
        port = int(live.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(request_bytes(body_of("gone", "forever")))
            until(lambda: waiting_items(live) == 3)
        until(lambda: waiting_items(live) == 1)
        let_through(live, model)
        assert first.result().status_code == 200
        assert live.client.post("/embed/text", json=body_of("after")).status_code == 200
        assert [text for batch in model.passes for text in batch] == ["first", "after"]


def test_a_full_queue_is_told_with_when_to_come_back() -> None:
    with gated_server(embed_queue_tokens=4) as (live, model), ThreadPoolExecutor(2) as clients:
        known = live.client.post("/embed/text", json={"texts": ["other model"]})
        first = clients.submit(live.client.post, "/embed/text", json=body_of("first"))
        until(lambda: len(model.passes) == 1)
        second = clients.submit(live.client.post, "/embed/text", json=body_of("one two three four"))
        until(lambda: waiting_items(live) == 2)
        refused = live.client.post("/embed/text", json=body_of("late"))
        check_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        with (
            openai.OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as client,
            pytest.raises(openai.InternalServerError) as told,
        ):
            client.embeddings.create(model=MODEL, input="late")
        assert (told.value.status_code, told.value.type) == (503, "server_error")
        assert int(told.value.response.headers["retry-after"]) >= 1
        assert known.status_code == 200, "the queue is one model's"
        let_through(live, model)
        assert [each.result().status_code for each in (first, second)] == [200, 200]


def test_a_request_whose_time_is_over_is_told_so() -> None:
    with gated_server(request_timeout_ms=300) as (live, model):

        def under_way() -> bool:
            check_problem(live.client.post("/embed/text", json=body_of("first")), 503, "overloaded")
            return len(model.passes) == 1

        until(under_way)  # a machine at something else may take longer to begin than a request has
        let_through(live, model)
        until(lambda: waiting_items(live) == 0)
        ask = lambda: live.client.post("/embed/text", json=body_of("first"))  # noqa: E731
        late = until(ask, lambda answer: answer.status_code == 200)
        assert late.json()["cached"] is True
        assert len(model.passes) == 1, "what was computed all the same is kept"


def test_a_bad_text_among_others_is_named() -> None:
    with gated_server() as (live, model):
        let_through(live, model)
        problem = check_problem(
            live.client.post("/embed/text", json=body_of("good", "bad one", "fine")), 400, "invalid-input"
        )
        assert problem["detail"] == "text 1: it says bad"
        assert problem["context"]["index"] == 1


def test_a_crowd_is_answered_or_told_to_come_back() -> None:
    limits = Limits(max_in_flight=4)
    with live_server("memory:", limits, fake_embeddings=True) as live:

        async def crowd() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=live.url, timeout=60) as client:
                bodies = ({"texts": [f"text {i % 7}"]} for i in range(100))
                return await asyncio.gather(*(client.post("/embed/text", json=body) for body in bodies))

        answers = asyncio.run(crowd())
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 4
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)


def test_one_client_may_take_only_so_much() -> None:
    limits = Limits(client_requests_per_minute=50)
    with live_server("memory:", limits, fake_embeddings=True) as live:
        # A tenth of a minute's requests at once, and those for which time has passed meanwhile.
        ask = lambda: live.client.post("/embed/text", json={"texts": ["red"]})  # noqa: E731
        assert [ask().status_code for _ in range(5)] == [200] * 5
        refused = until(ask, lambda answer: answer.status_code != 200, pause_s=0)
        check_problem(refused, 429, "rate-limited")
        assert int(refused.headers["retry-after"]) >= 1
        assert live.client.get("/health").status_code == 200, "whoever watches it is not a client"
        with (
            openai.OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as told,
        ):
            until(lambda: client.embeddings.create(model="hashing/8", input="red"), lambda _: False, 0)
        assert told.value.type == "rate_limit_error"


def test_clients_are_counted_apart_and_come_back() -> None:
    now = 0.0
    clients = Clients(60, lambda: now)
    for _ in range(6):
        clients.admit("a")
    with pytest.raises(RateLimited) as refused:
        clients.admit("a")
    assert refused.value.context["retry_after_s"] == 1
    clients.admit("b")
    now = 1.0
    clients.admit("a")
    with pytest.raises(RateLimited):
        clients.admit("a")
    for i in range(20_000):
        clients.admit(f"client {i}")
    assert len(clients._levels) <= 10_000
    for _ in range(1_000):
        Clients(0).admit("anybody")

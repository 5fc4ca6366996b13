"""Remote models against a server that misbehaves: nothing wrong gets in, nothing is asked too often, and
every failure is told as what it is."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.providers.misbehaving_server import (
    Exchange,
    MisbehavingServer,
    Way,
    altered,
    compressed,
    dripping,
    endless,
    failing,
    misbehaving_server,
    never,
    redirecting,
    resetting,
    saying,
    setting,
    truncating,
)
from tests.waiting import LIMIT_S
from vectable import providers
from vectable.errors import (
    EndpointError,
    EndpointRefused,
    EndpointTimeout,
    EndpointUnavailable,
    InvalidInput,
    VectableError,
)
from vectable.interfaces import RemoteEmbeddingProvider
from vectable.providers.openai import OpenAIProvider
from vectable.providers.openai_models import parse_models
from vectable.providers.remote import RemoteLibrary
from vectable.state.memory import MemoryStateStore
from vectable.testing.provider_suite import ProviderSuite

TEXTS = ["a cat", "a dog sleeps", "three birds in a tree"]


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as found:
        yield found


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value) if not isinstance(value, list) else f"[{', '.join(map(toml, value))}]"


def library(state: MemoryStateStore | None = None, **fields: Any) -> RemoteLibrary:
    """A library with one model, `m`, in haste: its waits are milliseconds."""
    model = {
        "provider": "openai",
        "dimensions": 32,
        "timeout_s": 20.0,
        "first_wait_s": 0.001,
        "max_wait_s": 5.0,
        "max_attempts": 3,
        **fields,
    }
    text = "[models.m]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in model.items())
    return RemoteLibrary(providers, parse_models(text), state or MemoryStateStore(), lambda: False)


def load(url: str, **fields: Any) -> OpenAIProvider:
    provider = library(url=url, **fields).load("m")
    assert isinstance(provider, OpenAIProvider)
    return provider


async def embed(provider: OpenAIProvider, texts: list[str] = TEXTS) -> np.ndarray:
    try:
        return await provider.embed(texts, "document")
    finally:
        await provider.close()


class TestAnHonestServer(ProviderSuite):
    @pytest.fixture(scope="class", params=["base64", "float"])
    @classmethod
    def provider(cls, request: pytest.FixtureRequest) -> Iterator[OpenAIProvider]:
        with misbehaving_server() as found:
            yield load(found.url, encoding_format=request.param, max_tokens=100_000)


async def test_a_remote_model_is_one_for_the_engine(server: MisbehavingServer) -> None:
    assert isinstance(load(server.url), RemoteEmbeddingProvider)


async def test_what_is_sent(server: MisbehavingServer) -> None:
    provider = load(
        server.url,
        model="called",
        query={"api-version": "1"},
        body={"truncate": True},
        send_dimensions=True,
        query_prompt="query: ",
        max_characters=9,
    )
    await provider.embed(["a text"], "query")
    await embed(provider, ["a text"])
    first, second = server.requests
    assert first.path == "/v1/embeddings?api-version=1"
    assert first.body == {
        "truncate": True,
        "model": "called",
        "input": ["query: a "],
        "encoding_format": "base64",
        "dimensions": 32,
    }
    assert second.texts == ["a text"]
    assert "authorization" not in first.headers


REPEATED = {
    "too many": failing(429, "slow down"),
    "internal": failing(500),
    "overloaded": failing(503, retry_after="0"),
    "gateway": saying(b"<html>bad gateway</html>", 502),
    "reset": resetting,
    "truncated": truncating,
}


@pytest.mark.parametrize("way", REPEATED.values(), ids=REPEATED)
async def test_what_may_pass_is_tried_again(server: MisbehavingServer, way: Way) -> None:
    server.misbehave(way, way)
    provider = load(server.url)
    np.testing.assert_array_equal(await embed(provider), server.vectors(TEXTS))
    assert len(server.requests) == 3
    [status] = provider.status()
    assert (status["requests"], status["retried"], status["succeeded"]) == (3, 2, 1)


@pytest.mark.parametrize("way", REPEATED.values(), ids=REPEATED)
async def test_what_does_not_pass_is_told(server: MisbehavingServer, way: Way) -> None:
    server.always = way
    with pytest.raises(EndpointUnavailable) as raised:
        await embed(load(server.url))
    assert server.host in raised.value.detail
    assert raised.value.context["host"] == server.host
    assert len(server.requests) == 3, "max_attempts"


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(EndpointUnavailable, match="cannot be reached"):
            await embed(load(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"))


async def test_when_to_come_back_is_obeyed(server: MisbehavingServer) -> None:
    server.misbehave(failing(429, retry_after="1"))
    started = time.monotonic()
    await embed(load(server.url))
    assert time.monotonic() - started >= 1, "the endpoint asked for a second"
    assert len(server.requests) == 2


async def test_more_patience_than_there_is_is_not_waited_for(server: MisbehavingServer) -> None:
    server.misbehave(failing(429, retry_after="3600"))
    with pytest.raises(EndpointUnavailable) as raised:
        await embed(load(server.url))
    assert raised.value.context["retry_after_s"] == 3600
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", [never, dripping])
async def test_slow_answers_end(server: MisbehavingServer, way: Way) -> None:
    server.always = way
    provider = load(server.url, timeout_s=0.2, max_attempts=2)
    with pytest.raises(EndpointTimeout, match=r"0\.2 s"):
        await embed(provider)
    [status] = provider.status()
    assert (status["requests"], status["retried"], status["failed"]) == (2, 1, 2)


def first_left_out(data: list[dict[str, Any]]) -> None:
    del data[0]["index"]


def shuffled(data: list[dict[str, Any]]) -> None:
    data.reverse()


@pytest.mark.parametrize("change", [first_left_out, shuffled])
async def test_vectors_go_by_their_numbers(
    server: MisbehavingServer, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    server.misbehave(altered(change))
    np.testing.assert_array_equal(await embed(load(server.url)), server.vectors(TEXTS))


NO_ANSWER = {
    "not json": saying(b"{'data': []}"),
    "empty": saying(b""),
    "html": saying(b"<html>hello</html>"),
    "deep": saying(b"[" * 5_000 + b"NaN" + b"]" * 5_000),
    "no object": saying(b"[1, 2]"),
    "no list": saying(b'{"data": {"embedding": []}}'),
    "too few": altered(lambda data: data[:-1]),
    "too many": altered(lambda data: [*data, data[0]]),
    "numbered twice": altered(lambda data: [data[0], data[0], data[2]]),
    "numbered from 1": altered(lambda data: [{**item, "index": item["index"] + 1} for item in data]),
    "numbered by text": altered(lambda data: [{**item, "index": str(item["index"])} for item in data]),
    "not numbered": altered(lambda data: [{"embedding": item["embedding"]} for item in data]),
    "no objects": altered(lambda data: [item["embedding"] for item in data]),
    "short": setting(1, [0.5] * 31),
    "long": setting(1, [0.5] * 33),
    "words": setting(1, ["0.5"] * 32),
    "bools": setting(1, [True] * 32),
    "null": setting(1, None),
    "no base64": setting(1, "?"),
    "half a number": setting(1, "AAAA"),
    "all NaN": altered(lambda data: [{**item, "embedding": [float("nan")] * 32} for item in data]),
    "all zero": altered(lambda data: [{**item, "embedding": [0] * 32} for item in data]),
    "compressed": compressed,
    "endless": endless,
}


@pytest.mark.parametrize("way", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_nothing_wrong_gets_in(server: MisbehavingServer, way: Way) -> None:
    server.always = way
    provider = load(server.url)
    with pytest.raises(EndpointError, match="nothing of it was kept") as raised:
        await embed(provider)
    assert type(raised.value) is EndpointError
    assert len(server.requests) == 1, "it was paid for: it is not asked for again"
    assert provider.status()[0]["failed"] == 1


@pytest.mark.parametrize("value", [[float("nan")] * 32, [1.0] * 31 + [float("inf")], [1e300] * 32, [0] * 32])
async def test_one_bad_vector_costs_the_others_nothing(server: MisbehavingServer, value: list[float]) -> None:
    server.misbehave(setting(1, value))
    found = await embed(load(server.url))
    expected = server.vectors(TEXTS)
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    assert np.isnan(found[1]).all()


REFUSED: dict[str, tuple[Way, type[VectableError]]] = {
    "key": (failing(401, "no such key"), EndpointRefused),
    "rights": (failing(403), EndpointRefused),
    "model": (failing(404, "no such model"), EndpointRefused),
    "dimensions": (failing(400, "not supported", param="dimensions"), EndpointRefused),
    "quota": (failing(429, "you have no money", code="insufficient_quota"), EndpointRefused),
    "moved": (redirecting("https://elsewhere.example/v1/embeddings", 301), EndpointRefused),
    "odd": (saying(b"", 204), EndpointRefused),
    "too long": (failing(400, "8192 tokens at most"), InvalidInput),
    "too large": (failing(413), InvalidInput),
}


@pytest.mark.parametrize(("way", "kind"), REFUSED.values(), ids=REFUSED)
async def test_refusals_are_not_repeated(
    server: MisbehavingServer, way: Way, kind: type[VectableError]
) -> None:
    server.always = way
    with pytest.raises(kind) as raised:
        await embed(load(server.url))
    assert not raised.value.retryable
    assert len(server.requests) == 1


async def test_redirections_are_not_followed(server: MisbehavingServer) -> None:
    with misbehaving_server() as other:
        server.always = redirecting(f"{other.url}/embeddings")
        with pytest.raises(EndpointRefused, match=f"to go to {other.host}"):
            await embed(load(server.url))
        assert other.requests == []


async def test_requests_keep_to_the_declared_limits(server: MisbehavingServer) -> None:
    texts = [f"text number {i}" for i in range(25)]
    found = await embed(load(server.url, max_items=10), texts)
    np.testing.assert_array_equal(found, server.vectors(texts))
    assert [len(request.texts) for request in server.requests] == [10, 10, 5]
    server.requests.clear()
    await embed(load(server.url, max_request_tokens=10), texts)
    assert max(len(request.texts) for request in server.requests) == 3


async def test_cancelled_requests_are_given_up(server: MisbehavingServer) -> None:
    server.misbehave(never)
    provider = load(server.url)
    task = asyncio.create_task(provider.embed(TEXTS, "document"))
    while not server.requests:
        await asyncio.sleep(0.005)
    assert provider.status()[0]["in_flight"] == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.status()[0]["in_flight"] == 0
    np.testing.assert_array_equal(await embed(provider), server.vectors(TEXTS))


async def test_text_that_is_no_unicode(server: MisbehavingServer) -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        await embed(load(server.url), ["a \ud800 b"])
    assert server.requests == []


async def test_an_endpoint_that_keeps_failing_is_left_alone_then_tried(server: MisbehavingServer) -> None:
    provider = load(server.url, max_attempts=1, breaker_failures=2, breaker_open_s=30)
    now = 1_000.0
    [served] = provider._endpoints
    served.guard.breaker._clock = lambda: now

    def state() -> str:
        return str(provider.status()[0]["breaker"])

    server.always = failing(500)
    for _ in range(4):
        with pytest.raises(EndpointUnavailable):
            await embed(provider)
    assert (state(), len(server.requests)) == ("open", 2)
    now += 30
    assert state() == "half-open"
    with pytest.raises(EndpointUnavailable):
        await embed(provider)
    assert (state(), len(server.requests)) == ("open", 3)
    server.always = None
    now += 30
    await embed(provider)
    assert (state(), len(server.requests)) == ("closed", 4)


async def test_a_storm_of_too_many_requests_opens_no_breaker(server: MisbehavingServer) -> None:
    server.always = failing(429)
    provider = load(server.url, breaker_failures=2)
    for _ in range(3):
        with pytest.raises(EndpointUnavailable):
            await embed(provider)
    [status] = provider.status()
    assert (status["breaker"], status["limited"], len(server.requests)) == ("closed", 9, 9)


async def test_requests_wait_for_their_rate(server: MisbehavingServer) -> None:
    provider = load(server.url, requests_per_minute=120)
    started = time.monotonic()
    await asyncio.gather(*(provider.embed([f"text {i}"], "document") for i in range(14)))
    assert time.monotonic() - started >= 1, "12 at once, then one each half second"
    await provider.close()


async def test_a_host_gets_so_many_requests_at_once(server: MisbehavingServer) -> None:
    provider = load(server.url, max_concurrency=2)
    pair = threading.Barrier(2)

    def in_pairs(exchange: Exchange) -> None:
        """One alone is not answered; a third has time to come."""
        pair.wait(LIMIT_S)
        exchange.server.released.wait(0.02)
        exchange.send_json(exchange.answer)

    server.always = in_pairs
    await asyncio.gather(*(provider.embed([f"text {i}"], "document") for i in range(10)))
    assert server.most_at_once == 2
    await provider.close()

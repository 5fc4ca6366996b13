"""Remote models behind the server: what a client is told of what the server they run on does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.providers.misbehaving_server import (
    MisbehavingServer,
    Way,
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
from tests.server.live import Live, live_server

DECLARED = """
[models.{name}]
provider = "openai"
url = "{url}"
dimensions = 32
max_items = 2
max_attempts = 2
first_wait_s = 0.001
timeout_s = {timeout_s}
breaker_failures = 1000
price_per_million_tokens = 1
"""
PATIENT, HURRIED = ("m", 60), ("hurried", 0.3)
"""Names, and how long the server may take: only one that never answers has to be given up."""
TEXT = "eight tokens or so for those who guess"
GUESS = len(TEXT) // 4


@pytest.fixture(scope="module")
def remote() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as server:
        yield server


@pytest.fixture(scope="module")
def served(remote: MisbehavingServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    file = tmp_path_factory.mktemp("models") / "models.toml"
    models = (DECLARED.format(name=n, url=remote.url, timeout_s=s) for n, s in (PATIENT, HURRIED))
    file.write_text("".join(models), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VECTABLE_FAKE_EMBEDDINGS", raising=False)
        with live_server("memory:", models_file=str(file), text_model="m") as server:
            yield server


@pytest.fixture
def client(served: Live) -> Iterator[openai.OpenAI]:
    served.client.post("/cache/clear", json={"persistent": True})
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as one:
        yield one


def counting(tokens: Any) -> Way:
    """The honest answer with another count of tokens (None: none)."""

    def way(exchange: Any) -> None:
        usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        exchange.send_json({**{k: v for k, v in exchange.answer.items() if k != "usage"}, **usage})

    return way


def used(client: openai.OpenAI, *texts: str, model: str = "m") -> int:
    return client.embeddings.create(model=model, input=list(texts)).usage.total_tokens


def test_usage_is_what_the_server_counted(client: openai.OpenAI, remote: MisbehavingServer) -> None:
    remote.misbehave(counting(17))
    assert used(client, TEXT) == 17
    assert used(client, TEXT) == GUESS, "the cache does not know what was counted"
    remote.misbehave(counting(100), counting(7))
    assert used(client, *(f"{TEXT} {i}" for i in range(3))) == 107, "two requests of two texts and one"
    remote.misbehave(counting(40))
    assert used(client, "twice", "once", "twice") == 40 + 20, "a text that comes twice is sent once"


@pytest.mark.parametrize("nothing", [None, 0, -1, "8", 1.5, True, 10**15])
def test_usage_is_an_estimate_where_it_did_not_count(
    client: openai.OpenAI, remote: MisbehavingServer, nothing: Any
) -> None:
    remote.misbehave(counting(nothing))
    assert used(client, TEXT) == GUESS


WAYS: dict[str, tuple[Way, int]] = {
    "429": (failing(429, retry_after="0"), 503),
    "500": (failing(500), 503),
    "401": (failing(401), 502),
    "slow": (never, 504),
    "dripping": (dripping, 504),
    "reset": (resetting, 503),
    "cut off": (truncating, 503),
    "endless": (endless, 502),
    "garbage": (saying(b"<html>"), 502),
    "nothing": (saying(b""), 502),
    "a list": (saying(b"[]"), 502),
    "elsewhere": (redirecting("http://127.0.0.1:9/"), 502),
    "dimensions": (setting(0, [1.0]), 502),
    "not a number": (setting(0, [float("nan")] * 32), 502),
    "refused": (failing(400, "no"), 400),
}


@pytest.mark.parametrize(("way", "status"), WAYS.values(), ids=WAYS)
def test_whatever_it_does_is_told(
    served: Live, client: openai.OpenAI, remote: MisbehavingServer, way: Way, status: int
) -> None:
    remote.always = way
    model, _ = HURRIED if way in (never, dripping) else PATIENT
    try:
        with pytest.raises(openai.APIStatusError) as raised:
            used(client, "a text", model=model)
        told = served.client.post("/embed/text", json={"texts": ["a text"], "model": model})
    finally:
        remote.always = None
    assert raised.value.status_code == told.status_code == status, told.text
    assert told.json()["code"].replace("-", "_") == raised.value.code
    assert status == 400 or raised.value.type == "server_error"
    assert used(client, "a text") > 0, "the next request is answered"


def test_a_model_that_cannot_be_had_is_at_fault(
    client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(openai.UnprocessableEntityError, match="cannot be had") as refused:
        client.embeddings.create(model="BAAI/bge-m3", input="red")
    assert refused.value.param == "model"

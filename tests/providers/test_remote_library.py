"""The models file and the library over it: what is refused, where keys go, and where they never show."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.providers.misbehaving_server import MisbehavingServer, failing, misbehaving_server, redirecting
from vectable import providers
from vectable.config import Settings
from vectable.errors import InvalidInput, ModelUnavailable, VectableError
from vectable.providers.openai_models import parse_models
from vectable.providers.remote import RemoteLibrary, library_of
from vectable.state.memory import MemoryStateStore

KEY = "sk-proj-Abcdefgh12345678"
PRIVATE = "nobody's business"
OTHER_KEY = "another-secret-of-the-backup"
BASE = '[models.m]\nprovider = "openai"\ndimensions = 32\nmax_attempts = 1\n'


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as found:
        yield found


def library(text: str) -> RemoteLibrary:
    return RemoteLibrary(providers, parse_models(text), MemoryStateStore(), lambda: False)


def declared(fields: str, url: str = "https://models.example/v1") -> str:
    return f'{BASE}url = "{url}"\n{fields}\n'


async def embed(found: RemoteLibrary, texts: list[str]) -> Any:
    provider = found.load("m")
    try:
        return await provider.embed(texts, "document")
    finally:
        await provider.close()


# -- the file ------------------------------------------------------------------------------------------------

REFUSED = {
    "no address": ('url = "models.example"', "http or https"),
    "a password": ('url = "https://me:secret@models.example"', "no user"),
    "a query": ('url = "https://models.example?key=secret"', "no user, password, query"),
    "an unknown field": ("prize_per_million_tokens = 3", "did you mean 'price_per_million_tokens'"),
    "a key": (f'api_key = "{KEY}"', "api_key_env names a variable"),
    "a key in the address": (f'query = {{api_key = "{KEY}"}}', "the key goes into a header"),
    "two keys": ('api_key_env = "A"\napi_key_file = "b"', "not both"),
    "an odd header": ('api_key_header = "x: y"', "a header's name"),
    "our header": ('api_key_header = "Host"', "a header's name"),
    "our field": ('body = {input = "x"}', "set for each request"),
    "a cap without a price": ("daily_spend_cap = 3", "needs price_per_million_tokens"),
    "a negative price": ("price_per_million_tokens = -1", "greater than or equal to 0"),
    "endless patience": ("timeout_s = inf", "timeout_s"),
    "another model": ('backups = [{url = "https://b.example", model = "n"}]', "not comparable"),
    "a wrong type": ("dimensions_ = 3", "there is no such field"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_file_may_not_say(fields: str, words: str) -> None:
    base = BASE if fields.startswith("url") else BASE + 'url = "https://models.example/v1"\n'
    with pytest.raises(InvalidInput) as raised:
        parse_models(base + fields + "\n")
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("name", ["hashing/8", "../x", "a b", "a/b/c"])
def test_ids_are_model_names(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse_models(declared("").replace("models.m", f'models."{name}"'))


@pytest.mark.parametrize("address", ["http://10.0.0.1/v1", "http://localhost.example/v1"])
def test_a_key_does_not_travel_unencrypted(address: str) -> None:
    with pytest.raises(InvalidInput, match="unencrypted"):
        parse_models(declared('api_key_env = "K"', address))
    parse_models(declared('api_key_env = "K"\nallow_plain_http = true', address))
    parse_models(declared("", address))


@pytest.mark.parametrize("address", ["http://localhost:80/v1", "http://127.0.0.1/v1", "http://[::1]:8080/v1"])
def test_a_key_may_stay_on_this_machine(address: str) -> None:
    parse_models(declared('api_key_env = "K"', address))


def test_a_backup_may_call_the_model_otherwise() -> None:
    found = parse_models(
        declared('model = "a"\nidentity = "x"\nbackups = [{url = "https://b/", model = "b", identity = "x"}]')
    )
    assert [e.model for e in found.models["m"].endpoints()] == ["a", "b"]


def test_where_a_model_is_served_is_no_part_of_what_it_is() -> None:
    here = library(declared('model = "a"')).load("m").model
    there = library(declared('model = "a"', "https://elsewhere.example/")).load("m").model
    assert here == there
    others = ['model = "b"', 'model = "a"\nmax_characters = 9', 'model = "a"\nbody = {truncate = true}']
    assert len({here, *(library(declared(other)).load("m").model for other in others)}) == 4


# -- keys ----------------------------------------------------------------------------------------------------


async def test_a_key_from_the_environment(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = library(declared('api_key_env = "K"', server.url))
    with pytest.raises(ModelUnavailable, match="the environment variable K, which holds none"):
        found.load("m")
    monkeypatch.setenv("K", f" {KEY}\n")
    await embed(found, ["a"])
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_key_from_a_file_in_a_header_of_its_own(server: MisbehavingServer, tmp_path: Path) -> None:
    file = tmp_path / "key"
    text = declared(f'api_key_file = "{file}"\napi_key_header = "Api-Key"', server.url)
    for content in (None, b"", b"two words", b"\xff", "schlüssel".encode(), b"a\nb", b"x" * 20_000):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ModelUnavailable, match="which holds none") as raised:
            library(text).load("m")
        assert "words" not in str(raised.value)
    file.write_text(f"{KEY}\n")
    await embed(library(text), ["a"])
    assert server.requests[0].headers["api-key"] == KEY
    assert "authorization" not in server.requests[0].headers


async def test_a_key_goes_to_its_own_endpoint_only(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", KEY)
    monkeypatch.setenv("K2", OTHER_KEY)
    with misbehaving_server() as backup, misbehaving_server() as elsewhere:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.url)
            monkeypatch.setenv(name.lower(), elsewhere.url)
        server.always = redirecting(f"{elsewhere.url}/embeddings", 308)
        backups = f'backups = [{{url = "{backup.url}", model = "m", api_key_env = "K2"}}]'
        await embed(library(declared(f'api_key_env = "K"\n{backups}', server.url)), ["a"])
        assert [r.headers["authorization"] for r in server.requests] == [f"Bearer {KEY}"]
        assert [r.headers["authorization"] for r in backup.requests] == [f"Bearer {OTHER_KEY}"]
        assert elsewhere.requests == []


async def test_keys_and_texts_are_shown_nowhere(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("K", KEY)
    caplog.set_level(logging.DEBUG)
    echo = f"cannot embed '{PRIVATE}'"
    message = f"Incorrect key: {KEY}, that is {KEY[:8]}***{KEY[-4:]}"
    fields = 'api_key_env = "K"\nbreaker_failures = 2\nprice_per_million_tokens = 1'
    found = library(declared(fields, server.url))
    shown = [repr(found), repr(found.load("m"))]
    for way in (
        None,
        failing(401, message),
        failing(400, message),
        failing(400, f"at 'beginning, {PRIVATE}, an'"),
        failing(500, message),
        failing(500, echo),
    ):
        server.always = way
        try:
            await embed(found, [PRIVATE, f"a beginning, {PRIVATE}, an end"])
        except VectableError as error:
            shown += [
                str(error),
                repr(error),
                repr(error.context),
                "".join(traceback.format_exception(error)),
            ]
    shown += [repr(found.endpoints()), repr(await found.spend()), caplog.text]
    assert "Incorrect key:" in "".join(shown)
    assert "is open" in caplog.text
    for secret in (KEY, KEY[:8], KEY[-4:], PRIVATE):
        assert not [text for text in shown if secret in text]


# -- the library ---------------------------------------------------------------------------------------------


def test_a_declared_model_comes_before_a_local_one() -> None:
    found = library(declared("").replace("models.m", 'models."BAAI/bge-m3"'))
    assert found.resolve("BAAI/bge-m3").runtime == "openai"
    assert found.resolve("baai/BGE-M3").runtime != "openai", "its exact id only"
    ids = [card.id for card in found.known_models(fake=False)]
    assert ids.count("BAAI/bge-m3") == 1
    assert len(ids) == len(set(ids))


def test_a_host_is_shared_by_its_models(server: MisbehavingServer) -> None:
    text = declared("max_concurrency = 5", server.url)
    text += declared("max_concurrency = 2", server.url).replace("models.m", "models.n")
    found = library(text)
    slots = [found._slots_of(model.endpoints()[0]) for model in found._declared.models.values()]
    assert slots[0] is slots[1]
    assert slots[0].limit == 2


def test_workers_share_out_what_an_endpoint_may_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(declared("requests_per_minute = 600\nmax_concurrency = 8"), "utf-8")
    settings = Settings(models_file=str(file), workers=4)
    provider: Any = library_of(settings, MemoryStateStore()).load("m", fake=False)
    guard = provider._endpoints[0].guard
    assert guard._slots.limit == 2
    assert guard._requests._rate == 2.5, "a second: 150 a minute"
    assert guard._tokens._rate == 0.0, "no limit stays none"

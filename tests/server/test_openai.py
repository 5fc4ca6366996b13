"""OpenAI's API, through OpenAI's own client."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.providers.reference import write_tiny_bert
from tests.server.live import Live, live_server
from vectable.server.refusals import openai_error

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CUT = "mixedbread-ai/mxbai-embed-large-v1"


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as one:
        yield one


@pytest.fixture(scope="module")
def real() -> Iterator[openai.OpenAI]:
    """A server with the real model."""
    with (
        pytest.MonkeyPatch.context() as patch,
        live_server("memory:", fake_embeddings=False) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as one,
    ):
        patch.delenv("VECTABLE_FAKE_EMBEDDINGS", raising=False)
        yield one


def test_one_text_and_several(client: openai.OpenAI, api: httpx.Client) -> None:
    one = client.embeddings.create(model="all-MiniLM-L6-v2", input="red")
    assert (one.object, len(one.data), one.data[0].object, one.data[0].index) == ("list", 1, "embedding", 0)
    assert np.linalg.norm(one.data[0].embedding) == pytest.approx(1, abs=1e-6)
    several = client.embeddings.create(model=MODEL, input=["red", "green"], user="somebody")
    assert [each.index for each in several.data] == [0, 1]
    assert several.data[0].embedding == one.data[0].embedding
    served = api.post("/embed/text", json={"texts": ["red"]}).json()
    assert one.model == several.model == served["model"]
    assert one.data[0].embedding == pytest.approx(served["embeddings"][0])


def test_encoding_formats(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model=MODEL, input="red", encoding_format="float").data[0].embedding
    text: Any = client.embeddings.create(model=MODEL, input="red", encoding_format="base64").data[0].embedding
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == pytest.approx(floats)
    unset: Any = None  # as gateways send what nobody set
    same = client.embeddings.create(model=MODEL, input="red", encoding_format=unset).data[0].embedding
    assert same == floats
    # Told nothing, this client asks for base64 and decodes it.
    assert client.embeddings.create(model=MODEL, input="red").data[0].embedding == pytest.approx(floats)


def test_dimensions(client: openai.OpenAI) -> None:
    whole = client.embeddings.create(model=CUT, input="red").data[0].embedding
    assert len(whole) == 1024
    cut = client.embeddings.create(model=CUT, input="red", dimensions=256).data[0].embedding
    wanted = np.array(whole[:256]) / np.linalg.norm(whole[:256])
    assert cut == pytest.approx(wanted.tolist(), abs=1e-6)
    assert client.embeddings.create(model=CUT, input="red", dimensions=1024).data[0].embedding == whole
    assert len(client.embeddings.create(model=MODEL, input="red", dimensions=384).data[0].embedding) == 384
    for model, dimensions in ((MODEL, 256), (MODEL, 385), (CUT, 1025), (CUT, 0), (CUT, -1)):
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(model=model, input="red", dimensions=dimensions)
        assert refused.value.param == "dimensions"


def test_texts_and_tokens_of_a_real_model(real: openai.OpenAI) -> None:
    text = real.embeddings.create(model=MODEL, input="hello world")
    plain, framed = [7592, 2088], [101, 7592, 2088, 102]
    assert text.usage.prompt_tokens == text.usage.total_tokens == len(framed)
    for tokens in (plain, framed):
        found = real.embeddings.create(model=MODEL, input=tokens)
        assert found.data[0].embedding == pytest.approx(text.data[0].embedding, abs=1e-5)
        assert found.usage.total_tokens == len(framed)
    both = real.embeddings.create(model=MODEL, input=[plain, framed])
    assert [each.embedding for each in both.data] == [
        pytest.approx(text.data[0].embedding, abs=1e-5) for _ in both.data
    ]
    long = real.embeddings.create(model=MODEL, input=[7592] * 5_000)
    assert long.usage.total_tokens == 256, "the model's limit"
    several = real.embeddings.create(model=MODEL, input=["hello world", "hello", "hello world"])
    assert several.usage.total_tokens == 4 + 3 + 4


def test_tokens_that_are_none(real: openai.OpenAI, client: openai.OpenAI) -> None:
    bad: list[Any] = [[30_522], [-1], [2**31], [[7592], [99_999]], [[7592], "red"], [[7592], []], [7592, "a"]]
    for tokens in (*bad, [7592, 1.5], [[True]], [[7592], None]):
        with pytest.raises(openai.BadRequestError) as refused:
            real.embeddings.create(model=MODEL, input=tokens)
        assert refused.value.param == "input"
    with pytest.raises(openai.UnprocessableEntityError, match="does not embed tokens"):
        client.embeddings.create(model="hashing/8", input=[7592])


def test_errors_in_openais_shape(client: openai.OpenAI) -> None:
    create: Any = client.embeddings.create
    bad: list[tuple[dict[str, Any], str]] = [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["red", ""]}, "input"),
        ({"input": ["red", 7]}, "input"),
        ({"input": ["red"] * 2_049}, "input"),
        ({"input": 7}, "input"),
        ({"input": {"text": "red"}}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": "many"}, "dimensions"),
        ({"model": ""}, "model"),
        ({"model": "../etc"}, "model"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ]
    for change, param in bad:
        with pytest.raises(openai.BadRequestError) as refused:
            create(**{"model": MODEL, "input": "red", **change})
        error = refused.value
        assert (error.type, error.param, error.code) == ("invalid_request_error", param, "invalid_input")
        assert error.request_id
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="no/such", input="red")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert "no/such" in missing.value.message


def test_refusals_before_any_operation_have_openais_shape(live: Live) -> None:
    host = {"Host": "elsewhere.example"}
    answers = [
        live.client.post("/v1/embeddings", content=b"{"),
        live.client.post("/v1/embeddings", content=b"x", headers={"Content-Type": "text/plain"}),
        live.client.get("/v1/embeddings"),
        live.client.get("/v1/nothing"),
        live.client.get("/v1/models", headers=host),
    ]
    assert [a.status_code for a in answers] == [400, 415, 405, 404, 400]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        error = answer.json()["error"]
        assert set(answer.json()) == {"error"}
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
    assert answers[2].headers["allow"] == "POST"


def test_a_field_is_named_only_where_it_is_at_fault() -> None:
    problem = {"error": "no", "code": "provider-error", "context": {"field": "input"}}
    assert openai_error(problem | {"status": 400})["error"]["param"] == "input"
    assert openai_error(problem | {"status": 502})["error"]["param"] is None


def test_models(client: openai.OpenAI) -> None:
    models = list(client.models.list())
    assert any(MODEL in model.id for model in models)
    assert {model.object for model in models} == {"model"}
    found = client.models.retrieve("all-MiniLM-L6-v2")
    assert found.id in {model.id for model in models}
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such")


async def test_asynchronous_client(live: Live) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as client:
        found = await client.embeddings.create(model=MODEL, input=["red", "green"])
        assert len(found.data) == 2


def test_a_model_in_a_directory_answers_to_the_id_it_is_listed_under(tmp_path: Path) -> None:
    given = f"{write_tiny_bert(tmp_path / 'tiny').parent}/other/../tiny"
    (tmp_path / "other").mkdir()
    with live_server("memory:", fake_embeddings=False, text_model=given) as server:
        listed = str((tmp_path / "tiny").resolve())
        for model in (given, listed):
            answered = server.client.post("/v1/embeddings", json={"input": "a man", "model": model})
            assert answered.status_code == 200
            assert answered.json()["model"] == listed
        assert listed in {model["id"] for model in server.client.get("/v1/models").json()["data"]}
        for model in (str(tmp_path), str(tmp_path / "other")):
            answered = server.client.post("/v1/embeddings", json={"input": "a man", "model": model})
            assert answered.status_code == 400

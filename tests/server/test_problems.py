"""Every error has one status, one code, and is documented."""

from pathlib import Path

import orjson
import pytest
from pydantic import TypeAdapter, ValidationError

from vectable import errors
from vectable.server import problems
from vectable.server.models.embeddings import GenerateRequest
from vectable.server.models.rows import QueryRequest, SearchRequest
from vectable.server.models.tables import CreateTable

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
EVERY = list(problems.every_error())


def test_the_whole_tree_is_known() -> None:
    assert len(EVERY) > 30
    codes = [kind.code for kind in EVERY]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and "_" not in code for code in codes)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_has_its_status(kind: type[errors.VectableError]) -> None:
    status = problems.status_of(kind)
    fault_of_the_request = issubclass(
        kind,
        errors.InvalidInput
        | errors.AccessDenied
        | errors.NotFound
        | errors.Conflict
        | errors.TooLarge
        | errors.Unsupported
        | errors.RateLimited,
    )
    assert (400 <= status < 500) == fault_of_the_request
    assert f"| `{kind.code}` | {status} |" in DOCUMENT.read_text(encoding="utf-8")


def test_statuses_by_family() -> None:
    expected = {
        errors.InvalidInput: 400,
        errors.Unauthenticated: 401,
        errors.AccessDenied: 403,
        errors.NotFound: 404,
        errors.Conflict: 409,
        errors.TooLarge: 413,
        errors.Unsupported: 422,
        errors.RateLimited: 429,
        errors.Overloaded: 503,
        errors.ProviderError: 502,
        errors.BackendError: 502,
        errors.BackendTimeout: 504,
    }
    assert {kind: problems.status_of(kind) for kind in expected} == expected


def test_the_document_is_fresh() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == problems.error_table(), "run: make openapi"


def test_a_problem_has_every_field() -> None:
    error = errors.InvalidRow("row 3 is bad", hint="mend it", context={"row": 3})
    found = orjson.loads(problems.response_of(error, "r1").body)
    assert found == {
        "type": "urn:vectable:error:invalid-row",
        "title": "Invalid row",
        "status": 400,
        "detail": "row 3 is bad",
        "code": "invalid-row",
        "hint": "mend it",
        "request_id": "r1",
        "error": "row 3 is bad (mend it)",
        "context": {"row": 3},
    }
    plain = orjson.loads(problems.response_of(errors.Conflict("no"), "r").body)
    assert (plain["hint"], plain["error"], "context" in plain) == (None, "no", False)


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidInput("a \ud800 lone surrogate", context={"value": "\udfff"}),
        errors.InvalidInput("huge", context={"n": 10**400, "what": object(), "bytes": b"\xff"}),
        errors.KeyExists("keys", context={"keys": [("a", 1)], 3: "number as a name"}),
    ],
)
def test_a_problem_can_always_be_told(error: errors.VectableError) -> None:
    found = orjson.loads(problems.response_of(error, "r").body)
    assert found["status"] == problems.status_of(type(error))


def test_busy_answers_say_when_to_come_back() -> None:
    busy = problems.response_of(errors.Overloaded("busy", context={"retry_after_s": 7}), "r")
    assert busy.headers["retry-after"] == "7"
    assert problems.response_of(errors.BackendBusy("busy"), "r").headers["retry-after"] == "1"
    assert "retry-after" not in problems.response_of(errors.DatabaseDamaged("torn"), "r").headers
    assert problems.response_of(errors.Unauthenticated("who"), "r").headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("model", "value", "sentence"),
    [
        (SearchRequest, {"column": "e"}, "`query` is required"),
        (SearchRequest, {"query": "x", "column": "e", "limit": "ten"}, "`limit` must be an integer"),
        (SearchRequest, {"query": "x", "column": "e", "limit": True}, "`limit` must be an integer"),
        (SearchRequest, {"query": "x", "column": 7}, "`column` must be a string"),
        (SearchRequest, {"query": "x", "column": "e", "exact": "yes"}, "`exact` must be true or false"),
        (SearchRequest, {"query": "x", "column": "e", "limt": 3}, "`limt` is not a field of this request"),
        (SearchRequest, {"query": "x", "column": "e", "Limit": 3}, "`Limit` is not a field of this request"),
        (SearchRequest, [], "the body must be an object"),
        (SearchRequest, {"query": "x", "column": "e", "select": ["a", 2]}, "`select[1]` must be a string"),
        (CreateTable, {"name": "t", "columns": {"a": "strin"}}, "`columns.a` must be"),
        (
            QueryRequest,
            {"where": {"op": "and", "args": [{"column": "a", "operator": "~", "value": 1}]}},
            "`where.args[0].operator` must be '=', '!='",
        ),
        (QueryRequest, {"where": 3}, "`where`: a filter is a clause"),
        (QueryRequest, {"where": {"sql": 3}}, "`where.sql` must be a string"),
        (QueryRequest, {"where": [[3]]}, "`where[0][0]`: a filter is a clause"),
        (QueryRequest, {"limit": 10_001}, "`limit` must be at most 10000"),
        (GenerateRequest, {"text": 5}, "`text` must be a string or a list"),
        (GenerateRequest, {"text": [5]}, "`text[0]` must be a string"),
        (GenerateRequest, {"text": ""}, "`text` may not be empty"),
        (GenerateRequest, {"text": []}, "`text` may not be empty"),
        (GenerateRequest, {"text": ["a"] * 101}, "`text` must have at most 100 items, not 101"),
        (CreateTable, {"name": "t", "columns": {"list": "strin"}}, "`columns.list` must be 'string', 'int'"),
        (CreateTable, {"name": "t", "columns": {"ColumnSpec": {}}}, "`columns.ColumnSpec.type` is required"),
    ],
)
def test_validation_is_told_in_one_sentence(model: type, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(model).validate_python(value)
    found = [{**e, "loc": ("body", *e["loc"])} for e in caught.value.errors()]
    text = problems.describe_invalid(found)
    assert text.startswith(sentence)
    assert len(text) < 400
    assert not [word for word in ("pydantic", "constrained", "ColumnSpec.Col", "validation") if word in text]
    assert text.count(";") <= 1, "a value of one of several forms is told of one"


def test_many_thousand_errors_are_told_as_shortly() -> None:
    """Work that grew with their square would let one body hold a server up."""
    compared: list[int] = []

    class Place(tuple[object, ...]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            compared.append(1)
            return super().__iter__()

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            compared.append(1)
            return super().__getitem__(index)

    found = [{"type": "string_type", "loc": Place(("body", "where", i))} for i in range(20_000)]
    text = problems.describe_invalid(found)
    assert text.startswith("`where[0]` must be a string; ") and text.endswith("and 19997 more")
    assert len(compared) < 1_000

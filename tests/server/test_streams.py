"""Rows as NDJSON, CSV, Parquet and Arrow streams."""

import io
import json
import threading
from collections.abc import Iterator

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.server.live import Live
from tests.server.test_envelope import check_problem
from tests.waiting import LIMIT_S, until

ROWS = "/api/v1/tables/t/rows"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def t(api: httpx.Client) -> httpx.Client:
    columns = {"n": "int", "title": "string", "emb": {"type": "vector", "dimensions": 2}}
    assert api.post("/api/v1/tables", json={"name": "t", "columns": columns}).status_code == 201
    return api


def count(api: httpx.Client) -> int:
    return api.post("/api/v1/tables/t/query/count", json={}).json()["count"]


def arrow_table(n: int) -> pa.Table:
    return pa.table(
        {
            "id": [str(i) for i in range(n)],
            "n": list(range(n)),
            "emb": pa.array([[1.0, float(i)] for i in range(n)], pa.list_(pa.float32(), 2)),
        }
    )


def bodies(n: int) -> dict[str, bytes]:
    table = arrow_table(n)
    parquet, stream = io.BytesIO(), io.BytesIO()
    pa.parquet.write_table(table, parquet)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    rows = [{"id": str(i), "n": i, "emb": [1.0, i]} for i in range(n)]
    return {
        "application/x-ndjson": "\n".join(json.dumps(r) for r in rows).encode(),
        "text/csv": b"id,n,emb\n" + "".join(f'{i},{i},"[1,{i}]"\n' for i in range(n)).encode(),
        "application/vnd.apache.parquet": parquet.getvalue(),
        "application/vnd.apache.arrow.stream": stream.getvalue(),
    }


@pytest.mark.parametrize("media_type", list(bodies(1)))
def test_each_format_inserts_the_same_rows(t: httpx.Client, media_type: str) -> None:
    body = bodies(5_000)[media_type]
    made = t.post(ROWS, content=body, headers={"Content-Type": media_type})
    assert made.status_code == 201, made.text
    found = made.json()
    assert found["inserted"] == 5_000
    assert found["ids"][:3] == ["0", "1", "2"]
    assert set(found) == {"ids", "inserted", "replaced", "skipped", "pending", "errors"}
    assert t.get(f"{ROWS}/4999", params={"select": ["n", "emb"]}).json() == {"n": 4999, "emb": [1.0, 4999.0]}
    again = t.post(ROWS, content=body, headers={"Content-Type": media_type})
    check_problem(again, 409, "key-exists")
    skipped = t.post(ROWS, content=body, headers={"Content-Type": media_type}, params={"on_conflict": "skip"})
    assert skipped.json()["skipped"] == 5_000
    replaced = t.post(
        ROWS, content=body, headers={"Content-Type": media_type}, params={"on_conflict": "replace"}
    )
    assert replaced.json()["replaced"] == 5_000
    bad = t.post(ROWS, content=body, headers={"Content-Type": media_type}, params={"on_conflict": "x"})
    check_problem(bad, 400, "invalid-input")


def test_a_bad_row_says_how_far_it_came(t: httpx.Client) -> None:
    lines = [json.dumps({"id": str(i)}) for i in range(5_000)]
    lines[4_321] = json.dumps({"id": "x", "n": "seven"})
    answer = t.post(ROWS, content="\n".join(lines).encode(), headers=NDJSON)
    problem = check_problem(answer, 400, "invalid-row")
    assert problem["context"]["row"] == 4_321
    assert problem["context"]["inserted"] == 4_000
    assert count(t) == 4_000
    lines[4_321] = "{oops"
    answer = t.post(ROWS, content="\n".join(lines).encode(), headers=NDJSON, params={"on_conflict": "skip"})
    problem = check_problem(answer, 400, "invalid-row")
    assert problem["detail"].startswith("line 4322: ")
    assert problem["context"]["row"] == 4_321
    rows = b"id,n\n" + b"".join(b"c%d,1\n" % i for i in range(2_500)) + b"d,x\n"
    problem = check_problem(
        t.post(ROWS, content=rows, headers={"Content-Type": "text/csv"}), 400, "invalid-row"
    )
    assert problem["detail"].startswith("line 2502: column 'n'")
    assert (problem["context"]["row"], problem["context"]["inserted"]) == (2_500, 2_000)


def test_a_cut_off_body_says_how_far_it_came(t: httpx.Client) -> None:
    table = arrow_table(6_000)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2_000)
    headers = {"Content-Type": "application/vnd.apache.arrow.stream"}
    answer = t.post(ROWS, content=sink.getvalue()[:-30_000], headers=headers)
    problem = check_problem(answer, 400, "invalid-input")
    assert problem["context"]["inserted"] == 4_000 == count(t)


@pytest.mark.parametrize("media_type", list(bodies(1)))
def test_what_is_not_of_the_format(t: httpx.Client, media_type: str) -> None:
    for body in (b"\x00\x01\x02" * 100, b"<html>", b"\xff\xfe", b"PAR1", b"ARROW1"):
        answer = t.post(ROWS, content=body, headers={"Content-Type": media_type})
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert count(t) == 0
    missing = t.post("/api/v1/tables/nope/rows", content=b"x", headers={"Content-Type": media_type})
    check_problem(missing, 404, "table-not-found")


def test_empty_streams(t: httpx.Client) -> None:
    assert t.post(ROWS, content=b"", headers=NDJSON).json()["inserted"] == 0
    answer = t.post(ROWS, content=b"", headers={"Content-Type": "text/csv"})
    assert "empty" in check_problem(answer, 400, "invalid-input")["detail"]


def test_rows_are_kept_while_the_body_still_arrives(t: httpx.Client) -> None:
    """Nothing waits for the end of the stream: its length is not limited by memory."""
    arrived = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"".join(b'{"id": "%d"}\n' % i for i in range(4_000))
        while not arrived.wait(0.05):
            yield b"\n" * 65_536
        yield b'{"id": "last"}\n'

    result: list[httpx.Response] = []

    def send() -> None:
        with httpx.Client(base_url=t.base_url, timeout=LIMIT_S) as other:
            result.append(other.post(ROWS, content=slowly(), headers=NDJSON))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        until(lambda: count(t) >= 2_000)
    finally:
        arrived.set()
        thread.join(LIMIT_S)
    assert result[0].json()["inserted"] == 4_001


def test_a_client_that_leaves_leaves_nothing_behind(live: Live, t: httpx.Client) -> None:
    def leaves() -> Iterator[bytes]:
        yield b'{"id": "a"}\n'
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError), httpx.Client(base_url=live.url, timeout=LIMIT_S) as other:
        other.post(ROWS, content=leaves(), headers=NDJSON)
    assert t.post(ROWS, json={"rows": [{"id": "b"}]}).status_code == 201
    assert t.get("/health").status_code == 200

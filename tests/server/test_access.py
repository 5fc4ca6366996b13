"""Keys over HTTP: who may do what, and how those are refused who may not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.live import Live, live_server
from tests.waiting import until
from vectable.engine.keys import ApiKeys
from vectable.errors import AccessDenied, AlreadyExists, InvalidInput, NotFound, RateLimited, Unauthenticated
from vectable.server.access import Access, Refusals
from vectable.server.metrics import Metrics
from vectable.server.source import Source, TrustedProxies
from vectable.state.memory import MemoryStateStore

HERE, FAR = Source("127.0.0.1", False, True), Source("203.0.113.9", True, False)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Live]:
    with live_server("memory:", fake_embeddings=True, refusals_per_minute=1_000) as server:
        for name in ("books", "films"):
            server.client.post("/api/v1/tables", json={"name": name, "columns": {"title": "string"}})
            server.client.post(f"/api/v1/tables/{name}/rows", json={"rows": [{"id": "1", "title": name}]})
        server.on_loop(server.database.keys.create("first", "admin"))
        # Keys are asked for from the first one on.
        until(lambda: server.client.get("/stats").status_code == 401)
        yield server


def client_of(live: Live, name: str, role: Any, **more: Any) -> httpx.Client:
    """A client with a new key."""
    _, token = live.on_loop(live.database.keys.create(name, role, **more))
    return httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


LOOKING = [
    ("GET", "/api/v1/tables", None),
    ("GET", "/api/v1/tables/books/rows/1", None),
    ("POST", "/api/v1/tables/books/query", {}),
    ("POST", "/api/v1/embeddings/generate", {"text": "tea"}),
    ("GET", "/stats", None),
    ("GET", "/metrics", None),
    ("HEAD", "/stats", None),
    ("GET", "/openapi.json", None),
    ("GET", "/", None),
]
SECOND = {"sql": "id = ?", "params": ["2"]}
WRITING = [
    ("POST", "/api/v1/tables/books/rows", {"rows": [{"id": "2", "title": "x"}], "on_conflict": "replace"}),
    (
        "PATCH",
        "/api/v1/tables/books/rows",
        {"where": {"sql": "id = ?", "params": ["2"]}, "values": {"title": "y"}},
    ),
    ("DELETE", "/api/v1/tables/books/rows", {"where": {"sql": "id = ?", "params": ["2"]}}),
]
GOVERNING = [
    ("POST", "/api/v1/tables", {"name": "more", "columns": {}}),
    ("PATCH", "/api/v1/tables/more", {"add_columns": {"n": "int"}}),
    ("DELETE", "/api/v1/tables/more", None),
    ("POST", "/api/v1/embeddings/cache/clear", {}),
]


def statuses(client: httpx.Client, requests: list[Any]) -> list[int]:
    return [client.request(method, path, json=body).status_code for method, path, body in requests]


def test_roles_open_what_they_say(guarded: Live) -> None:
    every = [*LOOKING, *WRITING, *GOVERNING]
    with client_of(guarded, "r", "read") as reader:
        assert statuses(reader, every) == [200] * 9 + [403] * 7
        refused = reader.delete("/api/v1/tables/books/rows/1").status_code
        assert refused in (403, 405)
        body = reader.post("/api/v1/tables/books/rows", json={"rows": []}).json()
        assert "needs the role write" in body["detail"] and "--role write" in body["hint"]
    with client_of(guarded, "w", "write") as writer:
        assert statuses(writer, every) == [200] * 9 + [201, 200, 200] + [403] * 4
    with client_of(guarded, "a", "admin") as admin:
        assert statuses(admin, every) == [200] * 9 + [201, 200, 200] + [201, 200, 204, 200]


def test_nobody_without_a_key_gets_past_the_health_checks(guarded: Live) -> None:
    assert statuses(guarded.client, [*LOOKING, *WRITING, *GOVERNING]) == [401] * 16
    assert (
        statuses(guarded.client, [("GET", f"/health{end}", None) for end in ("", "/live", "/ready")])
        == [200] * 3
    )
    refused = guarded.client.get("/api/v1/tables")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer KEY" in refused.json()["hint"]
    assert guarded.client.get("/no/such/path").status_code == 401, "not even what there is"


@pytest.mark.parametrize(
    "header", ["Bearer", "Basic YTpi", "vt_000000000000_x", "Bearer vt_000000000000_" + "a" * 43]
)
def test_what_is_no_key_is_refused(guarded: Live, header: str) -> None:
    answer = guarded.client.get("/stats", headers={"Authorization": header})
    assert answer.status_code == 401
    assert header.rpartition("_")[2][:20] not in answer.json()["detail"] or header == "Bearer"


def test_a_revoked_key_is_refused_at_once(guarded: Live) -> None:
    with client_of(guarded, "leaver", "read") as client:
        assert client.get("/stats").status_code == 200
        guarded.on_loop(guarded.database.keys.revoke("leaver"))
        refused = client.get("/stats")
        assert refused.status_code == 401
        assert "'leaver' is revoked" in refused.json()["detail"]


def test_a_key_for_a_table_reaches_no_other(guarded: Live) -> None:
    with client_of(guarded, "booksonly", "admin", tables=["books", "later"]) as client:
        assert [t["name"] for t in client.get("/api/v1/tables").json()["tables"]] == ["books"]
        assert client.get("/api/v1/tables/main.books").status_code == 200
        for path in ("/api/v1/tables/films", "/api/v1/tables/films/rows/1", "/api/v1/tables/nothing"):
            refused = client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (403, "access-denied")
        assert client.post("/api/v1/tables/films/query", json={}).status_code == 403
        assert client.post("/api/v1/tables", json={"name": "other", "columns": {}}).status_code == 403
        assert client.post("/api/v1/tables", json={"name": "later", "columns": {}}).status_code == 201
        assert client.patch("/api/v1/tables/later", json={"rename": "escaped"}).status_code == 403
        assert client.delete("/api/v1/tables/later").status_code == 204
        assert client.post("/api/v1/embeddings/cache/clear", json={}).status_code == 403, "it is everybody's"
        assert client.post("/api/v1/embeddings/generate", json={"text": "tea"}).status_code == 200


def test_jobs_of_other_tables_are_not_seen(guarded: Live) -> None:
    with (
        client_of(guarded, "boss", "admin") as boss,
        client_of(guarded, "b2", "write", tables=["books"]) as other,
    ):
        column = {"name": "meaning", "source_column": "title", "model": "all-MiniLM-L6-v2"}
        assert boss.post("/api/v1/tables/films/columns/computed/embedding", json=column).status_code == 201
        job = boss.post("/api/v1/tables/films/columns/computed/meaning/refresh", json={"force": True}).json()[
            "job"
        ]
        assert job in {j["id"] for j in boss.get("/api/v1/jobs").json()["jobs"]}
        assert other.get("/api/v1/jobs").json()["jobs"] == []
        assert other.get(f"/api/v1/jobs/{job}").status_code == 404
        assert other.get(f"/api/v1/jobs/{job}/events").status_code == 404
        assert other.post(f"/api/v1/jobs/{job}/cancel").status_code == 404


def test_an_idempotency_key_is_the_callers_own(guarded: Live) -> None:
    same = {"Idempotency-Key": "k1"}
    row = {"rows": [{"id": "mine", "title": "x"}]}
    with client_of(guarded, "c1", "write") as one, client_of(guarded, "c2", "write") as two:
        assert one.post("/api/v1/tables/films/rows", json=row, headers=same).status_code == 201
        assert one.post("/api/v1/tables/films/rows", json=row, headers=same).headers["Idempotency-Replayed"]
        assert two.post("/api/v1/tables/films/rows", json=row, headers=same).status_code == 409, "no replay"


def test_refusals_are_counted(guarded: Live) -> None:
    with client_of(guarded, "watcher", "read") as client:
        before = client.get("/stats").json()["refusals"]
        guarded.client.get("/stats")
        client.post("/cache/clear")
        client.post("/api/v1/tables", json={"name": "x", "columns": {}})
        after = client.get("/stats").json()
        assert after["refusals"]["no-key"] == before.get("no-key", 0) + 1
        assert after["refusals"]["role"] >= before.get("role", 0) + 1
        assert after["errors"]["unauthenticated"] >= 1


def test_a_server_that_asks_for_no_key_takes_any() -> None:
    with live_server("memory:") as live:
        header = {"Authorization": "Bearer sk-whatever"}
        assert live.client.get("/stats", headers=header).status_code == 200


def test_metrics_may_be_opened() -> None:
    with live_server("memory:", metrics_open=True) as live:
        live.on_loop(live.database.keys.create("k"))
        assert live.client.get("/metrics").status_code == 200


# -- the parts alone -----------------------------------------------------------------------------------------


def guard(keys: ApiKeys, per_minute: int = 3, **more: Any) -> Access:
    options = {"asks": True, "plain_http": False} | more
    return Access(keys, Metrics(), refusals=Refusals(per_minute), **options)


async def test_clients_refused_too_often_are_not_listened_to() -> None:
    keys = ApiKeys(MemoryStateStore())
    _, good = await keys.create("good")
    _, late = await keys.create("late")
    access = guard(keys)
    wrong = b"Bearer vt_000000000000_" + b"a" * 43
    await access.caller(f"Bearer {good}".encode(), FAR)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await access.caller(wrong, FAR)
    with pytest.raises(RateLimited) as caught:
        await access.caller(wrong, FAR)
    assert 0 < caught.value.context["retry_after_s"] <= 60
    with pytest.raises(RateLimited):
        await access.caller(f"Bearer {late}".encode(), FAR)
    assert (await access.caller(f"Bearer {good}".encode(), FAR)).key, (
        "keys in use are not locked out by others"
    )
    elsewhere = Source("203.0.113.10", True, False)
    assert (await access.caller(f"Bearer {late}".encode(), elsewhere)).key


async def test_refusals_of_a_key_slow_down_that_key() -> None:
    keys = ApiKeys(MemoryStateStore())
    _, token = await keys.create("r", "read", ["books"])
    access = guard(keys, per_minute=2)
    caller = await access.caller(f"Bearer {token}".encode(), FAR)
    access.allow(caller, "read", "books")
    access.allow(caller, "read", None)
    for needed, table in (("write", "books"), ("read", "films")):
        with pytest.raises(AccessDenied):
            access.allow(caller, needed, table)  # type: ignore[arg-type]
    with pytest.raises(RateLimited):
        access.allow(caller, "write", "books")
    access.allow(caller, "read", "books")


def test_a_minute_later_clients_are_listened_to_again() -> None:
    now = [100.0]
    refusals = Refusals(2, clock=lambda: now[0])
    for _ in range(2):
        refusals.note("a")
    assert refusals.wait_s("a") == 60.0
    assert refusals.wait_s("b") == 0.0
    now[0] += 60.0
    assert refusals.wait_s("a") == 0.0
    refusals.note("a")
    assert refusals.wait_s("a") == 0.0


async def test_keys_are_not_taken_unencrypted_from_other_machines() -> None:
    keys = ApiKeys(MemoryStateStore())
    _, token = await keys.create("k")
    header = f"Bearer {token}".encode()
    plain = Source("203.0.113.9", False, False)
    with pytest.raises(AccessDenied, match="plain HTTP") as caught:
        await guard(keys).caller(header, plain)
    assert token not in str(caught.value)
    for source in (FAR, HERE):
        assert (await guard(keys).caller(header, source)).key
    assert (await guard(keys, plain_http=True).caller(header, plain)).key


async def test_what_keys_are() -> None:
    state = MemoryStateStore()
    keys = ApiKeys(state)
    assert not await keys.exist()
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    key, token = await keys.create("ci", "write", ["main.books", "shop.items", "books"], soon)
    assert key.tables == ["books", "shop.items"]
    assert key.reaches("main.books") and key.reaches("shop.items") and not key.reaches("items")
    assert await keys.recognise(token) == key
    secret = token.removeprefix(f"vt_{key.id}_")
    for entry in (await state.scan("")).values():
        assert secret.encode() not in entry.value and token.encode() not in entry.value
    with pytest.raises(AlreadyExists):
        await keys.create("ci")
    with pytest.raises(NotFound, match="known keys: ci"):
        await keys.revoke("cj")
    assert (await keys.revoke("ci")).state == "revoked"
    assert (await keys.revoke(key.id)).revoked_at == (await keys.list())[0].revoked_at
    with pytest.raises(Unauthenticated, match="revoked"):
        await keys.recognise(token)
    with pytest.raises(Unauthenticated, match="not known"):
        await keys.recognise(token[:-1] + ("A" if token[-1] != "A" else "B"))
    await keys.create("ci")
    assert await keys.exist(), "also when all are revoked"


async def test_keys_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ApiKeys(MemoryStateStore())
    now = dt.datetime.now(dt.UTC)
    _, token = await keys.create("brief", expires_at=now + dt.timedelta(minutes=5))
    await keys.recognise(token)
    monkeypatch.setattr("vectable.engine.keys._now", lambda: now + dt.timedelta(minutes=5))
    with pytest.raises(Unauthenticated, match="expired"):
        await keys.recognise(token)
    with pytest.raises(InvalidInput):
        await keys.create("past", expires_at=now)
    _, second = await keys.create("brief")
    await keys.revoke("brief")
    monkeypatch.setattr("vectable.engine.keys._now", lambda: now)
    for either in (token, second):
        with pytest.raises(Unauthenticated, match="revoked"):
            await keys.recognise(either)  # where the clock was set back, too: no namesake is left


@pytest.mark.parametrize(
    ("peer", "headers", "found"),
    [
        ("198.51.100.1", {}, Source("198.51.100.1", False, False)),
        ("198.51.100.1", {"proto": "https", "for": "1.1.1.1"}, Source("198.51.100.1", False, False)),
        ("127.0.0.1", {"proto": "https"}, Source("127.0.0.1", False, True)),
        ("10.0.0.5", {}, Source("10.0.0.5", False, False)),
        ("10.0.0.5", {"proto": "https", "for": "203.0.113.9"}, Source("203.0.113.9", True, False)),
        ("10.0.0.5", {"proto": "http", "for": "203.0.113.9"}, Source("203.0.113.9", False, False)),
        ("10.0.0.5", {"for": "203.0.113.9:51234, 10.0.0.7:80"}, Source("203.0.113.9", False, False)),
        ("10.0.0.5", {"for": "[2001:db8::1]:51234"}, Source("2001:db8::1", False, False)),
        ("10.0.0.5", {"for": "2001:db8::1"}, Source("2001:db8::1", False, False)),
        ("10.0.0.5", {"for": "6.6.6.6, 203.0.113.9, 10.0.0.7"}, Source("203.0.113.9", False, False)),
        ("10.0.0.5", {"proto": "https, http", "for": "203.0.113.9"}, Source("203.0.113.9", False, False)),
        ("10.0.0.5", {"proto": "https", "for": "10.0.0.7"}, Source("10.0.0.5", True, False)),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, headers: dict[str, str], found: Source) -> None:
    proxies = TrustedProxies("10.0.0.0/24, ::1")
    given = {f"x-forwarded-{name}".encode(): value.encode() for name, value in headers.items()}
    assert proxies.source({"client": (peer, 1), "scheme": "http"}, given) == found


def test_a_proxy_on_this_machine_does_not_make_its_clients_local() -> None:
    proxies = TrustedProxies("127.0.0.1")
    said = {b"x-forwarded-for": b"203.0.113.9"}
    assert proxies.source({"client": ("127.0.0.1", 1)}, said) == Source("203.0.113.9", False, False)
    assert proxies.source({"client": ("127.0.0.1", 1)}, {}) == Source("127.0.0.1", False, True)
    with pytest.raises(InvalidInput, match="is no address of a proxy"):
        TrustedProxies("10.0.0.1, proxy.example")

"""Addresses of PostgreSQL databases: how they may be written, and that no password gets out."""

from __future__ import annotations

import traceback

import pytest

from vectable.config import Settings
from vectable.database import restore
from vectable.drivers.postgres import Address, PostgresDriver
from vectable.errors import InvalidInput, Unsupported, VectableError
from vectable.storage import database_directory, in_server, open_storage, shown

SECRET = "s3cret/p@ss w"
QUOTED = "s3cret%2Fp%40ss%20w"


@pytest.mark.parametrize(
    ("written", "display"),
    [
        (f"postgresql://ann:{QUOTED}@db.example:6000/books", "postgresql://ann@db.example:6000/books"),
        (f"postgres://ann:{QUOTED}@db.example/books?sslmode=require", "postgresql://ann@db.example/books"),
        (
            f"postgres://ann:{QUOTED}@db.example/books?channel_binding=prefer",
            "postgresql://ann@db.example/books",
        ),
        (f"POSTGRES://ann:{QUOTED}@a:5432,b:6000/books", "postgresql://ann@a,b:6000/books"),
        (f"host=db.example dbname=books user=ann password='{SECRET}'", "postgresql://ann@db.example/books"),
        (f"password='{SECRET}' host=::1 user=ann", "postgresql://ann@[::1]"),
        (f"postgresql://ann@/books?host=/run/pg&password={QUOTED}", "postgresql://ann@%2Frun%2Fpg/books"),
        (f"postgresql://a%40b:{QUOTED}@h/my%20books", "postgresql://a%40b@h/my%20books"),
    ],
)
def test_every_form_is_understood_and_none_shows_its_password(written: str, display: str) -> None:
    address = Address.parse(written)
    assert in_server(written)
    assert (address.display, shown(written)) == (display, display)
    assert address.arguments["password"] == SECRET
    assert "s3cret" not in f"{address!r} {PostgresDriver(written)!r} {Settings(db=written)!r}"


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://ann:s3cret@host:port/books",
        "postgresql://ann:s3cret@host/books?sslmod=require",
        "postgresql://ann:s3cret@host/books?sslmode=perhaps",
        "postgresql://ann:s3cret@host/books?channel_binding=require",
        "postgresql://ann:s3cret@host/books#part",
        "postgresql://ann:s3cret@[::1/books",
        "host=h password='s3cret",
        "database=books password=s3cret",
        "host=h password=s3cret connect_timeout=soon",
        "host=h password=s3cret port=0",
    ],
)
async def test_what_cannot_be_read_is_refused_without_its_password(written: str) -> None:
    with pytest.raises(VectableError) as caught:
        await open_storage(written, Settings())
    assert caught.value.code == "invalid-input"
    assert "s3cret" not in f"{caught.value} {caught.value.hint} {caught.value.context}"


async def test_the_address_may_say_how_large_the_pool_is(postgres_url: str) -> None:
    storage = await open_storage(
        f"{postgres_url} pool_min=1 pool_max=3 pool_timeout=0.5", Settings(postgres_pool_max=7)
    )
    try:
        assert storage.pool is not None
        told = storage.pool()
        assert (told["least"], told["most"], told["wait_ms"], told["open"]) == (1, 3, 500, 1)
        assert "pool" not in storage.url
    finally:
        await storage.close()
    found = Address.parse("postgresql://ann@h/books?pool_max=40&sslmode=disable")
    assert found.pool == {"pool_max": 40} and "pool_max" not in found.keywords
    assert "pool_max" not in str(found.arguments)
    for wrong in ("pool_max=0", "pool_max=many", "pool_min=-1", "pool_timeout=1e9", "pool_timeout=nan"):
        with pytest.raises(InvalidInput, match="pool_"):
            Address.parse(f"postgresql://ann@h/books?{wrong}")


async def test_a_server_that_is_not_there_is_said_to_be_without_its_password() -> None:
    url = "postgresql://ann:s3cret@127.0.0.1:1/books?connect_timeout=2"
    with pytest.raises(VectableError) as caught:
        await open_storage(url, Settings())
    assert caught.value.code == "backend-unavailable"
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_directories_stay_directories() -> None:
    for path in ("./host=h", "data", "a=b", "/srv/postgres", "postgres", "sqlite:host=h"):
        assert not in_server(path)
        assert database_directory(path) is not None


def test_restoring_is_left_to_postgres() -> None:
    with pytest.raises(Unsupported) as caught:
        restore("file", "postgresql://ann:s3cret@host/books")
    assert "pg_restore" in str(caught.value.hint)
    assert "s3cret" not in str(caught.value)

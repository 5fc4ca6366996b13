"""docs/postgresql.md is true: its snippets run, in order, as the role it sets up, on a real server."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import vectable
from tests.attach.conftest import dump
from tests.docs.test_docs import PROGRAM, ROOT, blocks
from vectable.config import Settings
from vectable.drivers.postgres import Address
from vectable.drivers.postgres.server import programs
from vectable.testing.postgres_server import PostgresDatabases

PAGE = ROOT / "docs" / "postgresql.md"


@pytest.fixture
def role(postgres_databases: PostgresDatabases, postgres_url: str) -> Iterator[str]:
    """The role that the page makes; gone with everything it owns."""
    yield "app"
    postgres_databases.run("DROP OWNED BY app CASCADE", Address.parse(postgres_url).database)
    postgres_databases.run("DROP ROLE app")


def sql(url: str, statements: str) -> list[tuple[object, ...]]:
    async def run() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(**Address.parse(url).arguments)
        try:
            if statements.startswith("SELECT"):
                return [tuple(row) for row in await connection.fetch(statements)]
            await connection.execute(statements)
            return []
        finally:
            await connection.close()

    return asyncio.run(run())


def script(url: str, code: str, directory: Path) -> str:
    environment = {**os.environ, "DATABASE_URL": url, "VECTABLE_CACHE_DIR": str(directory / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guide_sets_up_a_role_that_can_do_everything_it_shows(
    postgres_databases: PostgresDatabases, postgres_url: str, role: str, tmp_path: Path
) -> None:
    set_up, select, *_ = blocks(PAGE, "sql")
    sql(postgres_url, set_up)
    mine = postgres_databases.url_of(Address.parse(postgres_url).database, role)
    python, *_ = blocks(PAGE, "python")
    shown = script(mine, python, tmp_path)
    assert "A heist in orbit" in shown
    assert "Bread at home" not in shown
    assert "'most': 20" in shown
    assert sql(mine, select) == [("Bread at home", 1987), ("A heist in orbit", 2021)]


def test_the_guide_builds_indexes_in_the_server(
    postgres_databases: PostgresDatabases, postgres_url: str, role: str, tmp_path: Path
) -> None:
    sql(postgres_url, blocks(PAGE, "sql")[0])
    mine = postgres_databases.url_of(Address.parse(postgres_url).database, role)
    *_, python = blocks(PAGE, "python")
    shown = script(mine, python, tmp_path)
    assert shown.startswith("ready ")
    assert "Index Scan using i_" in shown
    assert "the filter keeps few rows" in shown
    names = {row[0] for row in sql(mine, "SELECT indexdef FROM pg_indexes WHERE indexname ~ '^i_'")}
    assert {re.search(r"USING (\w+)", str(name))[1] for name in names} == {"hnsw", "btree", "gin"}  # type: ignore[index]


PRODUCTS = """
CREATE SCHEMA shop;
CREATE TABLE shop.products (id int PRIMARY KEY, name text, description text, price numeric(10, 2));
INSERT INTO shop.products VALUES
    (1, 'Chair', 'a wooden seat with a back and four legs', 40), (2, 'Lamp', 'gives warm light', 20),
    (3, 'Sofa', 'a soft seat for three', 900), (4, 'Stool', 'a low seat without a back', 15)"""


def test_the_guide_enriches_a_table_and_lets_go_of_it(
    postgres_databases: PostgresDatabases, postgres_url: str, role: str, tmp_path: Path
) -> None:
    set_up, _, grants, join = blocks(PAGE, "sql")
    _, attach, detach, *_ = blocks(PAGE, "sh")
    _, python, *_ = blocks(PAGE, "python")
    sql(postgres_url, set_up)
    sql(postgres_url, PRODUCTS + ";" + grants)
    before = dump(postgres_url)
    mine = postgres_databases.url_of(Address.parse(postgres_url).database, role)
    assert "Attached shop.products as products: 4 rows" in command_line(attach, mine, tmp_path)
    shown = script(mine, python, tmp_path)
    assert "Chair" in shown
    assert "Stool" in shown
    assert "Sofa" not in shown
    assert "'told': True" in shown
    names = [row[0] for row in sql(mine, join)]
    assert names[0] == "Chair"
    assert len(names) == 4
    assert "Detached products" in command_line(detach, mine, tmp_path)
    assert dump(postgres_url) == before


def test_the_guide_brings_a_backup_back_with_its_vectors(
    postgres_databases: PostgresDatabases, postgres_url: str, tmp_path: Path
) -> None:
    python, *_ = blocks(PAGE, "python")
    script(postgres_url, python, tmp_path)
    *_, commands = blocks(PAGE, "sh")
    restored = postgres_databases.create(extension=False)
    try:
        other = postgres_databases.url_of(restored)
        path = os.pathsep.join([str(programs()), str(Path(PROGRAM).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", "-ec", commands],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "DATABASE_URL": postgres_url, "RESTORED_URL": other},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "books: 2 rows" in done.stdout
        assert "2 ready" in done.stdout
        with vectable.connect(other, cache_dir=tmp_path / "cache") as database:
            books = database.table("books")
            assert books.similar("stealing from a space station").limit(1).collect()[0]["id"] == "1"
            assert not database.status()["jobs"]
    finally:
        postgres_databases.drop(restored)


def command_line(block: str, url: str, directory: Path) -> str:
    words = [url if word == "$DATABASE_URL" else word for word in shlex.split(block)[1:]]
    environment = {**os.environ, "VECTABLE_CACHE_DIR": str(directory / "cache")}
    done = subprocess.run([PROGRAM, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_example_runs_on_postgresql_by_changing_its_url(postgres_url: str, tmp_path: Path) -> None:
    (snippet,) = blocks(ROOT / "README.md", "python")
    assert '"./my-data"' in snippet
    shown = script(postgres_url, snippet.replace('"./my-data"', repr(postgres_url)), tmp_path)
    assert "State in React with hooks" in shown
    assert "Cooking pasta" not in shown


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that a server's account can reach when the tests run as root, as pytest's cannot be."""
    with tempfile.TemporaryDirectory(prefix="vectable-guide-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.slow
def test_the_demo_brings_a_server_of_its_own_and_stops_it(open_directory: Path) -> None:
    command, *_ = blocks(PAGE, "sh")
    program = [PROGRAM, *shlex.split(command)[1:]]
    done = subprocess.run(program, cwd=open_directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 hits" in done.stdout
    assert (open_directory / "vectable-postgres" / "data" / "PG_VERSION").exists()
    assert not (open_directory / "vectable-postgres" / "data" / "postmaster.pid").exists()


def test_every_setting_of_the_driver_is_documented() -> None:
    text = PAGE.read_text("utf-8")
    for name in Settings.__dataclass_fields__:
        if name.startswith("postgres_"):
            assert f"`{name}`" in text

"""Full disks, directories that may not be written, damaged files and too new ones: through every surface one
clear sentence with a hint, and whatever can still be done is done."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vectable
from tests.processes.programs import Programs, Server
from tests.waiting import LIMIT_S, until
from vectable.errors import DatabaseDamaged, VectableError

TABLE = """
t = db.create_table("t", {"title": "string", "meta": "json"})
t.insert([{"id": f"{i:03}", "title": f"text {i}", "meta": {"n": i}} for i in range(300)])
t.add_embedding_column("emb", source="title")
"""
ATTEMPT = """
from vectable.errors import VectableError
try:
    t = db.table("t")
    exec(sys.argv[2])
except VectableError as error:
    print(error.code, "|", error.detail, "|", error.hint)
"""


def refused(programs: Programs, *arguments: object) -> dict[str, str]:
    """What a command that must fail says with --json."""
    process = programs.command(*arguments, "--json")
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, err
    said: dict[str, str] = json.loads(err)
    assert said["error"]
    assert said["hint"]
    return said


def check_plain(programs: Programs, *arguments: object) -> None:
    """A command that must fail says one sentence and a hint to people."""
    process = programs.command(*arguments)
    out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 2, err


# --- a full disk


def limit_files(server: Server, size: int) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_fails_writes_with_503_and_reading_goes_on(programs: Programs) -> None:
    programs.run(TABLE)
    with programs.serve() as server:
        big = [{"id": f"big{i}", "title": f"{i} " + "x" * 3_000} for i in range(2_000)]
        size = os.stat(programs.db / "vectable.db").st_size
        limit_files(server, size // 2)
        problem = server.post("/t/rows", {"rows": big}, 503)
        assert problem["code"] == "disk-full"
        assert problem["hint"]
        assert server.post("/t/query/count", {})["count"] == 300
        # Text that is not in the cache can be searched for: only keeping its vector fails.
        search = {"query": "text 42 unheard of", "column": "emb", "limit": 5, "select": ["id"]}
        assert len(server.post("/t/search/similarity", search)["results"]) == 5
        limit_files(server, resource.RLIM_INFINITY)
        assert server.post("/t/rows", {"rows": big}, 201)["inserted"] == 2_000
        states = until(
            lambda: server.get("/tables/t/columns/computed")["columns"][0]["states"],
            lambda states: states["ready"] == 2_300,
        )
        assert states["error"] == 0


def test_a_disk_that_fills_while_a_job_embeds_leaves_cells_pending(programs: Programs) -> None:
    """The job ends or waits; once there is space, everything is embedded without anybody asking."""
    programs.run(TABLE)
    with programs.serve(env={"TEST_EMBED_PAUSE": "0.03", "TEST_EMBED_BATCH": "50"}) as server:
        rows = [{"id": f"more{i}", "title": f"more {i} " + "y" * 500} for i in range(900)]
        server.post("/t/rows", {"rows": rows}, 201)
        limit_files(server, 100_000)
        until(lambda: server.client.post("/api/v1/tables/t/rows", json={"rows": [{}]}).status_code == 503)
        assert server.post("/t/query/count", {})["count"] >= 1_200
        limit_files(server, resource.RLIM_INFINITY)
        until(
            lambda: server.get("/tables/t/columns/computed")["columns"][0]["states"],
            lambda states: states["new"] == states["stale"] == 0 and states["ready"] >= 1_200,
        )


def test_a_full_disk_in_python_and_on_the_command_line(programs: Programs) -> None:
    programs.run(TABLE)
    size = os.stat(programs.db / "vectable.db").st_size
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, resource.RLIM_INFINITY))
t.insert([{{"title": f"{{i}} " + "x" * 3_000}} for i in range(2_000)])
"""
    said = programs.run_apart(ATTEMPT, code)
    assert said.startswith("disk-full | no space left")
    file = programs.directory / "big.jsonl"
    file.write_text("".join(json.dumps({"id": f"f{i}", "title": "x" * 3_000}) + "\n" for i in range(2_000)))
    process = programs.command("import", "t", file, "--json", env={"TEST_FILE_LIMIT": str(size // 2)})
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert json.loads(err)["code"] == "disk-full"
    # A backup that does not fit leaves nothing behind.
    process = programs.command("backup", "copy", env={"TEST_FILE_LIMIT": str(size // 2)})
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert err.startswith("Error: No space left")
    assert [p.name for p in programs.directory.iterdir() if "copy" in p.name] == []
    assert programs.run('print(db.table("t").count())').strip() == "300"


# --- a directory that may not be written

AS_NOBODY = """
import json, os, shutil, sys
from vectable.cli.entry import run
from vectable.errors import VectableError
from tests.server.live import live_server
import vectable

def python(directory):
    with vectable.connect(directory) as db:
        t = db.table("t")
        print(t.count(), len(t.similar("text 7 unheard of", on="emb").limit(5).collect()), flush=True)
        print(t.where(t.title == "text 9").select("id").collect()[0]["id"], t.states("emb")["ready"])
        for write in (
            lambda: t.insert({"title": "new"}), lambda: t.delete(t.id == "001"),
            lambda: t.add_column("x", "int"), lambda: t.refresh("emb", force=True),
            lambda: t.create_index("emb", "hnsw"),
        ):
            try:
                write()
            except VectableError as error:
                print(error.code, bool(error.hint), flush=True)

def command(directory, file):
    for line in (["search", "t", "text 8", "--on", "emb", "--limit", "1", "--json"], ["status", "--json"],
                 ["import", "t", file, "--json"]):
        print(run([*line, "--db", directory]), flush=True)

def http(directory):
    with live_server(directory, fake_embeddings=True, text_model="hashing/32") as live:
        search = {"query": "text 5 never seen", "column": "emb", "limit": 5, "select": ["id"]}
        found = live.client.post("/api/v1/tables/t/search/similarity", json=search).json()
        print(len(found["results"]), flush=True)
        refused = live.client.post("/api/v1/tables/t/rows", json={"rows": [{"title": "x"}]})
        print(refused.status_code, refused.json().get("code"), flush=True)
        posted = live.client.post(
            "/api/v1/tables/t/rows", json={"rows": [{"title": "x"}]}, headers={"Idempotency-Key": "k"})
        print(posted.status_code, posted.json().get("code"), flush=True)

def everything(directory, file):
    python(directory)
    command(directory, file)
    http(directory)

# First as ourselves on a copy: another user may not reach the files that are imported on the way.
_, directory, copy, file = sys.argv
everything(copy, file)
print("---", flush=True)
print("---", file=sys.stderr, flush=True)
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
everything(directory, file)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="vectable-"))
    path.chmod(0o755)
    yield path
    for entry in [path, *path.rglob("*")]:
        if entry.is_dir():
            entry.chmod(0o755)
    shutil.rmtree(path)


def test_a_read_only_directory_can_be_searched_by_everybody(public: Path) -> None:
    programs = Programs(public)
    programs.run(TABLE)
    shutil.copytree(programs.db, public / "copy")
    file = public / "rows.jsonl"
    file.write_text('{"id": "new", "title": "new"}\n')
    for entry in programs.db.iterdir():
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    programs.db.chmod(0o555)
    root = str(Path(__file__).parents[2])
    process = programs.start(
        AS_NOBODY, programs.db, public / "copy", file, env={"PYTHONPATH": root, "TEST_EMBED_LOG": ""}
    )
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    said = out.partition("---\n")[2].splitlines()
    assert said[:2] == ["300 5", "009 300"]
    assert said[2:7] == ["read-only-database True"] * 5
    assert said[-3:] == ["5", "503 read-only-database", "503 read-only-database"]
    codes = [line for line in said if line in ("0", "1")]
    assert codes == ["0", "0", "1"]
    [refusal] = [json.loads(line) for line in err.partition("---\n")[2].splitlines() if '"error"' in line]
    assert refusal["code"] == "read-only-database"


# --- files that are damaged, or too new


def spoil(file: Path, chance: random.Random, offset: int, length: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(chance.randbytes(length))


def test_a_newer_file_is_left_alone(programs: Programs) -> None:
    programs.run(TABLE)
    file = sqlite3.connect(programs.db / "vectable.db")
    file.execute("PRAGMA user_version = 999")
    file.close()
    before = (programs.db / "vectable.db").read_bytes()
    with pytest.raises(VectableError) as caught:
        vectable.connect(programs.db)
    assert caught.value.code == "database-newer"
    assert caught.value.hint
    for command in (["tables"], ["search", "t", "x", "--on", "emb"], ["serve", "--port", "0"]):
        assert refused(programs, *command)["code"] == "database-newer"
    check_plain(programs, "status")
    assert (programs.db / "vectable.db").read_bytes() == before


@pytest.mark.parametrize("damage", ["header", "truncated", "middle"])
def test_a_damaged_file_is_told_by_every_surface(programs: Programs, damage: str) -> None:
    programs.run(TABLE)
    programs.vectable("backup", "good")
    file = programs.db / "vectable.db"
    size = file.stat().st_size
    if damage == "header":
        spoil(file, random.Random(1), 0, 100)
    elif damage == "truncated":
        os.truncate(file, size // 3)
    else:
        spoil(file, random.Random(1), 8_192, size - 8_192)
    for suffix in ("-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)
    with pytest.raises(DatabaseDamaged, match="vectable restore"):
        programs.run("db.table('t').select('title').limit(1_000).collect()")
    assert refused(programs, "describe", "t")["code"] == "database-damaged"
    served = programs.command("serve", "--port", "0")
    assert served.stdout is not None
    if served.stdout.readline():
        served.kill()
        served.communicate()
        with programs.serve() as server:
            problem = server.post("/t/query", {"limit": 1_000}, 503)
            assert problem["code"] == "database-damaged"
            assert "restore" in problem["hint"]
            assert server.client.get("/api/v1/tables").status_code in (200, 503)
    else:
        _, err = served.communicate(timeout=LIMIT_S)
        assert served.returncode == 1
        assert "damaged" in err
    programs.vectable("restore", "good", "--overwrite")
    assert programs.run('print(db.table("t").count())').strip() == "300"


def everything(directory: Path) -> list[Callable[[], object]]:
    """What people do with a database."""
    db = vectable.connect(directory, text_model="hashing/32", fake_embeddings=True, busy_timeout_ms=2_000)
    t = db.table("t")
    return [
        db.tables,
        db.status,
        t.describe,
        lambda: t.select("*").limit(1_000).collect(),
        lambda: t.where("meta.n >= 5 and title like '%1%'").collect(),
        lambda: list(t.stream()),
        lambda: t.similar("text 7", on="emb").limit(300).collect(),
        lambda: t.get("007"),
        t.count,
        lambda: t.insert({"id": "new", "title": "new"}),
        lambda: t.update("id >= '000'", {"meta": {"n": 1}}),
        lambda: t.refresh("emb", force=True),
        lambda: t.add_column("extra", "string"),
        lambda: t.delete("id < '100'"),
        lambda: db.backup(directory.parent / f"{directory.name}.copy"),
        db.jobs,
        db.close,
    ]


def test_any_damage_is_an_error_of_ours_or_none_at_all(programs: Programs) -> None:
    """A few bytes anywhere. Most places make an error, some go unnoticed: never a crash of another kind."""
    programs.run(TABLE)
    sqlite3.connect(programs.db / "vectable.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    size = (programs.db / "vectable.db").stat().st_size
    chance = random.Random(5)
    told = 0
    for n in range(25):
        directory = programs.directory / f"spoilt{n}"
        directory.mkdir()
        shutil.copy(programs.db / "vectable.db", directory)
        for _ in range(4):
            spoil(directory / "vectable.db", chance, chance.randrange(100, size), chance.choice([1, 20, 400]))
        try:
            steps = everything(directory)
        except VectableError as error:
            told += isinstance(error, DatabaseDamaged)
            continue
        for step in steps:
            try:
                step()
            except VectableError as error:
                told += isinstance(error, DatabaseDamaged) and error.hint is not None
    assert told > 5, sys.platform

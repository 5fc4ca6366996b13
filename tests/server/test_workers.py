"""Several worker processes behind one port: one state, one set of metrics, replaced when they die."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import vectable
from tests.waiting import LIMIT_S, until
from vectable.config import Settings
from vectable.database import Database
from vectable.engine.keys import ApiKeys
from vectable.errors import InvalidInput
from vectable.server.access import LOOK_AGAIN_S
from vectable.server.limits import Limits, share_of
from vectable.server.metrics import Metrics
from vectable.server.metrics.shared import forget_process, note_start
from vectable.server.run import listen
from vectable.server.supervise import _hear, _stamp, _Worker, supervise

T = TypeVar("T")
PROGRAM = [sys.executable, "-m", "vectable.cli"]


@contextmanager
def workers(directory: Path, *flags: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a server of several processes, and the one that started them."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", "--json", "--db", str(directory / "db"), "--no-preload", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "VECTABLE_FAKE_EMBEDDINGS": "1", **variables},
    )
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            text += line
        yield json.loads(text)["url"], process
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_S)
        finally:
            for child in [process, *children(process)]:
                child.kill()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def pids(process: subprocess.Popen[str]) -> set[int]:
    """Of its workers, those that ended and were not noticed yet among them."""
    return {child.pid for child in children(process)}


def with_keys(directory: Path, work: Callable[[ApiKeys], Coroutine[Any, Any, T]]) -> T:
    """What another process does with the keys of the database."""

    async def run() -> T:
        async with await Database.open(directory / "db") as database:
            return await work(database.keys)

    return asyncio.run(run())


def told(url: str, name: str, **labels: str) -> int:
    """A number of all workers, told by whichever is asked."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return int(sum(s.value for s in samples if s.name == name and s.labels.items() >= labels.items()))


def served(url: str) -> int:
    return told(url, "vectable_requests_total", route="/health")


def in_flight(url: str) -> int:
    return told(url, "vectable_requests_in_flight")


def test_they_share_everything_are_replaced_and_end_together(tmp_path: Path) -> None:
    with workers(tmp_path, "--workers", "2", "--refusals-per-minute", "1000") as (url, process):
        assert until(lambda: len(children(process)) == 2)
        httpx.post(f"{url}/api/v1/tables", json={"name": "t", "columns": {"n": "int"}}, timeout=60)
        for n in range(8):  # each on a connection of its own: whichever process takes it
            row = {"rows": [{"id": str(n), "n": n}]}
            assert httpx.post(f"{url}/api/v1/tables/t/rows", json=row, timeout=60).status_code == 201
            found = httpx.post(f"{url}/api/v1/tables/t/query/count", json={}, timeout=60).json()
            assert found["count"] == n + 1, "each sees what the others wrote"
            httpx.get(f"{url}/health", timeout=60)
        counts = [served(url) for _ in range(6)]
        assert counts == sorted(counts), "no counter ever goes back"
        until(lambda: served(url) == 8)

        killed = children(process)[0]
        killed.kill()
        until(lambda: len(pids(process) - {killed.pid}) == 2)
        assert httpx.get(f"{url}/health/ready", timeout=60).status_code == 200

        token = with_keys(tmp_path, lambda keys: keys.create("k"))[1]
        time.sleep(LOOK_AGAIN_S)  # the first key is looked for as often as that, by every process
        assert all(httpx.get(f"{url}/stats", timeout=60).status_code == 401 for _ in range(8))
        header = {"Authorization": f"Bearer {token}"}
        assert all(httpx.get(f"{url}/stats", headers=header, timeout=60).status_code == 200 for _ in range(6))
        with_keys(tmp_path, lambda keys: keys.revoke("k"))
        refused = [httpx.get(f"{url}/stats", headers=header, timeout=60).status_code for _ in range(8)]
        assert refused == [401] * 8, "on every process, at once"

        found = children(process)
        process.kill()
        process.wait()
        assert psutil.wait_procs(found, timeout=LIMIT_S)[1] == [], "none outlives the one that started them"


def test_what_a_worker_may_take_of_a_limit() -> None:
    settings = Settings(workers=4, max_in_flight=10, client_requests_per_minute=100)
    limits = Limits.of(settings)
    assert (limits.max_in_flight, limits.client_requests_per_minute) == (2, 25)
    assert [share_of(most, 4) for most in (0, 1, 4, 30)] == [0, 1, 1, 7]
    assert Limits.of(Settings()) == Limits()


def test_limits_are_for_all_of_them(tmp_path: Path) -> None:
    with workers(tmp_path, "--workers", "2", "--max-in-flight", "4") as (url, process):
        assert until(lambda: len(children(process)) == 2)
        httpx.post(f"{url}/api/v1/tables", json={"name": "t", "columns": {}}, timeout=60)
        address = urlsplit(url)
        unfinished = (
            f"POST /api/v1/tables/t/rows HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
        )
        opened = [socket.create_connection((address.hostname, address.port)) for _ in range(12)]
        for connection in opened:
            connection.sendall(unfinished.encode())
        # Whoever is let in is answered at the end of its body, which never comes.
        refused = until(lambda: len(found := select.select(opened, [], [], 0)[0]) >= 8 and found)
        assert {each.recv(12) for each in refused} == {b"HTTP/1.1 503"}
        for connection in opened:
            connection.close()


def test_stopping_drains_every_process(tmp_path: Path) -> None:
    with workers(tmp_path, "--workers", "2", "--shutdown-grace-ms", "20000") as (url, process):
        httpx.post(f"{url}/api/v1/tables", json={"name": "t", "columns": {}}, timeout=60)
        under_way, stopped = threading.Barrier(5, timeout=LIMIT_S), threading.Event()
        answers: list[int] = []

        def slowly(n: int) -> Iterator[bytes]:
            yield f'{{"id": "{n}a"}}\n'.encode()
            under_way.wait()
            stopped.wait(LIMIT_S)
            yield f'{{"id": "{n}b"}}\n'.encode()

        def send(n: int) -> None:
            headers = {"Content-Type": "application/x-ndjson"}
            body = slowly(n)
            answer = httpx.post(f"{url}/api/v1/tables/t/rows", content=body, headers=headers, timeout=60)
            answers.append(answer.status_code)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        under_way.wait()
        until(lambda: in_flight(url) == 5)  # the four, and the one that asks
        process.send_signal(signal.SIGTERM)
        until(lambda: not _listens(url))  # new clients are refused while those under way are waited for
        process.send_signal(signal.SIGTERM)  # twice is as once
        stopped.set()
        for thread in threads:
            thread.join(LIMIT_S)
        assert answers == [201] * 4
        assert process.wait(LIMIT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "", "every worker ended by itself, and well"


def _listens(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=LIMIT_S).close()
    except OSError:
        return False
    return True


def test_a_changed_file_starts_the_server_anew(tmp_path: Path) -> None:
    import shutil

    import vectable

    package = tmp_path / "code" / "vectable"
    shutil.copytree(Path(vectable.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
    with workers(tmp_path, "--reload", PYTHONPATH=path) as (url, process):
        [first] = children(process)
        assert httpx.get(f"{url}/health/live", timeout=60).json() == {"status": "alive"}
        route = package / "server" / "routes" / "observe.py"
        text = route.read_text("utf-8")
        route.write_text(text.replace('answer({"status": "alive"})', 'answer({"status": "anew"})'), "utf-8")

        def status() -> bool:
            try:
                return bool(httpx.get(f"{url}/health/live", timeout=60).json()["status"] == "anew")
            except httpx.HTTPError:
                return False

        until(status)
        assert [c.pid for c in children(process)] != [first.pid]


def test_a_database_in_memory_cannot_be_shared() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(InvalidInput, match="lives in one process"):
        supervise(Settings(db="memory:", workers=2), listener, lambda: None)


def test_a_worker_that_comes_later_knows_since_when_the_server_runs(tmp_path: Path) -> None:
    note_start(tmp_path)
    first, replaced = Metrics(tmp_path), Metrics(tmp_path)
    assert first.started == replaced.started < time.monotonic()
    assert Metrics().started > first.started


def test_the_code_is_looked_at_past_what_editors_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").touch()
    (tmp_path / ".#a.py").symlink_to("somebody@nowhere:1")
    monkeypatch.setattr(vectable, "__file__", str(tmp_path / "__init__.py"))
    stamp = _stamp()
    os.utime(tmp_path / "a.py", ns=(1, 1))
    assert _stamp() != stamp


def test_what_a_library_prints_neither_stops_a_worker_nor_hides_that_it_is_ready() -> None:
    printing = "print('a library greets'); print('ready', flush=True); print('x' * (1 << 20))"
    process = subprocess.Popen([sys.executable, "-c", printing], stdout=subprocess.PIPE, text=True)
    worker = _Worker(process, threading.Event())
    _hear(worker)
    assert worker.ready.is_set()
    assert process.wait(LIMIT_S) == 0


def test_what_processes_did_outlives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Metrics(tmp_path), Metrics(tmp_path)
    held = [metrics.gauge("held", "What is held.") for metrics in (one, two)]
    for pid, metrics, gauge in ((1, one, held[0]), (2, two, held[1])):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        metrics.request("GET", "/a", 200, 0.5)
        gauge.set(10.0 * pid)
        metrics.share()
    (tmp_path / "3.json").write_text("torn", "utf-8")

    def found() -> dict[str, float]:
        return {
            s.name: s.value for m in two.collect() for s in m.samples if s.labels.get("le") in (None, "+Inf")
        }

    both = found()
    assert both["vectable_requests_total"] == 2
    assert both["vectable_request_seconds_sum"] == 1.0
    assert both["vectable_held"] == 30.0
    with (tmp_path / "1.json").open(encoding="utf-8") as reader:
        before = (tmp_path / "1.json").read_text("utf-8")
        forget_process(tmp_path, 1)
        assert reader.read() == before, "who reads it meanwhile has it whole"
    alone = found()
    assert alone["vectable_requests_total"] == 2
    assert alone["vectable_request_seconds_bucket"] == 2
    assert alone["vectable_held"] == 20.0
    forget_process(tmp_path, 77)

"""`python -m benchmarks.soak`: a server under a hundred clients for minutes on end; what fails, what grows.

Embeddings of one text and of several, known and new, a searched table that is written to, requests that are
wrong, clients that hang up. An answer is an error unless its status and its content are what the request asks
for; 429 and 503 with Retry-After are not, where the request sent again is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.http import served
from benchmarks.measure import Figure, machine, percentile, show
from benchmarks.texts import docstrings

MINUTES, CLIENTS = 10.0, 100
ROWS = 500
_KNOWN = 200
_CACHE = 2_000
"""Entries of the cache's memory tier: full long before the middle, so that what grows then should not."""
_SAMPLE_S = 30.0
_TRIES = 20
_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_TABLE = "/api/v1/tables/soak"
Vectors = list[list[float]]


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and what a right answer is."""

    kind: str
    path: str
    body: Any
    status: int = 200
    right: Callable[[Any], bool] = lambda _: True
    leaves: bool = False
    """The client does not wait for the answer."""


@dataclass(slots=True)
class Sample:
    minutes: float
    rss: float
    threads: int
    files: int


@dataclass(slots=True)
class Soak:
    """What happened so far."""

    texts: list[str]
    answered: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    again: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    """Of known texts, as first seen: they never change."""
    number: int = 0

    def new_text(self) -> str:
        """A text nobody has sent before."""
        self.number += 1
        return f"{self.number} {self.texts[self.number % len(self.texts)]}"


def run(minutes: float = MINUTES, clients: int = CLIENTS) -> list[Figure]:
    """The figures."""
    soak = Soak([" ".join(text.split()[:8]) for text in docstrings(ROWS)])
    with served("--cache-max-size", str(_CACHE)) as (host, port, process):
        asyncio.run(_run(soak, host, port, process, minutes, clients))
    return _figures(soak, minutes, clients)


async def _run(
    soak: Soak, host: str, port: int, process: psutil.Process, minutes: float, clients: int
) -> None:
    first = Client(soak, host, port)
    embedded = {"name": "emb", "source_column": "title"}
    rows = [{"id": str(i), "title": text} for i, text in enumerate(soak.texts)]
    await first.ask(
        Request("set up", "/api/v1/tables", {"name": "soak", "columns": {"title": "string"}}, 201)
    )
    await first.ask(Request("set up", f"{_TABLE}/columns/computed/embedding", embedded, 201))
    await first.ask(Request("set up", f"{_TABLE}/rows", {"rows": rows}, 201))
    if soak.errors:
        raise RuntimeError(f"the table could not be made: {dict(soak.errors)}")
    await _embedded(first)
    first.close()
    soak.answered.clear()
    soak.times.clear()
    until = time.monotonic() + minutes * 60
    crowd = [asyncio.create_task(_client(soak, host, port, number, until)) for number in range(clients)]
    await _watch(soak, process, minutes)
    await asyncio.gather(*crowd)


async def _embedded(client: Client) -> None:
    """Returns once every row can be found."""
    for _ in range(600):
        _, _, content = await client.exchange(Request("set up", f"{_TABLE}/columns/computed", None))
        if json.loads(content)["columns"][0]["states"]["ready"] == ROWS:
            return
        await asyncio.sleep(0.5)
    raise RuntimeError("the table's rows were not embedded in five minutes")


async def _client(soak: Soak, host: str, port: int, number: int, until: float) -> None:
    client, chance = Client(soak, host, port), random.Random(number)
    while time.monotonic() < until:
        await client.ask(_next(soak, chance))
    client.close()


async def _watch(soak: Soak, process: psutil.Process, minutes: float) -> None:
    began, step = time.monotonic(), min(_SAMPLE_S, minutes * 60 / 20)
    for number in range(1, int(minutes * 60 / step) + 1):
        await asyncio.sleep(began + number * step - time.monotonic())
        with process.oneshot():
            sample = Sample(
                (time.monotonic() - began) / 60,
                process.memory_info().rss / 2**20,
                process.num_threads(),
                process.num_fds(),
            )
        soak.samples.append(sample)
        held = f"{sample.rss:6.1f} MiB  {sample.threads} threads  {sample.files} files"
        done = f"{soak.answered.total():,} answered  {soak.errors.total()} errors  {soak.again.total()} again"
        print(f"{sample.minutes:5.1f} min  {held}  {done}", file=sys.stderr, flush=True)


# -- what is asked -------------------------------------------------------------------------------------------


def _next(soak: Soak, chance: random.Random) -> Request:
    kinds, weights = zip(*_MIX.items(), strict=True)
    return chance.choices(kinds, weights)[0](soak, chance)


def _known(soak: Soak, chance: random.Random) -> Request:
    text = soak.texts[chance.randrange(_KNOWN)]

    def right(answer: Any) -> bool:
        [vector] = answer["embeddings"]
        first = soak.vectors.setdefault(text, vector)
        return _unit([vector]) and bool(np.allclose(vector, first, atol=1e-5))

    return Request("known text", "/embed/text", {"texts": [text]}, right=right)


def _new(soak: Soak, _: random.Random) -> Request:
    body = {"model": _MODEL, "input": soak.new_text()}
    return Request("new text", "/v1/embeddings", body, right=lambda a: _unit([a["data"][0]["embedding"]]))


def _batch(soak: Soak, chance: random.Random) -> Request:
    items = [{"text": soak.new_text()} for _ in range(6)]
    items += [{"text": soak.texts[chance.randrange(_KNOWN)]} for _ in range(6)]
    body = {"items": items, "batchSize": 8}
    return Request(
        "batch",
        "/embed/batch",
        body,
        right=lambda a: len(a["embeddings"]) == 12 and a["batchesProcessed"] == 2 and _unit(a["embeddings"]),
    )


def _search(soak: Soak, chance: random.Random) -> Request:
    query = soak.new_text() if chance.random() < 0.3 else soak.texts[chance.randrange(_KNOWN)]
    body = {"query": query, "column": "emb", "limit": 10, "include_score": True}

    def right(answer: Any) -> bool:
        scores = [hit["score"] for hit in answer["results"]]
        return len(scores) == 10 and scores == sorted(scores, reverse=True)

    return Request("search", f"{_TABLE}/search/similarity", body, right=right)


def _write(soak: Soak, chance: random.Random) -> Request:
    row = {"id": str(chance.randrange(ROWS)), "title": soak.new_text()}
    body = {"rows": [row], "on_conflict": "replace"}
    return Request("write", f"{_TABLE}/rows", body, 201, lambda a: a["replaced"] == 1)


def _compare(_: Soak, chance: random.Random) -> Request:
    body = {"query": [chance.random(), 1.0], "candidates": [[chance.random(), 1.0] for _ in range(50)]}
    return Request("similarity", "/similarity", body, right=lambda a: len(a["results"]) == 10)


def _wrong(_: Soak, chance: random.Random) -> Request:
    path, body, status = chance.choice(_WRONG)
    return Request("wrong", path, body, status, lambda a: bool(a.get("error")))


def _look(_: Soak, chance: random.Random) -> Request:
    return Request("look", chance.choice(("/health", "/stats", "/cache/stats", "/api/v1/jobs")), None)


def _hang_up(soak: Soak, _: random.Random) -> Request:
    return Request("hang up", "/embed/text", {"texts": [soak.new_text()] * 3}, leaves=True)


_WRONG: tuple[tuple[str, Any, int], ...] = (
    ("/embed/text", {"texts": []}, 400),
    ("/embed/text", {"texts": ["x"], "model": "no/such-model"}, 404),
    ("/embed/image", {"images": [{"base64": "bm8gaW1hZ2U="}]}, 422),
    ("/v1/embeddings", {"model": _MODEL, "input": [[10**9]]}, 400),
    ("/v1/embeddings", {"model": _MODEL, "input": "x", "dimensions": 7}, 400),
    ("/similarity", {"query": [1.0], "candidates": [[1.0, 2.0]]}, 400),
    (f"{_TABLE}/query", {"where": {"sql": "no_such_column = 1"}}, 400),
    (f"{_TABLE}/search/similarity", {"query": [1.0, 2.0], "column": "emb"}, 400),
    ("/api/v1/tables/none/query", {}, 404),
)
_MIX: dict[Callable[[Soak, random.Random], Request], int] = {
    _known: 30, _search: 25, _new: 12, _batch: 8, _write: 5, _compare: 5, _wrong: 9, _look: 4, _hang_up: 2,
}  # fmt: skip


def _unit(vectors: Vectors) -> bool:
    return bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4))


# -- how it is asked -----------------------------------------------------------------------------------------


class Client:
    """One connection, one request at a time, and patience where it is told to come back."""

    def __init__(self, soak: Soak, host: str, port: int) -> None:
        self._soak = soak
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request) -> None:
        """Sends it, and counts what comes of it."""
        try:
            for _ in range(_TRIES):
                started = time.perf_counter()
                status, wait_s, content = await self.exchange(request)
                if status not in (429, 503) or wait_s is None:
                    break
                self._soak.again[status] += 1
                await asyncio.sleep(wait_s)
            self._note(request, status, content, (time.perf_counter() - started) * 1000)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self._soak.errors[f"{request.kind}: {type(error).__name__}: {error}"[:200]] += 1
            self.close()

    def _note(self, request: Request, status: int, content: bytes, ms: float) -> None:
        self._soak.answered[request.kind] += 1
        if request.leaves:
            return
        self._soak.times.append(ms)
        if status != request.status:
            self._soak.errors[f"{request.kind}: {status}: {content.decode()[:150]}"] += 1
        elif not request.right(json.loads(content)):
            self._soak.errors[f"{request.kind}: a wrong answer"] += 1

    async def exchange(self, request: Request) -> tuple[int, float | None, bytes]:
        """(Status, seconds to wait as Retry-After says, body)."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 26)
        reader, writer = self._streams
        content = b"" if request.body is None else json.dumps(request.body).encode()
        head = (
            f"{'GET' if request.body is None else 'POST'} {request.path} HTTP/1.1\r\n"
            f"Host: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        if request.leaves:
            await writer.drain()
            self.close()
            return request.status, None, b""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().splitlines()
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        wait = headers.get("retry-after")
        return int(lines[0].split()[1]), None if wait is None else float(wait), body

    def close(self) -> None:
        """Lets go of the connection."""
        if self._streams is not None:
            with contextlib.suppress(OSError):
                self._streams[1].close()
            self._streams = None


# -- what is made of it --------------------------------------------------------------------------------------


def _figures(soak: Soak, minutes: float, clients: int) -> list[Figure]:
    late = soak.samples[len(soak.samples) // 2 :]
    slope = float(np.polyfit([s.minutes for s in late], [s.rss for s in late], 1)[0])
    asked = ", ".join(f"{n:,} {kind}" for kind, n in soak.answered.most_common())
    again = f"{soak.again.total()} told to come back, and answered then"
    for error, count in soak.errors.most_common(20):
        print(f"{count} x {error}", file=sys.stderr)
    return [
        Figure(f"requests of {clients} clients", soak.answered.total(), "", None, asked),
        Figure("… errors", soak.errors.total(), "", ("<=", 0.0), again),
        Figure(
            "… requests a second", soak.answered.total() / minutes / 60, "/s", None, f"{minutes:g} minutes"
        ),
        Figure("… p50", percentile(soak.times, 0.5), "ms", None, "each client waits for its answer"),
        Figure("… p99", percentile(soak.times, 0.99), "ms"),
        Figure("memory at half time", late[0].rss, "MiB", None, f"cache of {_CACHE:,} entries"),
        Figure("memory at the end", late[-1].rss, "MiB"),
        Figure("… growth over the second half", slope, "MiB/min", ("<=", 1.0), "slope of a line through all"),
        Figure("threads gained in the second half", late[-1].threads - late[0].threads, "", ("<=", 4.0)),
        Figure("most open files in the second half", max(s.files for s in late), "", ("<=", clients + 100.0)),
    ]


def main() -> int:
    """Runs it; 1 when a target was missed."""
    from benchmarks.__main__ import SUITES, write_markdown

    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=SUITES["soak"])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--markdown", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    print(f"machine: {machine()}\n", flush=True)
    figures = run(arguments.minutes, arguments.clients)
    show(f"soak: {SUITES['soak']}", figures)
    if arguments.markdown is not None:
        write_markdown(arguments.markdown, {"soak": figures})
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())

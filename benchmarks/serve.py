"""HTTP over a real socket: one client, 100 clients at once, and what the server holds in memory."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

import vectable
from benchmarks.measure import Figure, median, percentile
from benchmarks.tables import fill, vectors
from vectable.core.vectors import encode_base64


def run() -> list[Figure]:
    """The figures."""
    matrix, queries = vectors(10_000)
    with tempfile.TemporaryDirectory() as directory:
        url = Path(directory) / "db"
        with vectable.connect(url, synchronous="normal") as database:
            fill(database, "bench", matrix)
            texts = database.create_table("texts", {"title": "string"})
            texts.add_embedding_column("emb", source="title")
            texts.insert([{"title": f"text number {i}"} for i in range(100)])
        with _server(url) as (address, process):
            return asyncio.run(_measure(address, process, queries))


@contextmanager
def _server(url: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).with_name("vectable"))
    process = subprocess.Popen(
        [program, "serve", "--db", str(url), "--port", str(port)], stdout=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{address}/health").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


async def _measure(address: str, process: psutil.Process, queries: Any) -> list[Figure]:
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        bodies = [
            {
                "query": {"base64": encode_base64(q)},
                "column": "v",
                "limit": 10,
                "include_query_embedding": False,
            }
            for q in queries
        ]
        for body in bodies[:20]:
            await _timed(client, "bench", body)
        one = [await _timed(client, "bench", body) for body in bodies]
        text = {"column": "emb", "limit": 10, "include_query_embedding": False}
        await _timed(client, "texts", {**text, "query": "warm"})
        uncached, hit, model = [], [], []
        for i in range(60):
            query = f"how do I open file number {i}"
            uncached.append(await _timed(client, "texts", {**text, "query": query}))
            hit.append(await _timed(client, "texts", {**text, "query": query}))
            model.append(await _model_alone(client, f"how do I close file number {i}"))
        crowd = await _crowd(address, bodies)
    memory = process.memory_info().rss / 2**20
    return [
        Figure("search with a given vector p50", median(one), "ms", ("<=", 3.0), "10k rows"),
        Figure("search with a given vector p95", percentile(one, 0.95), "ms", ("<=", 10.0)),
        Figure("search with a text, uncached p50", median(uncached), "ms"),
        Figure(
            "… beyond the model alone",
            median(uncached) - median(model),
            "ms",
            ("<=", 5.0),
            f"model {median(model):.1f} ms",
        ),
        Figure("search with a text, cached p50", median(hit), "ms", ("<=", 10.0)),
        Figure(
            "100 searches at once, average",
            sum(crowd) / len(crowd),
            "ms",
            ("<=", 100.0),
            "client on the same cores",
        ),
        Figure("100 searches at once, p95", percentile(crowd, 0.95), "ms"),
        Figure("server memory, model loaded", memory, "MiB", ("<=", 600.0), "after the load above"),
    ]


async def _timed(client: httpx.AsyncClient, table: str, body: dict[str, Any]) -> float:
    started = time.perf_counter()
    response = await client.post(f"/api/v1/tables/{table}/search/similarity", json=body)
    elapsed = (time.perf_counter() - started) * 1000
    response.raise_for_status()
    return elapsed


async def _model_alone(client: httpx.AsyncClient, text: str) -> float:
    """One uncached text through the embedding endpoint, without cache or search."""
    started = time.perf_counter()
    body = {"text": text, "options": {"cache": False}, "encoding_format": "base64"}
    (await client.post("/api/v1/embeddings/generate", json=body)).raise_for_status()
    return (time.perf_counter() - started) * 1000


async def _crowd(address: str, bodies: list[dict[str, Any]]) -> list[float]:
    """100 clients, each one search at a time, ten searches each: over bare sockets, because an HTTP client
    library would take more of the shared cores than the server."""
    host, port = address.removeprefix("http://").split(":")

    async def one(number: int) -> list[float]:
        reader, writer = await asyncio.open_connection(host, int(port))
        times = []
        for i in range(10):
            message = _request(f"{host}:{port}", bodies[(number + i) % len(bodies)])
            started = time.perf_counter()
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            times.append((time.perf_counter() - started) * 1000)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
        writer.close()
        return times

    return [t for times in await asyncio.gather(*(one(n) for n in range(100))) for t in times]


def _request(host: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST /api/v1/tables/bench/search/similarity HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content

"""Batches over HTTP beside the bare runtime and infinity-emb: by size, short texts, documents, memory."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.bare import bare
from benchmarks.http import ROOT, Connection, crowd, peak_memory, served
from benchmarks.infinity import MODEL, infinity
from benchmarks.measure import Figure, alternately, median, tell
from benchmarks.texts import docstrings
from vectable.config import DEFAULT_MODEL

SIZES = {1: 30, 32: 8, 100: 6, 500: 3}
"""How often each size is asked for."""
WANTED = {1: 100.0, 32: 800.0, 100: 1_500.0}
ROUNDS = 8
DOCUMENTS, DOCUMENT_ROUNDS, CLIENTS = 128, 3, 16
_OPERATIONS = 2 * 6 * (4 * 384**2 + 2 * 384 * 1536)
"""Floating-point operations of the default model's products for a token: six layers, each of four matrices of
384 by 384 and two of 384 by 1,536; a multiplication and an addition for each of their elements."""
_TORCH = ROOT / ".venv-sentence-transformers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class _Runtime:
    name: str
    model: str
    python: str | Path = sys.executable


@dataclass(frozen=True, slots=True)
class _Peer:
    """`generous`: the address of another that reads as much of a text as it does by itself."""

    host: str
    port: int
    process: psutil.Process
    generous: tuple[str, int]


def run() -> list[Figure]:
    """The figures."""
    figures: list[Figure] = []
    exact: list[Any] = []
    with _infinity() as peer:
        for runtime in _runtimes():
            flags = ("--text-model", runtime.model)
            with served(*flags, python=runtime.python) as (host, port, process):
                connection = Connection(host, port)
                _warm(connection)
                figures += _by_size(connection, runtime)
                figures += _short(connection, runtime)
                if runtime.python == sys.executable:
                    figures += _documents(connection, runtime, process, peer)
                    figures += _nearness(connection, runtime, exact)
                connection.close()
    return figures


def _warm(connection: Connection) -> None:
    """Returns once the model is loaded: from a cold disk that takes longer than a request may."""
    for _ in range(4):
        try:
            connection.post("/embed/text", {"texts": ["warm"]})
        except RuntimeError as error:
            tell(f"not yet: {error}"[:120])
        else:
            return


def _runtimes() -> list[_Runtime]:
    """Those that are installed."""
    found = [_Runtime("onnx fp32", DEFAULT_MODEL)]
    if find_spec("openvino") is not None:
        found += [
            _Runtime(f"openvino {precision}", f"{DEFAULT_MODEL}?runtime=openvino&precision={precision}")
            for precision in ("bf16", "int8")
        ]
    if _TORCH.exists():
        found.append(
            _Runtime("sentence-transformers", f"{DEFAULT_MODEL}?runtime=sentence-transformers", _TORCH)
        )
    else:
        tell("sentence-transformers is left out: its environment is made by its test")
    return found


@contextmanager
def _infinity() -> Iterator[_Peer | None]:
    with ExitStack() as stack:
        try:
            generous = stack.enter_context(infinity(own_limit=True))[:2]
            peer: _Peer | None = _Peer(*stack.enter_context(infinity()), generous)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            tell(f"infinity-emb is left out: {error}")
            peer = None
        yield peer


def _by_size(connection: Connection, runtime: _Runtime) -> list[Figure]:
    """Each size: short texts that nobody asked for before."""
    tell(f"{runtime.name}: by size")
    times = {
        size: median(
            [
                connection.post("/embed/text", {"texts": _short_texts(size, f"{size} {round_}")})[0]
                for round_ in range(rounds)
            ]
        )
        for size, rounds in SIZES.items()
    }
    figures = []
    for size, elapsed in times.items():
        per_item = elapsed / size
        wanted = (">=", WANTED[size]) if size in WANTED else None
        note = f"{per_item:.2f} ms an item, {times[1] / per_item:.1f} times as fast as alone"
        figures.append(
            Figure(f"{runtime.name}: {size} texts a request", 1_000 / per_item, "texts/s", wanted, note)
        )
    return figures


def _short(connection: Connection, runtime: _Runtime) -> list[Figure]:
    tell(f"{runtime.name}: 100 short texts, beside the bare runtime")
    ours, floor = [], []
    with bare(runtime.model, runtime.python) as alone:
        for round_ in range(-1, ROUNDS):
            texts = _short_texts(100, f"short {round_}")
            elapsed = connection.post("/embed/text", {"texts": texts})[0]
            least = alone.milliseconds(texts)
            if round_ >= 0:
                ours.append(elapsed)
                floor.append(least)
    ratio = median([o / f for o, f in zip(ours, floor, strict=True)])
    wanted = "wanted: as close to 50 as it can be"
    figures = [
        Figure(f"{runtime.name}: 100 short texts over HTTP", median(ours), "ms", None, wanted),
        Figure(f"{runtime.name}: 100 short texts, bare runtime", median(floor), "ms"),
        Figure("… ratio", ratio, "", ("<=", 1.1)),
    ]
    if runtime.model == DEFAULT_MODEL:
        figures.append(_products(_tokens(connection, texts)))
    return figures


def _products(tokens: int) -> Figure:
    """What the model's matrix products of so many tokens take at the rate of numpy's, in float32: about the
    least that any runtime can."""
    rng = np.random.default_rng(1)
    x, matrix = (rng.standard_normal(shape, dtype=np.float32) for shape in ((1024, 1536), (1536, 1024)))
    (times,) = alternately([lambda _: x @ matrix], rounds=25)
    per_second = 2 * x.size * matrix.shape[1] / (median(times) / 1000)
    needed = tokens * _OPERATIONS
    note = f"{needed / 1e9:.0f} GFLOP for {tokens:,} tokens, at {per_second / 1e9:.0f} GFLOP/s"
    return Figure("… its matrix products alone, in float32", needed / per_second * 1000, "ms", None, note)


def _tokens(connection: Connection, texts: list[str]) -> int:
    found = connection.post("/v1/embeddings", {"model": DEFAULT_MODEL, "input": texts})[1]
    return int(json.loads(found)["usage"]["prompt_tokens"])


def _documents(
    connection: Connection, runtime: _Runtime, process: psutil.Process, peer: _Peer | None
) -> list[Figure]:
    """Docstrings as they come, of all lengths: a batch in one request, and one a request of many clients."""
    tell(f"{runtime.name}: documents of every length" + (", beside infinity-emb" if peer else ""))
    name = f"{runtime.name}: {DOCUMENTS} mixed documents"
    theirs = Connection(peer.host, peer.port) if peer else None
    if theirs is not None:
        _check_same(connection, theirs)
    generous = Connection(*peer.generous) if peer else None
    ours, others, slower = [], [], []
    for round_ in range(DOCUMENT_ROUNDS):
        texts = _mixed(round_)
        ours.append(connection.post("/embed/text", {"texts": texts})[0])
        for other, times in ((theirs, others), (generous, slower)):
            if other is not None:
                times.append(other.post("/embeddings", {"model": MODEL, "input": texts})[0])
    figures = [
        Figure(f"{name} in a request", DOCUMENTS / median(ours) * 1000, "documents/s", None, _lengths())
    ]
    if peer is not None and theirs is not None and generous is not None:
        theirs.close()
        generous.close()
        ratio, larger = (
            median([o / m for o, m in zip(times, ours, strict=True)]) for times in (others, slower)
        )
        rate = DOCUMENTS / median(others) * 1000
        note = "reading as much of a text as we do"
        figures += [
            Figure("… infinity-emb, ONNX fp32", rate, "documents/s", None, note),
            Figure("… times as fast", ratio, "x"),
            Figure("… times as fast as it comes", larger, "x", (">=", 5.0), "it reads 512 tokens, not 256"),
            *asyncio.run(_crowded(connection.address, runtime, peer)),
        ]
    figures.append(
        Figure(
            f"{runtime.name}: peak memory of the server",
            peak_memory(process),
            "MiB",
            ("<=", 500.0),
            "after the load above" + (f"; infinity-emb {peak_memory(peer.process):.0f}" if peer else ""),
        )
    )
    return figures


def _nearness(connection: Connection, runtime: _Runtime, exact: list[Any]) -> list[Figure]:
    """How near a runtime's vectors come to those of the first, which are kept in `exact`."""
    found = np.array(json.loads(connection.post("/embed/text", {"texts": _mixed(0)})[1])["embeddings"])
    if not exact:
        exact.append(found)
        return []
    cosines = np.einsum("ij,ij->i", found, exact[0])
    note = f"least {cosines.min():.5f}, of {DOCUMENTS} documents"
    return [Figure(f"{runtime.name}: cosine to onnx fp32", float(cosines.mean()), "", None, note)]


async def _crowded(address: tuple[str, int], runtime: _Runtime, peer: _Peer) -> list[Figure]:
    texts = _mixed(DOCUMENT_ROUNDS)
    mine = [{"texts": [text]} for text in texts]
    ours_s, _ = await crowd(*address, CLIENTS, mine, "/embed/text")
    asked = [{"model": MODEL, "input": [text]} for text in texts]
    theirs_s, _ = await crowd(peer.host, peer.port, CLIENTS, asked, "/embeddings")
    note = f"infinity-emb {len(texts) / theirs_s:.1f}"
    return [
        Figure(
            f"{runtime.name}: mixed documents, {CLIENTS} clients",
            len(texts) / ours_s,
            "documents/s",
            None,
            note,
        ),
        Figure("… times as fast", theirs_s / ours_s, "x"),
    ]


def _check_same(ours: Connection, theirs: Connection) -> None:
    """The two give the same vectors, as far as precisions go: the comparison is of one thing done twice."""
    texts = ["A man is eating food.", "A man is eating a piece of bread."]
    mine = json.loads(ours.post("/embed/text", {"texts": texts})[1])["embeddings"]
    found = json.loads(theirs.post("/embeddings", {"model": MODEL, "input": texts})[1])["data"]
    cosines = np.einsum("ij,ij->i", np.array(mine), np.array([each["embedding"] for each in found]))
    if cosines.min() < 0.99:
        raise RuntimeError(f"infinity-emb gives other vectors: cosines {cosines}")


@cache
def _documents_at_hand() -> list[str]:
    found = docstrings(4_000)
    random.Random(7).shuffle(found)
    return found


def _mixed(part: int) -> list[str]:
    """Documents of one part, asked for by nobody before in another part."""
    return _documents_at_hand()[part * DOCUMENTS : (part + 1) * DOCUMENTS]


def _lengths() -> str:
    words = [len(text.split()) for text in _documents_at_hand()]
    low, middle, high, most = (int(np.quantile(words, share)) for share in (0.1, 0.5, 0.9, 0.99))
    return f"docstrings of {low} to {high} words, half above {middle}, one of a hundred above {most}"


@cache
def _titles() -> list[str]:
    return [" ".join(text.split()[:8]) for text in docstrings(max(SIZES))]


def _short_texts(n: int, name: str) -> list[str]:
    return [f"{name} {title}" for title in _titles()[:n]]

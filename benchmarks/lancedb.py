"""The same 10k rows in LanceDB, installed in an environment of its own, asked alternately in the same run."""

from __future__ import annotations

import json
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

import vectable
from benchmarks.measure import Figure, alternately, median
from benchmarks.tables import fill, vectors

PACKAGE = "lancedb==0.40.0"
_PEER = """
import json, sys, time
import lancedb, numpy as np, pyarrow as pa
matrix, queries = np.load(sys.argv[1]), np.load(sys.argv[2])
db = lancedb.connect(sys.argv[3])
values = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
ids = pa.array([f"{i:07}" for i in range(len(matrix))])
table = db.create_table("bench", pa.table({"id": ids, "title": ids, "v": values}))
for line in sys.stdin:
    query = queries[int(line)]
    started = time.perf_counter()
    search = table.search(query).distance_type("cosine").select(["id", "title", "_distance"])
    hits = search.limit(10).to_list()
    print(json.dumps([(time.perf_counter() - started) * 1000, len(hits)]), flush=True)
"""


def _environment() -> Path:
    """An environment that holds LanceDB, kept between runs."""
    home = Path(__file__).parent / ".lancedb"
    python = home / "bin" / "python"
    if not (home / ".ready").exists():
        print("(installing LanceDB into benchmarks/.lancedb, once)", flush=True)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)
        (home / ".ready").touch()
    return python


def run() -> list[Figure]:
    """The figures."""
    python = _environment()
    matrix, queries = vectors(10_000)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        np.save(directory / "matrix.npy", matrix)
        np.save(directory / "queries.npy", queries)
        arguments = [
            str(python),
            "-c",
            _PEER,
            *(str(directory / n) for n in ("matrix.npy", "queries.npy", "lance")),
        ]
        peer = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with vectable.connect(directory / "db", synchronous="normal") as database:
            table = fill(database, "bench", matrix)
            inside: list[float] = []

            def ask_peer(i: int) -> None:
                assert peer.stdin is not None
                assert peer.stdout is not None
                peer.stdin.write(f"{i}\n")
                peer.stdin.flush()
                inside.append(json.loads(peer.stdout.readline())[0])

            def ask(i: int) -> Any:
                return table.where().similar(queries[i], on="v").select("id", "title").limit(10).collect()

            _, ours = alternately([ask_peer, ask], 100)
        peer.terminate()
        peer.wait(10)
    theirs = median(inside[20:])
    return [
        Figure("LanceDB plain query p50", theirs, "ms", None, "timed inside its own process"),
        Figure("search p50", median(ours), "ms"),
        Figure("LanceDB / ours", theirs / median(ours), "x", (">=", 10.0)),
    ]

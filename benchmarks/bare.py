"""The bare runtime, in a process of its own: `python -m benchmarks.bare MODEL`.

Reads a JSON list of texts a line, answers the milliseconds from texts to vectors a line: a tokenizer and a
model, no cache, no queue, no server. Texts are sorted by length, 1,024 padded tokens at a time, which is the
fastest of the ways tried; sentence-transformers does it in its own way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.http import with_sources


class Bare:
    """The process, asked for times."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def milliseconds(self, texts: list[str]) -> float:
        """How long it took to embed them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def bare(model: str, python: str | Path = sys.executable) -> Iterator[Bare]:
    """The bare runtime of a model, warm."""
    command = [python, "-m", "benchmarks.bare", model]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=with_sources()
    )
    try:
        found = Bare(process)
        found.milliseconds(["warm"])
        yield found
    finally:
        process.terminate()
        process.wait(20)


def _runtime(model: str) -> Any:
    from vectable import providers
    from vectable.providers.passes import passes

    provider: Any = providers.load(model)
    if "runtime=sentence-transformers" in model:
        return lambda texts: provider._model.encode(texts, show_progress_bar=False)
    forward = provider._forward
    if "runtime=openvino" in model:
        # As OpenVINO's own examples do: one padded batch, though padding changes the last digits below fp32.
        forward._session.run = forward._session._infer

    def embed(texts: list[str]) -> None:
        ids = provider.tokenize(texts, "document")
        for rows in passes([len(i) for i in ids]):
            forward([ids[row] for row in rows])

    return embed


def main() -> None:
    """Answers until its input ends."""
    embed = _runtime(sys.argv[1])
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        embed(texts)
        print((time.perf_counter() - started) * 1000, flush=True)


if __name__ == "__main__":
    main()

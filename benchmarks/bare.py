"""The bare runtime, in a process of its own: `python -m benchmarks.bare MODEL`.

Reads a JSON list of texts a line, answers the milliseconds from texts to vectors a line: a tokenizer and a
model, no cache, no queue, no server. Texts are sorted by length, at most 1,024 padded tokens at a time, for
fp32 with hardly any padding among them: the fastest of the ways tried for each. sentence-transformers does it
in its own way.
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
from vectable.providers.passes import passes


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

    provider: Any = providers.load(model)
    if "runtime=sentence-transformers" in model:
        return lambda texts: provider._model.encode(texts, show_progress_bar=False)
    forward, together = provider._forward, _with_little_padding
    if "runtime=openvino" in model:
        # As OpenVINO's own examples do: one padded batch, though padding changes the last digits below fp32.
        forward._session.run = forward._session._infer
        together = passes

    def embed(texts: list[str]) -> None:
        ids = provider.tokenize(texts, "document")
        for rows in together([len(i) for i in ids]):
            forward([ids[row] for row in rows])

    return embed


def _with_little_padding(lengths: list[int]) -> Iterator[list[int]]:
    """The groups of `passes`, begun anew where padding would be more than a sixteenth."""
    for group in passes(lengths):
        rows: list[int] = []
        tokens = 0
        for row in group:
            tokens += lengths[row]
            if rows and (len(rows) + 1) * lengths[row] - tokens > max(16, tokens // 16):
                yield rows
                rows, tokens = [], lengths[row]
            rows.append(row)
        yield rows


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

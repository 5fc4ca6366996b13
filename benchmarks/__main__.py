"""`python -m benchmarks [--only NAME …] [--markdown FILE]`: runs suites and prints their figures."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime as dt
import importlib
import json
import os
import sys
from pathlib import Path

from benchmarks.measure import Figure, machine, show

SUITES = {
    "start": "import, help, a cold search from the shell, opening 100k rows",
    "search": "10k and 100k rows beside bare Faiss: flat, filters, fast scan, recall",
    "lancedb": "the same 10k rows in LanceDB, in an environment of its own",
    "postgres": "overhead, bulk load, resident search and filters beside bare asyncpg and pgvector",
    "write": "10,000 rows with vectors given; single rows",
    "serve": "HTTP: a vector, a text, 100 clients at once, idle memory",
    "core": "the embedding service: one text, a cached one, many clients, comparing vectors",
    "batch": "batches of texts over HTTP beside the bare runtime and infinity-emb, documents, memory",
    "cache": "the vector cache at four hits of five, and what its entries take",
    "embed": "embedding throughput beside the bare runtime",
    "quality": "nDCG@10 and recall@100 on the test collections",
    "soak": "100 clients for ten minutes, of everything at once: what fails, and what grows",
}
UNASKED = [name for name in SUITES if name != "soak"]
"""Those that run where none is named."""

_HEAD = """# Performance

Written by `python -m benchmarks --markdown docs/performance.md` (`make bench` prints the same). Both sides of
a ratio are timed in turn in one run, 25 calls each, so that a busy machine slows both; times are medians
unless they say otherwise. Vectors are real embeddings of phrases from docstrings and comments.
The targets are those the project set itself.
"""


def main() -> int:
    """Runs the suites asked for; 1 when a target was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Figures beside their targets. Suites: "
        + "; ".join(f"{name}: {what}" for name, what in SUITES.items()),
    )
    parser.add_argument("--only", action="append", choices=SUITES, help="run this suite (may be repeated)")
    parser.add_argument(
        "--markdown", type=Path, help="also write the figures into this file; it keeps those of other suites"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        everything = _measured(arguments.only or UNASKED)
    if arguments.json:
        print(json.dumps(_data(everything), indent=2))
    if arguments.markdown is not None:
        write_markdown(arguments.markdown, everything)
    missed = any(f.met is False for figures in everything.values() for f in figures)
    return 1 if missed and arguments.strict else 0


def _measured(names: list[str]) -> dict[str, list[Figure]]:
    print(f"machine: {machine()}\n", flush=True)
    everything: dict[str, list[Figure]] = {}
    for name in names:
        print(f"… {name}: {SUITES[name]}", file=sys.stderr, flush=True)
        figures = importlib.import_module(f"benchmarks.{name}").run()
        everything[name] = figures
        show(f"{name}: {SUITES[name]}", figures)
        print(flush=True)
    missed = [f for figures in everything.values() for f in figures if f.met is False]
    print(f"{len(missed)} missed of {sum(f.met is not None for v in everything.values() for f in v)} targets")
    return everything


def _data(everything: dict[str, list[Figure]]) -> dict[str, object]:
    suites = {
        name: [{**dataclasses.asdict(f), "met": f.met} for f in figures]
        for name, figures in everything.items()
    }
    return {"machine": machine(), "suites": suites}


def write_markdown(file: Path, everything: dict[str, list[Figure]]) -> None:
    """Writes these suites' figures into the document, which keeps those of others."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    file.write_text(_markdown(everything, before), encoding="utf-8")


def _markdown(everything: dict[str, list[Figure]], before: str = "") -> str:
    """The document with these suites' sections new, and those of other suites as they were `before`."""
    known = {part.partition(":")[0]: part for part in before.split("\n### ")[1:]}
    known.update({name: _section(name, figures) for name, figures in everything.items()})
    sections = [f"### {known[name].rstrip()}\n" for name in SUITES if name in known]
    return "\n".join([_HEAD, *sections])


def _section(name: str, figures: list[Figure]) -> str:
    lines = [
        f"{name}: {SUITES[name]}",
        "",
        f"Measured {dt.datetime.now(dt.UTC):%Y-%m-%d} on: {machine()}, load average {os.getloadavg()[1]:.1f}",
        "",
        "| figure | measured | target | met | note |",
        "|---|---|---|---|---|",
    ]
    for f in figures:
        met = {True: "yes", False: "**no**", None: ""}[f.met]
        lines.append(f"| {f.name} | {f.value:.4g} {f.unit} | {_target(f)} | {met} | {f.note} |")
    return "\n".join(lines)


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    relation, bound = figure.target
    return f"{relation.replace('<=', '≤').replace('>=', '≥')} {bound:g} {figure.unit}".rstrip()


if __name__ == "__main__":
    raise SystemExit(main())

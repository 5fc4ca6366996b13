"""`vectable bench`."""

from __future__ import annotations

import click

from vectable.cli.options import json_option


@click.command(
    "bench",
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  vectable bench
  vectable bench --only search""",
)
@click.option("--only", metavar="NAME", multiple=True, help="Only this figure; may be given several times.")
@click.option("--db", metavar="URL", hidden=True, expose_value=False, help="Accepted, as everywhere.")
@json_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench_command(only: tuple[str, ...], as_json: bool, arguments: tuple[str, ...]) -> int:
    """Measure this machine: every figure is printed beside its target. The benchmarks are part of the source
    checkout, not of the installed package."""
    import subprocess
    import sys
    from pathlib import Path

    import vectable
    from vectable.errors import Unsupported

    places = [Path.cwd(), Path(vectable.__file__).resolve().parents[2]]
    root = next((p for p in places if (p / "benchmarks" / "__main__.py").is_file()), None)
    if root is None:
        raise Unsupported(
            "the benchmarks are not here: they are part of the source checkout",
            hint="run it in a checkout of Vectable, or there: make bench",
        )
    chosen = [argument for name in only for argument in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks", *chosen, *(["--json"] if as_json else []), *arguments]
    return subprocess.run(command, cwd=root, check=False).returncode  # noqa: S603 - our own program

"""infinity-emb with its ONNX engine, installed into an environment of its own, serving the same weights.

Its engine takes the first token's vector for the text's unless told otherwise, which is wrong for this model:
mean pooling is forced. It reads twice as many tokens of a long text as the model was made for: the limit is
forced, too, so that both sides compute the same. The graph is exported by `optimum`, whose graphs it is made
for, from the weights used here, and it optimises that graph itself at its start.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.http import answering, free_port
from benchmarks.measure import tell
from vectable.config import DEFAULT_MODEL
from vectable.providers.model_config import read_model_config
from vectable.providers.weights import locate

PACKAGES = (
    "infinity-emb[optimum,server]==0.0.78",
    "optimum==1.24.0",  # newer ones lack what infinity-emb imports
    "transformers==4.48.3",
    "torch==2.6.0",  # newer ones export graphs in another way
)
HOME = Path(__file__).parent / ".infinity"
MODEL = "minilm"
_EXPORT = """
import sys
from optimum.exporters.onnx import main_export
main_export(sys.argv[1], output=sys.argv[2], task="feature-extraction", library_name="transformers")
"""


def _settings() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {
        **ours,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HOME": str(HOME / "hub"),
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }


def _prepared(own_limit: bool) -> None:
    """Installs it and exports the graph, unless that was done before; says how much of a text it reads."""
    located = locate(DEFAULT_MODEL)
    if located is None:
        raise RuntimeError(f"{DEFAULT_MODEL} is not on this machine")
    if not (HOME / ".ready").exists():
        _install(located.directory)
    config = read_model_config(located.directory)
    _limit_to(config.transformer["max_position_embeddings"] if own_limit else config.max_tokens)


def _install(weights: Path) -> None:
    tell("installing infinity-emb into benchmarks/.infinity, once: 6 GB")
    venv.create(HOME, with_pip=True, clear=True)
    python = HOME / "bin" / "python"
    runtime = f"onnxruntime=={version('onnxruntime')}"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES, runtime], check=True)
    subprocess.run([python, "-c", _EXPORT, weights, HOME / MODEL], check=True, env=_settings())
    with _serving():
        pass  # its first start optimises the graph, and takes a minute
    (HOME / ".ready").touch()


def _limit_to(tokens: int) -> None:
    """It cuts texts where its configuration says that the model's positions end."""
    file = HOME / MODEL / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "max_position_embeddings": tokens}), encoding="utf-8")


@contextmanager
def infinity(own_limit: bool = False) -> Iterator[tuple[str, int, psutil.Process]]:
    """Its server: (host, port, process), once it answers. `own_limit`: it reads as much of a text as it does
    by itself. Raises CalledProcessError where it cannot be installed, RuntimeError where it cannot start."""
    _prepared(own_limit)
    tell("starting infinity-emb")
    with _serving() as found:
        yield found


@contextmanager
def _serving() -> Iterator[tuple[str, int, psutil.Process]]:
    port = free_port()
    command = [HOME / "bin" / "infinity_emb", "v2", "--model-id", str(HOME / MODEL), "--engine", "optimum"]
    flags = ["--served-model-name", MODEL, "--device", "cpu", "--pooling-method", "mean"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    with answering([*command, *flags, *where], port, _settings(), patience_s=240) as process:
        yield "127.0.0.1", port, process

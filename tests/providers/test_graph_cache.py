"""Built graphs on disk: built once, whole or not at all, never trusted unchecked."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.providers.reference import write_tiny_bert
from vectable import providers
from vectable.errors import ModelUnavailable
from vectable.providers import graph_cache
from vectable.providers.graph_cache import cached_graph
from vectable.testing.provider_suite import embed


def write(directory: Path, content: bytes = b"weights") -> None:
    (directory / "model.onnx").write_bytes(b"graph")
    (directory / "weights.bin").write_bytes(content)


def never(directory: Path) -> None:
    raise AssertionError("built again")


def test_the_second_load_builds_nothing(tmp_path: Path) -> None:
    with cached_graph(tmp_path, "owner/name", write) as first:
        pass
    with cached_graph(tmp_path, "owner/name", never) as second:
        assert second == first
        assert (second / "weights.bin").read_bytes() == b"weights"
    assert [path.name for path in tmp_path.iterdir()] == ["owner_name"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove weights", "remove seal", "empty"])
def test_a_damaged_graph_is_built_anew(damage: str, tmp_path: Path) -> None:
    with cached_graph(tmp_path, "g", write) as directory:
        pass
    weights, seal = directory / "weights.bin", directory / "blake3"
    {
        "truncate": lambda: weights.write_bytes(b"weig"),
        "flip": lambda: weights.write_bytes(b"weightz"),
        "remove weights": weights.unlink,
        "remove seal": seal.unlink,
        "empty": lambda: seal.write_bytes(b"\xff\xfe"),
    }[damage]()
    with cached_graph(tmp_path, "g", write) as again:
        assert (again / "weights.bin").read_bytes() == b"weights"
    with cached_graph(tmp_path, "g", never):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        write(directory)
        raise ModelUnavailable("no")

    with pytest.raises(ModelUnavailable), cached_graph(tmp_path, "g", fail):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_builder_left_is_swept(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".unfinished-old", tmp_path / ".unfinished-fresh"
    for directory in (old, fresh):
        directory.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    with cached_graph(tmp_path, "g", write):
        pass
    assert not old.exists()
    assert fresh.exists(), "another process may be building there"


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    directory = write_tiny_bert(tmp_path / "tiny")
    kept = providers.load(str(directory), cache_dir=tmp_path / "graphs", allow_paths=True)
    unkept = providers.load(str(directory), cache_dir=tmp_path / "file" / "graphs", allow_paths=True)
    np.testing.assert_array_equal(embed(unkept, ["a man"]), embed(kept, ["a man"]))


def test_losing_a_race_uses_the_winners_graph(tmp_path: Path) -> None:
    def slower(directory: Path) -> None:
        with cached_graph(tmp_path, "g", lambda target: write(target, b"first")):
            pass
        write(directory, b"second")

    with cached_graph(tmp_path, "g", slower) as found:
        assert (found / "weights.bin").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def _load(model: str, cache: str) -> list[float]:
    provider = providers.load(model, cache_dir=cache, allow_paths=True)
    return [float(x) for x in embed(provider, ["a man"])[0]]


def test_processes_may_load_at_once(tmp_path: Path) -> None:
    directory = write_tiny_bert(tmp_path / "tiny")
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        found = pool.starmap(_load, [(str(directory), str(tmp_path / "graphs"))] * 3)
    assert found[0] == found[1] == found[2]
    assert len(list((tmp_path / "graphs").iterdir())) == 1


def test_the_model_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_tiny_bert(tmp_path / "tiny")
    first = _load(str(directory), str(tmp_path / "graphs"))
    monkeypatch.setattr(graph_cache, "_build_into", never)
    assert _load(str(directory), str(tmp_path / "graphs")) == first

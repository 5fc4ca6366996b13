"""Derived files: opened when they can be trusted, ignored and made anew when they cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.searching import World, opened_backend, searching, small_table
from tests.engine.test_search_sizes import Truth, agrees, filled, made_rows
from vectable.core.mark import Mark
from vectable.drivers import derived_file
from vectable.engine.resident import load
from vectable.engine.resident.keys import PackedKeys
from vectable.engine.resident.segment import load_base, make_base, save_base
from vectable.interfaces import SchemaChange
from vectable.testing.samples import clustered_vectors, text_key

MATRIX = clustered_vectors(6_000, 8, seed=4)


def base_file(directory: Path) -> Path:
    (path,) = (directory / "indexes").glob("*.base")
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each opening of resident rows went: "scan" when everything was read from the backend."""
    seen: list[str] = []
    scan = load._load

    async def noted(*arguments: object) -> None:
        seen.append("scan")
        await scan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(load, "_load", noted)
    return seen


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_saved_base_is_mapped_and_brought_up_to_date(
    kind: str, server: str | None, tmp_path: Path, loads: list[str]
) -> None:
    async with opened_backend(kind, tmp_path, server) as backend:
        table = small_table(8)
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, tmp_path) as world:
            await filled(world, MATRIX)
            truth = Truth(world, MATRIX)
            await agrees(world, truth, MATRIX[1], 10)
            world.settle()
        assert loads == ["scan"]
        assert base_file(tmp_path).stat().st_size > MATRIX.nbytes
        async with searching(backend, table, tmp_path) as world:
            await world.delete("r0000001")
            truth.alive[1] = False
            await world.put(made_rows(1, 2), [MATRIX[1]])
            truth.matrix = MATRIX.copy()
            truth.matrix[2] = MATRIX[1]
            for name in (None, "10 %"):
                await agrees(world, truth, MATRIX[1], 10, name)
        assert loads == ["scan"]


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped_vector(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flipped_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    base = make_base(Mark("nobody's"), PackedKeys.of([b"\x02a\x00"]), MATRIX[:1].copy(), [])
    save_base(base, path, "another database")


def other_mark(path: Path) -> None:
    """A base of this version, but from a history this database never had."""
    found = derived_file.read(path)
    base = load_base(path, found.facts["identity"], 8)
    assert base is not None
    save_base(
        make_base(Mark("nobody's"), base.keys, base.matrix[::-1].copy(), []), path, found.facts["identity"]
    )


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage", [torn, emptied, flipped_vector, flipped_header, foreign, other_mark, a_directory]
)
async def test_a_base_that_cannot_be_trusted_is_made_anew(
    tmp_path: Path, loads: list[str], damage: Callable[[Path], None]
) -> None:
    async with opened_backend("sqlite", tmp_path) as backend:
        table = small_table(8)
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, tmp_path) as world:
            await filled(world, MATRIX)
            truth = Truth(world, MATRIX)
            await agrees(world, truth, MATRIX[1], 10)
            world.settle()
        damage(base_file(tmp_path))
        async with searching(backend, table, tmp_path) as world:
            await agrees(world, truth, MATRIX[1], 10)
            world.settle()
        assert loads == ["scan", "scan"]
        if damage is not a_directory:
            async with searching(backend, table, tmp_path) as world:
                await agrees(world, truth, MATRIX[1], 10)
            assert loads == ["scan", "scan"]


async def fast_scan(world: World, truth: Truth) -> str:
    """The path of a search once the worker is done."""
    await agrees(world, truth, truth.matrix[1], 10)
    world.settle()
    return await agrees(world, truth, truth.matrix[1], 10)


@pytest.mark.parametrize("damage", [None, torn, emptied, flipped_vector, flipped_header, foreign])
async def test_a_fast_scan_is_kept_beside_its_base(
    tmp_path: Path, damage: Callable[[Path], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = clustered_vectors(21_000, 32, seed=6)
    async with opened_backend("sqlite", tmp_path) as backend:
        table = small_table(32)
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, tmp_path) as world:
            await filled(world, matrix)
            truth = Truth(world, matrix)
            assert await fast_scan(world, truth) == "fast-scan"
        (path,) = (tmp_path / "indexes").glob("*.fast-scan.index")
        if damage is not None:
            damage(path)
        async with searching(backend, table, tmp_path) as world:
            built: list[str] = []
            build = world.registry.library.build

            def noted(kind: str, *arguments: object) -> object:
                built.append(kind)
                return build(kind, *arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(world.registry.library, "build", noted)
            assert await fast_scan(world, truth) == "fast-scan"
            assert built == ([] if damage is None else ["fast-scan"])


async def test_a_directory_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "indexes").write_text("in the way")
    async with opened_backend("sqlite", tmp_path / "db") as backend:
        table = small_table(8)
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, tmp_path) as world:
            await filled(world, MATRIX)
            await agrees(world, Truth(world, MATRIX), MATRIX[1], 10)
            world.settle()
            await agrees(world, Truth(world, MATRIX), MATRIX[1], 10)


def test_sections_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    sections = [b"", b"x", os.urandom(10_000_000)]
    digest = derived_file.write(path, {"a": [1, "é"]}, sections)
    found = derived_file.read(path)
    assert ([bytes(s) for s in found.sections], found.facts, found.digest) == (
        sections,
        {"a": [1, "é"]},
        digest,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_packed_keys_are_found_in_order() -> None:
    keys = sorted(text_key(f"k{i * 7 % 101}") for i in range(101))
    packed = PackedKeys.of(keys)
    assert list(packed) == keys
    assert packed[3:6] == keys[3:6]
    assert [packed.find(k) for k in keys] == list(range(101))
    assert packed.find(b"") == packed.find(b"\xff") == packed.find(text_key("k3x")) == -1
    assert (len(PackedKeys.of([])), PackedKeys.of([]).find(b"a")) == (0, -1)


async def test_files_of_versions_that_are_gone_are_swept(tmp_path: Path) -> None:
    async with opened_backend("sqlite", tmp_path) as backend:
        table = small_table(8)
        await backend.alter(table, SchemaChange("create_table"))
        async with searching(backend, table, tmp_path) as world:
            assert world.searcher.sweep([]) == 0
            await filled(world, MATRIX)
            await world.search(MATRIX[1])
            world.settle()
            indexes = tmp_path / "indexes"
            for name in ("gone.base", "gone.fast-scan.index", ".x.base.1.2.tmp", "new.tmp"):
                (indexes / name).write_bytes(b"")
            os.utime(indexes / ".x.base.1.2.tmp", (0, 0))
            (indexes / "not ours").write_bytes(b"")
            assert world.searcher.sweep([world.version.id]) == 3
            left = sorted(p.name for p in indexes.iterdir())
            assert left == sorted([f"{world.version.id}.base", "new.tmp", "not ours"])
            assert world.searcher.sweep([]) == 1
            await agrees(world, Truth(world, MATRIX), MATRIX[1], 10)

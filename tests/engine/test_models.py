"""The models in memory: loaded when needed, several at once, let go when told or idle, never mistaken."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.providers.clip_forms import write_clip
from tests.providers.reference import write_tiny_bert
from tests.waiting import LIMIT_S
from vectable import providers
from vectable.config import Settings
from vectable.engine.embed import Embedder
from vectable.errors import InvalidInput, ModelNotFound, Unsupported
from vectable.interfaces import Purpose, VectorCache
from vectable.providers.hashing import HashingProvider
from vectable.state.memory import MemoryVectorCache, NoVectorCache

PURPOSES: tuple[Purpose, ...] = ("document", "query")


def embedder(tmp_path: Path, cache: VectorCache | None = None, **settings: Any) -> Embedder:
    found = Settings(cache_dir=str(tmp_path / "cache"), fake_embeddings=False, **settings)
    return Embedder(providers, found, cache or NoVectorCache())


async def test_several_at_once_each_loaded_on_first_use_and_unloaded_when_told(tmp_path: Path) -> None:
    text, clip = str(write_tiny_bert(tmp_path / "text")), str(write_clip(tmp_path / "clip"))
    engine = embedder(tmp_path, text_model=text)
    assert engine.models.loaded_ids() == []
    first = await engine.encode(["a man"], cache=False)
    other = await engine.encode(["a man"], clip, cache=False)
    assert (first.dimensions, other.dimensions) == (16, 12)
    assert engine.models.loaded_ids() == sorted([text, clip])
    gone = weakref.ref(await engine.models.provider(clip))
    assert await engine.unload(clip)
    assert not await engine.unload(clip)
    gc.collect()
    assert gone() is None, "its weights are still held"
    assert engine.models.loaded_ids() == [text]
    again = await engine.encode(["a man"], clip, cache=False)
    np.testing.assert_array_equal(again.vectors, other.vectors)
    await engine.close()


async def test_what_is_being_computed_is_finished_by_the_model_that_was_unloaded(tmp_path: Path) -> None:
    engine = embedder(tmp_path, text_model=str(write_tiny_bert(tmp_path / "text")))
    expected = await engine.encode(["a man", "the plane"], cache=False)
    calls = [asyncio.create_task(engine.encode(["a man", "the plane"], cache=False)) for _ in range(20)]
    await asyncio.sleep(0)
    assert await engine.unload(None)
    for encoded in await asyncio.gather(*calls):
        np.testing.assert_array_equal(encoded.vectors, expected.vectors)
    await engine.close()


async def test_an_idle_model_goes_and_one_in_use_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, perf_counter=time.perf_counter)
    monkeypatch.setattr("vectable.engine.embed.models.time", clock)
    used, idle = str(write_tiny_bert(tmp_path / "used")), str(write_clip(tmp_path / "idle"))
    engine = embedder(tmp_path, text_model=used, model_keep_alive_ms=50)
    await engine.preload(idle)
    clock.now = 0.04
    await engine.encode(["a man"])
    clock.now = 0.06
    while idle in engine.models.loaded_ids():
        await asyncio.sleep(0.01)
    assert engine.models.loaded_ids() == [used]
    clock.now = 1.0
    while engine.models.loaded_ids():
        await asyncio.sleep(0.01)
    await engine.close()


async def test_a_model_that_somebody_waits_for_is_not_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, perf_counter=time.perf_counter)
    monkeypatch.setattr("vectable.engine.embed.models.time", clock)
    engine = embedder(tmp_path, text_model=str(write_tiny_bert(tmp_path / "text")), model_keep_alive_ms=50)
    call = asyncio.create_task(engine.encode(["a man is eating"] * 3, cache=False))
    while not any(items for items, _ in engine.waiting().values()):
        await asyncio.sleep(0)
    clock.now = 10.0
    engine.models._unload_idle()
    assert engine.models.loaded_ids() != []
    clock.now = 20.0
    await call
    clock.now = 20.04
    engine.models._unload_idle()
    assert engine.models.loaded_ids() != [], "it was used 40 ms ago"
    clock.now = 20.1
    engine.models._unload_idle()
    assert engine.models.loaded_ids() == []
    await engine.close()


async def test_what_is_cached_does_not_wait_for_a_model_that_was_let_go(tmp_path: Path) -> None:
    engine = embedder(tmp_path, text_model=str(write_tiny_bert(tmp_path / "text", prompts={"query": "the "})))
    found = {purpose: await engine.encode(["a man"], purpose=purpose) for purpose in PURPOSES}
    await engine.unload(None)
    for purpose, encoded in found.items():
        again = engine.encode_at_hand(["a man"], purpose=purpose)
        assert again is not None
        assert all(again.cached)
        np.testing.assert_array_equal(again.vectors, encoded.vectors)
    assert engine.encode_at_hand(["a plane"]) is None
    assert engine.models.loaded_ids() == []
    await engine.close()


async def test_what_is_on_disk_alone_does_not_wait_for_it_either(tmp_path: Path) -> None:
    settings = {"text_model": str(write_tiny_bert(tmp_path / "text")), "cache_max_size": 1}
    engine = embedder(tmp_path, cache=MemoryVectorCache(), **settings)
    texts = ["a man", "a plane", "a man"]
    first = await engine.encode(texts, count=True)
    await engine.cache_settled()
    await engine.unload(None)
    again = await engine.encode(texts, count=True)
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert (again.cached, again.tokens, again.tokens_read) == ([True] * 3, 0, first.tokens_read)
    assert engine.models.loaded_ids() == []
    assert not all((await engine.encode(["a man", "another"])).cached)
    assert len(engine.models.loaded_ids()) == 1
    await engine.close()


async def test_a_model_comes_though_who_asked_for_it_first_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, loads = threading.Event(), threading.Event(), 0

    def load(*args: Any, **kwargs: Any) -> Any:
        nonlocal loads
        loads += 1
        begun.set()
        assert go_on.wait(LIMIT_S)
        return original(*args, **kwargs)

    original = providers.load
    monkeypatch.setattr(providers, "load", load)
    clip = str(write_clip(tmp_path / "clip"))
    engine = embedder(tmp_path, image_model=clip)
    for _ in range(2):
        impatient = asyncio.create_task(engine.encode(["a man"], clip))
        await asyncio.to_thread(begun.wait, LIMIT_S)
        impatient.cancel()
        await asyncio.wait([impatient])
    image, waiting = engine.models.image(), asyncio.create_task(engine.encode(["a man"], clip))
    go_on.set()
    assert image == clip, "nothing is wrong with it"
    assert (await waiting).dimensions == 12
    assert loads == 1
    await engine.close()


async def test_without_keep_alive_nothing_is_ever_let_go(tmp_path: Path) -> None:
    engine = embedder(tmp_path, text_model=str(write_tiny_bert(tmp_path / "text")))
    await engine.preload(None)
    assert engine.models._timer is None
    await engine.close()


async def test_a_model_nobody_knows_is_an_error_and_answered_by_no_other(tmp_path: Path) -> None:
    engine = embedder(tmp_path)
    with pytest.raises(ModelNotFound, match="all-MiniLM-L6-v9"):
        await engine.unload("all-MiniLM-L6-v9")
    own = HashingProvider(8)
    engine.models.add("mine", own)
    with pytest.raises(Unsupported, match="unloaded"):
        await engine.unload("hashing/8")
    await engine.close()


def test_the_image_model_is_there_only_where_it_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    clip, text = str(write_clip(tmp_path / "clip")), str(write_tiny_bert(tmp_path / "text"))

    def image(name: str, **more: Any) -> str | None:
        return embedder(tmp_path, image_model=name, **more).models.image()

    assert image("openai/clip-vit-base-patch32") is None
    assert image("ml-illustrated/efficientnet-lite0") == "ml-illustrated/efficientnet-lite0"
    assert image(clip) == image(clip, model_paths=False) == clip
    for none in ("", text, "no such model", "no/such-model", str(tmp_path / "nowhere")):
        assert image(none) is None


async def test_paths_are_for_those_who_set_them(tmp_path: Path) -> None:
    mine, other = str(write_tiny_bert(tmp_path / "mine")), str(write_tiny_bert(tmp_path / "other"))
    more = str(write_clip(tmp_path / "more"))
    engine = embedder(tmp_path, text_model=mine, preload_models=f" {more}, ", model_paths=False)
    assert (await engine.encode(["a man"])).dimensions == 16
    assert (await engine.encode(["a man"], more)).dimensions == 12
    with pytest.raises(InvalidInput, match="is a path"):
        await engine.encode(["a man"], other)
    assert {mine, more} <= {card.id for card in engine.cards() if card.loaded}
    await engine.close()

"""Forward passes shared by all who wait for a model: whose turn it is, what is dropped, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectable import providers
from vectable.config import Settings
from vectable.core.meter import UNMETERED
from vectable.core.vectors import from_bytes
from vectable.engine.embed import Embedder, Failure
from vectable.engine.embed.passes import Call, Passes
from vectable.errors import InvalidInput, Overloaded
from vectable.interfaces import EmbeddingProvider, Item, ModelIdentity, Purpose
from vectable.state.memory import NoVectorCache

BUDGET = 64
WORDS = ("the", "fox", "jumps", "over", "a", "lazy", "dog", "quickly")


class GatedProvider:
    """A simulated model: a text's tokens are its words, its vector its length; each pass waits to be let
    through, and is recorded. Refuses texts that say "bad"."""

    model = ModelIdentity("simulated/gated", "1")
    dimensions = 1
    max_tokens = 1_000
    max_batch = 1_000
    modalities = frozenset({"text"})
    normalizes = False

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.gate = asyncio.Semaphore(0)

    def prompt(self, purpose: Purpose) -> str:
        return "q: " if purpose == "query" else ""

    def lengths(self, items: Sequence[Item]) -> list[int]:
        return [len(str(item).split()) for item in items]

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> np.ndarray:
        self.passes.append([str(item) for item in items])
        await self.gate.acquire()
        if any(str(item).startswith("bad") for item in items):
            raise InvalidInput("it says bad")
        return np.array([[float(len(str(item)))] for item in items], np.float32)

    async def close(self) -> None:
        pass


class SteppedProvider(GatedProvider):
    """A simulated model that pads each text to a multiple of eight tokens, whatever it comes with."""

    padding_step = 8


class ImageProvider(GatedProvider):
    """A simulated model of images, of which two go at once."""

    modalities = frozenset({"text", "image"})
    images_per_pass = 2

    def lengths(self, items: Sequence[Item]) -> list[int]:
        return [1] * len(items)


class Bench:
    """Passes over a gated model, and what they kept."""

    def __init__(self, most_tokens: int = 10_000, model: GatedProvider | None = None) -> None:
        self.model = model or GatedProvider()
        self.kept: dict[bytes, bytes] = {}
        provider: EmbeddingProvider = self.model
        self.passes = Passes(provider, BUDGET, 100, most_tokens, self._keep, UNMETERED)

    def _keep(self, vectors: Mapping[bytes, bytes], model: str) -> None:
        self.kept.update(vectors)

    def ask(self, *texts: str, patient: bool = False, purpose: Purpose = "document") -> asyncio.Task[Call]:
        todo: dict[bytes, Item] = {f"{purpose} {text}".encode(): text for text in texts}
        return asyncio.create_task(self.passes.compute(todo, purpose, keep=True, patient=patient))

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def through(self, passes: int = 1) -> None:
        """Lets that many passes through."""
        await self.settle()
        for _ in range(passes):
            self.model.gate.release()
            await self.settle()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    yield one
    await one.passes.close()


def words(n: int, name: str = "w") -> str:
    return " ".join([name] + ["w"] * (n - 1))


async def test_an_idle_model_starts_at_once_and_the_rest_shares_a_pass(bench: Bench) -> None:
    calls = [bench.ask("text 0")]
    await bench.settle()
    assert bench.model.passes == [["text 0"]], "nothing was waited for"
    calls += [bench.ask(f"text {i}") for i in range(1, 5)]
    await bench.through(2)
    assert sorted(bench.model.passes[1]) == [f"text {i}" for i in range(1, 5)]
    for i, call in enumerate(calls):
        result = (await call).results[f"document text {i}".encode()]
        assert isinstance(result, bytes)
        assert from_bytes(result).tolist() == [6.0]
    assert len(bench.kept) == 5
    assert (bench.passes.waiting_tokens, bench.passes.waiting_items) == (0, 0)


async def test_one_image_does_not_wait_behind_a_hundred() -> None:
    bench = Bench(model=ImageProvider())
    many: dict[bytes, Item] = {b"%d" % i: b"image %d" % i for i in range(100)}
    first = asyncio.create_task(bench.passes.compute(many, "document", keep=True))
    await bench.settle()
    one = asyncio.create_task(bench.passes.compute({b"one": b"one"}, "document", keep=True))
    await bench.through(4)
    assert one.done()
    assert not first.done()
    await bench.through(60)
    assert len((await first).results) == 100
    assert {len(batch) for batch in bench.model.passes} <= {1, 2}
    await bench.passes.close()


async def test_duplicates_in_flight_are_computed_once(bench: Bench) -> None:
    calls = [bench.ask("same"), bench.ask("same", "other"), bench.ask("same")]
    await bench.through(2)
    done = await asyncio.gather(*calls)
    assert sum(batch.count("same") for batch in bench.model.passes) == 1
    assert len({call.results[b"document same"] for call in done}) == 1


async def test_purposes_with_prompts_of_their_own_share_no_pass(bench: Bench) -> None:
    calls = [bench.ask("first")]
    await bench.settle()
    calls += [bench.ask("a"), bench.ask("b", purpose="query"), bench.ask("c")]
    await bench.through(3)
    await asyncio.gather(*calls)
    assert sorted(map(sorted, bench.model.passes)) == [["a", "c"], ["b"], ["first"]]


async def test_a_short_text_does_not_wait_behind_long_ones(bench: Bench) -> None:
    first = bench.ask("first")
    await bench.settle()
    long = [bench.ask(words(60, f"long{i}")) for i in range(10)]
    await bench.settle()
    short = bench.ask("short")
    await bench.through(2)
    assert bench.model.passes[1] == ["short"]
    await short
    assert not any(call.done() for call in long)
    await bench.through(10)
    await asyncio.gather(first, *long)


async def test_one_text_does_not_wait_behind_a_thousand(bench: Bench) -> None:
    many = bench.ask(*(words(8, f"many{i}") for i in range(200)))
    await bench.through(2)
    one = bench.ask(words(8, "one"))
    await bench.through(2)
    assert any("one" in batch[0] or words(8, "one") in batch for batch in bench.model.passes[2:4])
    await one
    assert not many.done()
    await bench.through(40)
    await many


async def test_a_long_text_waits_a_bounded_time_whatever_else_comes(bench: Bench) -> None:
    bench.ask("first")
    await bench.settle()
    long = bench.ask(words(60, "long"))
    await bench.settle()
    served = 0
    while not long.done():
        for i in range(8):
            bench.ask(f"short {served} {i}")
        await bench.through()
        served += 1
        assert served < 40, "short texts that keep coming do not starve it"
    assert served > 1


async def test_jobs_come_after_those_who_wait_and_yet_get_on(bench: Bench) -> None:
    job = bench.ask(*(words(16, f"job{i}") for i in range(40)), patient=True)
    await bench.settle()
    someone = bench.ask(*(words(16, f"one{i}") for i in range(8)))
    await bench.through(4)
    await someone
    assert not job.done()
    while not job.done():
        bench.ask(words(16, f"more{len(bench.model.passes)}"))
        await bench.through()
        assert len(bench.model.passes) < 200
    await job


async def test_passes_hold_little_padding_and_no_more_than_the_budget(bench: Bench) -> None:
    generator = np.random.default_rng(5)
    lengths = [int(n) for n in generator.integers(1, 60, 300)]
    call = bench.ask(*(words(n, f"t{i}") for i, n in enumerate(lengths)))
    await bench.through(300)
    await call
    assert sorted(len(t.split()) for batch in bench.model.passes for t in batch) == sorted(lengths)
    for batch in bench.model.passes:
        real = [len(text.split()) for text in batch]
        padded = max(real) * len(real)
        assert padded <= BUDGET or len(real) == 1
        assert padded - sum(real) <= max(32, sum(real) // 4)


async def test_what_nobody_waits_for_any_more_is_dropped(bench: Bench) -> None:
    first = bench.ask("first")
    await bench.settle()
    gone, shared = bench.ask("gone", "shared"), bench.ask("shared")
    await bench.settle()
    gone.cancel()
    await bench.through(2)
    await asyncio.gather(first, shared)
    assert [text for batch in bench.model.passes for text in batch] == ["first", "shared"]
    assert (bench.passes.waiting_tokens, bench.passes.waiting_items) == (0, 0)


async def test_the_pass_under_way_is_kept_though_its_caller_went(bench: Bench) -> None:
    gone = bench.ask("first")
    await bench.settle()
    gone.cancel()
    await bench.settle()
    joined = bench.ask("first")
    await bench.through()
    assert isinstance((await joined).results[b"document first"], bytes)
    assert bench.model.passes == [["first"]]


async def test_callers_cancelled_while_much_is_tokenised_leave_nothing_behind(bench: Bench) -> None:
    first = bench.ask("first")
    await bench.settle()
    long = words(1_900, "long")
    gone = bench.ask(long, words(200, "alone"))
    stays = bench.ask(long)
    await asyncio.sleep(0)
    gone.cancel()
    while bench.passes._admissions:
        await asyncio.sleep(0.001)
    await bench.through(3)
    await asyncio.gather(first, stays)
    assert [text for batch in bench.model.passes for text in batch] == ["first", long]
    assert (bench.passes.waiting_tokens, bench.passes.waiting_items) == (0, 0)


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    bench = Bench(most_tokens=50)
    calls = [bench.ask("first")]
    await bench.settle()
    calls.append(bench.ask(words(60)))
    await bench.settle()
    with pytest.raises(Overloaded) as refused:
        await bench.ask("late")
    assert refused.value.context["retry_after_s"] >= 1
    joined, patient = bench.ask("first"), bench.ask("a job", patient=True)
    await bench.through(3)
    await asyncio.gather(*calls, joined, patient)
    again = bench.ask("late")
    await bench.through()
    await again
    await bench.passes.close()


async def test_a_bad_text_costs_the_others_nothing(bench: Bench) -> None:
    first = bench.ask("first")
    await bench.settle()
    call = bench.ask("good", "bad", "fine")
    await bench.through(6)
    results = (await call).results
    assert isinstance(results[b"document bad"], Failure)
    assert isinstance(results[b"document good"], bytes)
    assert isinstance(results[b"document fine"], bytes)
    await first
    assert b"document bad" not in bench.kept


async def test_closing_fails_whoever_waits() -> None:
    bench = Bench()
    calls = [bench.ask("first")]
    await bench.settle()
    calls.append(bench.ask("second"))
    await bench.settle()
    await bench.passes.close()
    for call in await asyncio.gather(*calls):
        assert all(isinstance(result, Failure) for result in call.results.values())


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(
            st.sampled_from(["the", "fox", "jumps", "over", "a", "lazy", "dog", "quickly"]),
            min_size=1,
            max_size=40,
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 12),
)
async def test_a_vector_never_depends_on_its_batch_mates(texts: list[list[str]], calls: int) -> None:
    """On the real model: shared passes against each text alone."""
    given_texts = [" ".join(words) for words in texts]
    settings = Settings(fake_embeddings=False, batch_size=100)
    embedder = Embedder(providers, settings, NoVectorCache())
    try:
        shares = [given_texts[i::calls] for i in range(calls)]
        together = await asyncio.gather(*(embedder.encode(share) for share in shares if share))
        found = {
            text: vector
            for share, encoded in zip(filter(None, shares), together, strict=True)
            for text, vector in zip(share, encoded.vectors, strict=True)
        }
        for text in given_texts:
            alone = await embedder.encode([text], cache=False)
            assert np.abs(alone.vectors[0] - found[text]).max() <= 1e-5
    finally:
        await embedder.close()


async def test_texts_that_are_padded_to_the_same_length_anyway_share_a_pass() -> None:
    bench = Bench(model=SteppedProvider())
    first = bench.ask("one")
    await bench.settle()
    texts = [" ".join(["word"] * n) for n in (1, 2, 8, 9, 16)]
    asked = bench.ask(*texts)
    await bench.through(3)
    await asyncio.gather(first, asked)
    assert [sorted(map(len, each)) for each in bench.model.passes] == [
        [3],
        sorted(map(len, texts[:3])),
        sorted(map(len, texts[3:])),
    ]
    assert sorted((await asked).lengths.values()) == [1, 2, 8, 9, 16]  # true tokens, not padded ones

"""Forward passes of one local model, shared by all who wait for it.

Nothing waits for a timer: an idle model starts at once on what there is, and whatever arrives meanwhile
shares the passes that follow. Whose turn it is goes by start-time fair queueing over tokens: an item's tag is
the virtual time at which its call came, plus the tokens of the call's items up to it, shortest first; virtual
time is the work done for each of those who wait. So a short text does not wait behind a long one, nor one
text behind a thousand, and nothing waits for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import math
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vectable.core.meter import Meter
from vectable.engine.embed.outcomes import Failure, checked
from vectable.errors import InvalidInput, Overloaded, ProviderError, Unsupported, VectableError
from vectable.interfaces import EmbeddingProvider, Item, Purpose, TokenizingProvider

log = logging.getLogger(__name__)
Step = Callable[[int], None]
"""Told how many more items are done."""
Keep = Callable[[Mapping[bytes, bytes], str], None]
"""Given the vectors of a pass to keep, by content key, and the model's id."""
_CHARACTERS = 2_000
"""Texts of so many characters are tokenised at once (60 µs); more, on a thread."""
_PADDING = 16
"""Tokens of padding a pass may always hold, about what a pass costs; beyond, a sixteenth of its tokens."""
_PATIENT_WEIGHT = 8
"""Calls nobody looks at have an eighth of the share of the others."""


class Call:
    """What one caller waits for, and what came of it, by content key."""

    __slots__ = ("counts", "done", "inference_s", "left", "lengths", "queue_s", "results", "step", "waiting")

    def __init__(self, step: Step | None, counts: Mapping[bytes, int]) -> None:
        self.results: dict[bytes, bytes | Failure] = {}
        self.lengths: dict[bytes, int] = {}
        self.waiting: list[_Waiting] = []
        self.left = 0
        self.step = step
        self.counts = counts
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queue_s = 0.0
        """From ready for the model to its first pass."""
        self.inference_s = 0.0
        """Of the passes it had a part in."""

    def arrive(self, key: bytes, result: bytes | Failure, length: int) -> None:
        self.results[key] = result
        self.lengths[key] = length
        self.left -= 1
        if self.step is not None:
            self.step(self.counts[key])
        if not self.left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A content that is waited for. `ids`: its tokens, where the model takes such. `width`: how many they are
    with the padding they always get. `queued`: in its lane."""

    key: bytes
    item: Item
    purpose: Purpose
    length: int
    kept: bool
    calls: list[Call]
    ids: Any = None
    width: int = 0
    number: int = 0
    tag: int = 0
    ready: float = 0.0
    queued: bool = False


_Place = tuple[int, int, _Waiting]
"""(width or tag, number, what waits): in order without comparing what waits."""


@dataclass(slots=True)
class Passes:
    """Belongs to one event loop. `most_tokens` may wait; then calls that are not patient are refused."""

    provider: EmbeddingProvider
    budget: int
    most_items: int
    most_tokens: int
    keep: Keep
    meter: Meter
    waiting_tokens: int = 0
    _known: dict[bytes, _Waiting] = field(default_factory=dict)
    _lanes: dict[tuple[str, bool], list[_Place]] = field(default_factory=dict)
    _turns: list[_Place] = field(default_factory=list)
    _clock: int = 0
    _callers: int = 0
    _number: int = 0
    _rate: float = 20_000.0
    _runner: asyncio.Task[None] | None = None
    _admissions: set[asyncio.Task[None]] = field(default_factory=set)
    _tokenizes: TokenizingProvider | None = None
    _step: int = 1
    _most_images: int = 1

    def __post_init__(self) -> None:
        self._step = getattr(self.provider, "padding_step", 1)
        self.most_items = min(self.most_items, self.provider.max_batch)
        self._most_images = min(self.most_items, getattr(self.provider, "images_per_pass", self.most_items))
        self._tokenizes = self.provider if isinstance(self.provider, TokenizingProvider) else None

    @property
    def waiting_items(self) -> int:
        """How many contents wait for the model, or are with it."""
        return len(self._known)

    async def compute(
        self,
        todo: Mapping[bytes, Item],
        purpose: Purpose,
        *,
        keep: bool,
        patient: bool = False,
        step: Step | None = None,
        counts: Mapping[bytes, int] | None = None,
    ) -> Call:
        """A result for each content, from its own pass or one that somebody else waits for already.
        Cancelled, it takes back what nobody else waits for. Raises Overloaded unless it is `patient`."""
        call = Call(step, counts or {})
        new: list[_Waiting] = []
        if not patient and any(key not in self._known for key in todo):
            self._check_room()
        for key, item in todo.items():
            waiting = self._known.get(key)
            if waiting is None:
                waiting = self._known[key] = _Waiting(
                    key, item, purpose, _guess(item, self.provider), keep, []
                )
                self.waiting_tokens += waiting.length
                new.append(waiting)
            waiting.kept |= keep
            waiting.calls.append(call)
            call.waiting.append(waiting)
        call.left = len(call.waiting)
        if call.left:
            self._callers += 1
            self._begin(new, _PATIENT_WEIGHT if patient else 1)
            try:
                await call.done
            finally:
                if call.left:
                    self._leave(call)
            self.meter.took("queue", call.queue_s)
            self.meter.took("inference", call.inference_s)
        return call

    def _check_room(self) -> None:
        if self.waiting_tokens < self.most_tokens:
            return
        seconds = math.ceil(self.waiting_tokens / self._rate)
        raise Overloaded(
            f"{len(self._known)} inputs wait for the model {self.provider.model.id}",
            hint=f"come back in about {seconds} s",
            context={"retry_after_s": seconds},
        )

    def _begin(self, new: list[_Waiting], weight: int) -> None:
        if sum(len(w.item) if isinstance(w.item, str) else 1 for w in new) <= _CHARACTERS:
            self._admit(new, self._prepared(new), weight)
            return
        admission = asyncio.create_task(self._admit_later(new, weight))
        self._admissions.add(admission)
        admission.add_done_callback(self._admissions.discard)

    async def _admit_later(self, new: list[_Waiting], weight: int) -> None:
        self._admit(new, await asyncio.to_thread(self._prepared, new), weight)

    def _prepared(self, new: Sequence[_Waiting]) -> list[tuple[Any, int] | Failure]:
        """(Token ids, length) of each. Runs on any thread."""
        if not new:
            return []
        began = time.perf_counter()
        try:
            items = [w.item for w in new]
            if self._tokenizes is None:
                return [(None, length) for length in self.provider.lengths(items)]
            return [(ids, len(ids)) for ids in self._tokenizes.tokenize(items, new[0].purpose)]
        except (InvalidInput, Unsupported) as error:
            if len(new) == 1:
                return [Failure(error)]
            return [self._prepared([each])[0] for each in new]
        except Exception as error:
            log.exception("the model %s failed to prepare inputs", self.provider.model.id)
            return [_failure(error, self.provider)] * len(new)
        finally:
            self.meter.took("tokenise", time.perf_counter() - began)

    def _admit(
        self, new: Sequence[_Waiting], prepared: Sequence[tuple[Any, int] | Failure], weight: int
    ) -> None:
        now, tag = time.perf_counter(), self._clock
        lengths: list[tuple[int, _Waiting]] = []
        for waiting, found in zip(new, prepared, strict=True):
            if isinstance(found, Failure):
                self._deliver([waiting], [found])
                continue
            self.waiting_tokens += found[1] - waiting.length
            waiting.ids, waiting.length, waiting.ready = found[0], found[1], now
            if waiting.calls:
                lengths.append((waiting.length, waiting))
            else:
                self._forget(waiting)
        for length, waiting in sorted(lengths, key=lambda pair: pair[0]):
            tag += length * weight
            self._number += 1
            waiting.tag, waiting.number, waiting.queued = tag, self._number, True
            waiting.width = -(-length // self._step) * self._step
            insort(self._lane(waiting), (waiting.width, waiting.number, waiting))
            heapq.heappush(self._turns, (tag, waiting.number, waiting))
        if self._runner is None and self._turns:
            # In a context of its own: it works for everybody.
            self._runner = asyncio.create_task(self._run(), context=contextvars.Context())

    def _lane(self, waiting: _Waiting) -> list[_Place]:
        """Those that may share a pass with it, by length."""
        kind = (self.provider.prompt(waiting.purpose), isinstance(waiting.item, bytes))
        return self._lanes.setdefault(kind, [])

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._pass(batch)
        finally:
            self._runner = None

    def _next(self) -> list[_Waiting]:
        """The next pass: whoever's turn it is, and others of like length. Empty: nobody waits."""
        while self._turns:
            _, _, first = heapq.heappop(self._turns)
            if not first.queued:
                continue
            lane = self._lane(first)
            low, high = self._window(lane, bisect_left(lane, (first.width, first.number)))
            batch = [waiting for _, _, waiting in lane[low:high]]
            del lane[low:high]
            for waiting in batch:
                waiting.queued = False
            # All who wait, and one who may come, had an equal part of the work.
            share = sum(waiting.length for waiting in batch) // (self._callers + 1)
            self._clock = max(self._clock + max(1, share), first.tag - first.length)
            return batch
        return []

    def _window(self, lane: list[_Place], at: int) -> tuple[int, int]:
        """The part of the lane around `at` that fits one pass with little padding, nearest lengths first."""
        low, high = at, at + 1
        middle = longest = tokens = lane[at][0]
        shorter = longer = True
        most = self._most_images if isinstance(lane[at][2].item, bytes) else self.most_items
        while high - low < most:
            shorter, longer = shorter and low > 0, longer and high < len(lane)
            if not (shorter or longer):
                break
            up = longer and (not shorter or lane[high][0] - middle <= middle - lane[low - 1][0])
            length = lane[high if up else low - 1][0]
            if self._fits(max(longest, length), high - low + 1, tokens + length):
                low, high = (low, high + 1) if up else (low - 1, high)
                longest, tokens = max(longest, length), tokens + length
            elif up:
                longer = False
            else:
                shorter = False
        return low, high

    def _fits(self, longest: int, items: int, tokens: int) -> bool:
        padded = longest * items
        return padded <= self.budget and padded - tokens <= max(_PADDING, tokens // 16)

    async def _pass(self, batch: Sequence[_Waiting]) -> None:
        started = time.perf_counter()
        calls = {call: None for waiting in batch for call in waiting.calls}
        try:
            results = await self._embedded(batch)
        except asyncio.CancelledError:
            self._cancel(batch)
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return
        except Exception as error:
            log.exception("the model %s failed", self.provider.model.id)
            self._deliver(batch, [_failure(error, self.provider)] * len(batch))
            return
        seconds, tokens = time.perf_counter() - started, sum(w.length for w in batch)
        self._rate += (tokens / max(seconds, 1e-6) - self._rate) / 16
        self.meter.batch(self.provider.model.id, len(batch), tokens)
        for call in calls:
            call.inference_s += seconds
            call.queue_s = call.queue_s or started - batch[0].ready
        self._deliver(batch, results)

    async def _embedded(self, batch: Sequence[_Waiting]) -> list[bytes | Failure]:
        """One pass; when it fails as a whole for a reason of its content, each item alone."""
        try:
            if self._tokenizes is not None:
                matrix = await self._tokenizes.embed_tokens([w.ids for w in batch])
            else:
                matrix = await self.provider.embed([w.item for w in batch], batch[0].purpose)
            return checked(self.provider, matrix, len(batch))
        except (InvalidInput, Unsupported, ProviderError) as error:
            if len(batch) == 1:
                return [Failure(error)]
        return [(await self._embedded([waiting]))[0] for waiting in batch]

    def _deliver(self, batch: Sequence[_Waiting], results: Sequence[bytes | Failure]) -> None:
        found = {
            w.key: result
            for w, result in zip(batch, results, strict=True)
            if w.kept and isinstance(result, bytes)
        }
        if found:
            self.keep(found, self.provider.model.id)
        for waiting, result in zip(batch, results, strict=True):
            self._forget(waiting)
            for call in waiting.calls:
                call.arrive(waiting.key, result, waiting.length)
                self._callers -= not call.left

    def _cancel(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            self._forget(waiting)
            for call in waiting.calls:
                call.done.cancel()

    def _forget(self, waiting: _Waiting) -> None:
        if self._known.get(waiting.key) is waiting:
            del self._known[waiting.key]
            self.waiting_tokens -= waiting.length

    def _leave(self, call: Call) -> None:
        """Takes back what only this call waits for, and no pass has begun."""
        self._callers -= 1
        for waiting in call.waiting:
            if waiting.key in call.results:
                continue
            waiting.calls.remove(call)
            if not waiting.calls and waiting.queued:
                waiting.queued = False
                lane = self._lane(waiting)
                del lane[bisect_left(lane, (waiting.width, waiting.number))]
                self._forget(waiting)

    async def close(self) -> None:
        """Fails whoever waits still."""
        waiting = list(self._known.values())
        for each in waiting:
            each.queued = False
        self._deliver(waiting, [Failure(ProviderError("the embedder was closed"))] * len(waiting))
        runner = self._runner
        if runner is not None:
            runner.cancel()
            await asyncio.wait([runner])


def token_lengths(provider: EmbeddingProvider, items: Sequence[Item], purpose: Purpose) -> list[int]:
    """Tokens of each item as the model reads it."""
    if isinstance(provider, TokenizingProvider):
        return [len(ids) for ids in provider.tokenize(items, purpose)]
    return provider.lengths(items)


def _guess(item: Item, provider: EmbeddingProvider) -> int:
    """About how many tokens an item has, before it is tokenised."""
    return min(len(item) // 4 + 2, provider.max_tokens) if isinstance(item, str) else 1


def _failure(error: BaseException, provider: EmbeddingProvider) -> Failure:
    if isinstance(error, VectableError):
        return Failure(error)
    return Failure(ProviderError(f"the model {provider.model.id} failed", hint="try again"), of_model=True)

"""Batches by padded tokens: items of like length together, so that little is computed for padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def token_batches(lengths: Sequence[int], budget: int, max_items: int) -> Iterator[list[int]]:
    """Positions in batches, shortest first; a batch's longest item times its size is at most `budget` tokens
    (a single item over it makes a batch alone), and its size at most `max_items`. Each position comes
    once."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (lengths[position] * (len(batch) + 1) > budget or len(batch) == max_items):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch

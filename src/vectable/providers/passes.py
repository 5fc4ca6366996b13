"""Texts of like length in one forward pass, so that little is computed for padding."""

from __future__ import annotations

from collections.abc import Iterator

PADDED_TOKENS = 1024
"""Padded tokens of one forward pass: more gains nothing on a CPU and takes memory never given back."""


def passes(lengths: list[int]) -> Iterator[list[int]]:
    """Positions in groups of similar length, shortest first, each of at most PADDED_TOKENS padded tokens (a
    longer one alone)."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[row] > PADDED_TOKENS:
            yield group
            group = []
        group.append(row)
    if group:
        yield group

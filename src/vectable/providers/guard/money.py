"""Money as whole numbers: millionths of millionths of the currency prices are given in."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

UNIT = 10**12
"""Pieces of one unit of currency: small enough for the price of a single token."""
_PER_MILLION = 10**6


def from_decimal(amount: Decimal) -> int:
    """An amount of currency in pieces, rounded up."""
    return int((amount * UNIT).to_integral_value(ROUND_CEILING))


def cost(tokens: int, price_per_million: Decimal) -> int:
    """What `tokens` cost, in pieces, rounded up."""
    return from_decimal(price_per_million * tokens / _PER_MILLION)


def shown(pieces: int) -> str:
    """An amount for people: with six decimals, as few as it needs beyond two."""
    text = str((Decimal(pieces) / UNIT).quantize(Decimal("0.000001"), ROUND_HALF_UP))
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"

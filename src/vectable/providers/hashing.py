"""The hashing provider: deterministic vectors by feature hashing; no weights, no meaning beyond shared words.

**The formula** (version 1; it is part of the model's identity). A text is NFKC-normalised, casefolded and cut
into tokens: runs of at most 64 word characters, or single other characters that are not white space; only the
first `max_tokens` count. A token t has the features `t` (weight 1) and the 3- and 4-grams of `<t>` (each
1/√m, m = their number). A feature f of weight w adds ±w/√2 at two positions, both taken from blake3(f). The
token vectors are summed with weight 1 + ln(occurrences), and 0.1 times a unit vector drawn from blake3 of all
tokens in order is added, so that different texts differ and no vector is zero. An image is a unit vector
drawn from blake3 of its bytes.
"""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from vectable.core.recipe import Tokens
from vectable.core.vectors import Matrix, Vector
from vectable.errors import InvalidInput, Unsupported
from vectable.interfaces import Item, ModelIdentity, Purpose
from vectable.providers.catalog import HashingName
from vectable.providers.images import decode

FORMULA = 1
_TOKEN = re.compile(r"\w{1,64}|[^\w\s]")
_PROBES = 2
_SIGNATURE_WEIGHT = 0.1


class HashingProvider:
    """Deterministic on every machine: the same item always has the same vector, bit for bit. Texts that share
    words or parts of words have a higher cosine. Takes text, and images unless told not to. Vectors are not
    of unit length."""

    normalizes = True
    max_batch = 1024

    def __init__(
        self,
        dimensions: int = 384,
        *,
        max_tokens: int = 8192,
        stands_for: str | None = None,
        takes: frozenset[str] = frozenset({"text", "image"}),
    ) -> None:
        """`stands_for` names the model whose place it takes; it becomes part of the identity. `takes`: text,
        image or both."""
        self.modalities = takes
        self._stands_in = stands_for is not None
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.model = ModelIdentity(
            str(HashingName(dimensions, stands_for)), f"blake3-{FORMULA}:{dimensions}:{max_tokens}"
        )

    def prompt(self, purpose: Purpose) -> str:
        """Always "": queries and documents are embedded alike."""
        return ""

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens after truncation (at least 1); an image: 1."""
        return [max(1, len(self._tokens(item))) if isinstance(item, str) else 1 for item in items]

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        """float32[len(items), dimensions]. Raises InvalidInput for text that is not Unicode, and where
        it stands for a model for bytes that are no image; Unsupported for a kind of item it does not take."""
        out = np.empty((len(items), self.dimensions), dtype=np.float32)
        for row, item in zip(out, items, strict=True):
            kind = "image" if isinstance(item, bytes) else "text"
            if kind not in self.modalities:
                only = " and ".join(sorted(self.modalities))
                raise Unsupported(f"model {self.model.id} does not embed {kind}s", hint=f"it takes {only}")
            if isinstance(item, Tokens):
                raise Unsupported(f"model {self.model.id} has no token ids", hint="give it text")
            if isinstance(item, bytes) and self._stands_in:
                # What works with a stand-in must work with its model.
                await asyncio.to_thread(decode, item)
            row[:] = self._text(item) if isinstance(item, str) else self._signature(b"image", item)
        return out

    async def close(self) -> None:
        """Nothing to release."""

    def _tokens(self, text: str) -> list[str]:
        folded = unicodedata.normalize("NFKC", text).casefold()
        return [match[0] for match in islice(_TOKEN.finditer(folded), self.max_tokens)]

    def _text(self, text: str) -> Vector:
        tokens = self._tokens(text)
        try:
            signature = self._signature(b"text", "\x1f".join(tokens).encode("utf-8"))
        except UnicodeEncodeError:
            raise InvalidInput("the text is not valid Unicode: it holds a lone surrogate") from None
        total = np.zeros(self.dimensions, dtype=np.float64)
        for token, occurrences in Counter(tokens).items():
            positions, values = _token_features(token, self.dimensions)
            np.add.at(total, positions, values * (1.0 + math.log(occurrences)))
        total += _SIGNATURE_WEIGHT * signature
        return total.astype(np.float32)

    def _signature(self, kind: bytes, content: bytes) -> NDArray[np.float64]:
        drawn = blake3(kind + b"\x00" + content).digest(self.dimensions * 2)
        vector = np.frombuffer(drawn, dtype="<i2").astype(np.float64) + 0.5
        return vector / float(np.linalg.norm(vector))


@lru_cache(maxsize=65_536)
def _token_features(token: str, dimensions: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Positions and values a token adds; a position may occur more than once."""
    marked = f"<{token}>"
    grams = [marked[i : i + n] for n in (3, 4) for i in range(len(marked) - n + 1)]
    features = [token, *grams]
    weights = np.array([1.0] + [1.0 / math.sqrt(len(grams))] * len(grams))
    kinds = [b"w"] + [b"g"] * len(grams)
    drawn = b"".join(
        blake3(kind + feature.encode("utf-8")).digest(8 * _PROBES)
        for kind, feature in zip(kinds, features, strict=True)
    )
    numbers = np.frombuffer(drawn, dtype="<u4").reshape(-1, 2)
    signs = np.where(numbers[:, 1] & 1, 1.0, -1.0)
    values = np.repeat(weights, _PROBES) * signs / math.sqrt(_PROBES)
    return (numbers[:, 0] % dimensions).astype(np.int64), values

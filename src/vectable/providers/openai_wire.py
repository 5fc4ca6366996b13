"""The OpenAI embeddings format: what is sent, and what is accepted back. Nothing is taken on trust."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from vectable.core.vectors import Matrix, Vector
from vectable.errors import (
    EndpointError,
    EndpointRefused,
    EndpointUnavailable,
    InvalidInput,
    VectableError,
)
from vectable.providers.guard.attempt import Answered, AttemptFailed, retry_after
from vectable.providers.openai_models import Model

_SHOWN = 300
_TELLING = 20
_ADDED = 1_000
"""Tokens that an endpoint may put around a text, for instructions."""
TOO_MANY = 429
_RETRIED = frozenset({408, 409, 425, TOO_MANY})
_SETUP = frozenset({"model", "dimensions", "encoding_format", "user"})
"""Parameters that an endpoint may object to whatever the texts are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is checked against: who was asked for vectors of what, of which size."""

    host: str
    model: str
    texts: Sequence[str] = field(repr=False)
    dimensions: int

    @property
    def n(self) -> int:
        """How many vectors are due."""
        return len(self.texts)

    @property
    def most_bytes(self) -> int:
        """No right answer is longer: 32 bytes a component, and room for what is around them."""
        return self.n * (self.dimensions * 32 + 1_000) + 1_000_000


def request_body(
    texts: Sequence[str], called: str, encoding: str, dimensions: int | None, additions: Mapping[str, Any]
) -> bytes:
    """The request for vectors of `texts`."""
    body: dict[str, Any] = {
        **additions,
        "model": called,
        "input": list(texts),
        "encoding_format": encoding,
    }
    if dimensions is not None:
        body["dimensions"] = dimensions
    return orjson.dumps(body, default=float)


def read_answer(content: bytes, asked: Asked) -> Answered[Matrix]:
    """float32[n, dimensions] of an answer with status 200, in the order of the texts, whatever the order in
    the answer. A row that is zero or not finite is all NaN: that text failed, the others did not. Raises
    AttemptFailed for anything but n vectors of that size, numbered 0 to n - 1, one of them usable."""
    found = _parsed(content, asked)
    tokens = _tokens(found, asked)
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, list):
        raise _unusable(asked, "without a list of vectors", tokens)
    if len(data) != asked.n:
        raise _unusable(asked, f"with {len(data)} vectors for {asked.n} texts", tokens)
    out = np.empty((asked.n, asked.dimensions), np.float32)
    for position, item in zip(_numbers(data, asked, tokens), data, strict=True):
        out[position] = _vector(item.get("embedding"), position, asked, tokens)
    usable = np.isfinite(out).all(axis=1) & out.any(axis=1)
    if not usable.any():
        raise _unusable(asked, "whose vectors are all zero or not finite", tokens)
    out[~usable] = np.nan
    return Answered(out, tokens)


def _parsed(content: bytes, asked: Asked) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    # JSON has no word for NaN, but servers in Python write it all the same.
    if b"NaN" in content or b"Infinity" in content:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
    raise _unusable(asked, "that is not JSON", None)


def _numbers(data: list[Any], asked: Asked, tokens: int | None) -> list[int]:
    """Which text each vector is for."""
    if not all(isinstance(item, dict) for item in data):
        raise _unusable(asked, "without a list of vectors", tokens)
    # Serialisers that leave out zeros leave out the first number.
    numbers = [item.get("index", 0) for item in data]
    if any(type(number) is not int for number in numbers) or sorted(numbers) != list(range(asked.n)):
        raise _unusable(asked, f"whose vectors are not numbered 0 to {asked.n - 1}", tokens)
    return numbers


def _vector(value: Any, position: int, asked: Asked, tokens: int | None) -> Vector:
    try:
        if isinstance(value, str):
            vector = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        elif isinstance(value, list) and set(map(type, value)) <= {int, float}:
            with np.errstate(over="ignore"):
                vector = np.asarray(value, np.float64).astype(np.float32)
        else:
            raise ValueError
    except (ValueError, OverflowError, binascii.Error):
        raise _unusable(asked, f"whose vector {position} is no list of numbers", tokens) from None
    if vector.shape != (asked.dimensions,):
        words = f"of {vector.shape[0]} dimensions, not {asked.dimensions}"
        raise _unusable(asked, words, tokens)
    return vector


def _tokens(found: Any, asked: Asked) -> int | None:
    """Those that the endpoint says it counted, unless that cannot be."""
    usage = found.get("usage") if isinstance(found, dict) else None
    if not isinstance(usage, dict):
        return None
    counted = usage.get("total_tokens", usage.get("prompt_tokens"))
    most = sum(most_tokens(text) + _ADDED for text in asked.texts)
    return counted if type(counted) is int and 0 < counted <= most else None


def _unusable(asked: Asked, words: str, tokens: int | None) -> AttemptFailed:
    error = EndpointError(
        f"{asked.host} gave an answer for {asked.model} {words}: nothing of it was kept",
        hint="check `url`, `model` and `dimensions` in the models file",
        context={"host": asked.host, "model": asked.model},
    )
    return AttemptFailed(error, retry=False, against_endpoint=True, billed=True, tokens=tokens)


def too_long_an_answer(asked: Asked) -> AttemptFailed:
    """For an answer that grows beyond what a right one can be."""
    return _unusable(asked, f"of more than {asked.most_bytes:,} bytes", None)


def packed_answer(asked: Asked, encoding: str) -> AttemptFailed:
    """For an answer that is compressed though nothing compressed was asked for."""
    return _unusable(asked, f"encoded as {encoding[:40]!r}, which was not asked for", None)


def redirection(status: int, location: str, asked: Asked) -> AttemptFailed:
    """For an answer that sends us elsewhere: texts and key go to no address but the one declared."""
    try:
        host = urlsplit(location).netloc.rpartition("@")[2][:100] or asked.host
    except ValueError:
        host = "no valid address"
    error = EndpointRefused(
        f"{asked.host} answers {status} for {asked.model}, to go to {host}: redirections are not followed",
        hint="declare the right address in the models file",
        context={"host": asked.host, "model": asked.model, "status": status},
    )
    return AttemptFailed(error)


def refusal(status: int, headers: Mapping[str, str], content: bytes, asked: Asked, key: str) -> AttemptFailed:
    """What an answer of another status than 200 means for the request."""
    message, param, code = _complaint(content, key)
    if _repeats(message, asked.texts):
        message = ""  # what is embedded is in no error and no log
    said = f" ({message})" if message else ""
    context = {"host": asked.host, "model": asked.model, "status": status}
    wait = retry_after(headers.get("retry-after"))
    if wait is not None:
        context["retry_after_s"] = max(1, math.ceil(wait))
    spent = code in ("insufficient_quota", "billing_hard_limit_reached")
    error: VectableError
    if (status in _RETRIED or status >= 500) and not spent:
        error = EndpointUnavailable(
            f"{asked.host} answers {status} for {asked.model}{said}",
            hint="it was tried again in vain; try later",
            context=context,
        )
        # Too many requests are our doing; the endpoint is well.
        return AttemptFailed(error, retry=True, retry_after_s=wait, against_endpoint=status != TOO_MANY)
    if status in (400, 413, 422) and param not in _SETUP:
        error = InvalidInput(
            f"{asked.host} does not embed this with {asked.model}{said}",
            hint="shorten the text, or set max_characters in the models file",
            context=context,
        )
        return AttemptFailed(error, elsewhere=False)
    error = EndpointRefused(
        f"{asked.host} refuses requests for {asked.model} with {status}{said}",
        hint="check the key, the model and the address in the models file",
        context=context,
    )
    return AttemptFailed(error)


def _complaint(content: bytes, key: str) -> tuple[str, str, str]:
    """(message, parameter, code) of an error in OpenAI's shape, "" where missing; the key is never in it."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return "", "", ""
    error = found.get("error", found) if isinstance(found, dict) else {}
    if not isinstance(error, dict):
        error = {"message": error}
    message, param, code = (str(error.get(name) or "") for name in ("message", "param", "code"))
    return without_key(message, key)[:_SHOWN], param, code


def _repeats(message: str, texts: Sequence[str]) -> bool:
    """Whether the message holds the beginning or the end of a text, or a piece out of its middle."""
    lines = [_one_line(text) for text in texts]
    ends = {end for text in lines for end in (text[:_TELLING], text[-_TELLING:])}
    if any(len(end) >= _TELLING // 4 and end in message for end in ends):
        return True
    # Whatever is quoted at that length has one of these pieces in it.
    piece, apart = _TELLING * 3 // 4, _TELLING // 4
    pieces = [message[i : i + piece] for i in range(0, len(message) - piece + 1, apart)]
    return any(piece in text for text in lines for piece in pieces)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def without_key(text: str, key: str) -> str:
    """`text` as one line; words that hold the key, or look like a part of one, are left out."""
    parts = {key, key[:6], key[-4:]} if len(key) >= 8 else {key}
    words = ["***" if any(p and p in word for p in parts) or "sk-" in word else word for word in text.split()]
    return " ".join(words)


def most_tokens(text: str) -> int:
    """No tokenizer makes more of a text: one token a byte, and two around it."""
    return len(text.encode("utf-8")) + 2


def likely_tokens(text: str) -> int:
    """About how many tokens a text has: one for every four bytes."""
    return max(1, len(text.encode("utf-8", "replace")) // 4)


def texts_of(items: Sequence[Any], model: Model, prompt: str) -> list[str]:
    """The texts as they are sent: prompted and cut. Raises InvalidInput for text that is not Unicode."""
    texts = [prompt + item for item in items]
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput("the text holds a lone surrogate", hint="text must be valid Unicode") from None
    return [text[: model.max_characters] for text in texts]

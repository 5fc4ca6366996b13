"""Texts to token ids, as the model was trained: its own tokenizer, its own limit, no padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import InvalidInput, ModelUnavailable
from vectable.providers.model_config import ModelConfig, read_json

if TYPE_CHECKING:
    from tokenizers import Encoding

TokenIds = NDArray[np.int64]

_FIRST_LOOK = 32
"""Characters looked at per token allowed; a longer text is looked at further only if these yield too few."""


class Tokenization:
    """A model's tokenizer. Safe to use from several threads; the work is done outside the GIL."""

    def __init__(self, directory: Path, config: ModelConfig) -> None:
        """Raises ModelUnavailable when `tokenizer.json` is missing or damaged."""
        from tokenizers import Tokenizer

        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ModelUnavailable(
                f"{directory} holds no tokenizer.json", hint="save the model with a fast tokenizer"
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ModelUnavailable(f"{path} cannot be read: {error}") from None
        # The file may carry the padding and truncation of whoever saved it; ours come from the model's limit.
        padding: dict[str, Any] = tokenizer.padding or {}
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=config.max_tokens)
        self._tokenizer = tokenizer
        self._lowercase = config.lowercase
        self._look = config.max_tokens * _FIRST_LOOK
        self.padding_id = self._padding_id(directory, padding, config)

    def _padding_id(self, directory: Path, padding: dict[str, Any], config: ModelConfig) -> int:
        token = read_json(directory / "tokenizer_config.json").get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        found = self._tokenizer.token_to_id(token) if isinstance(token, str) else None
        for candidate in (found, config.transformer.get("pad_token_id"), padding.get("pad_id")):
            if isinstance(candidate, int):
                return candidate
        return 0

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """The token ids of each text, special tokens included, at most the model's limit.
        Raises InvalidInput for text that is not valid Unicode."""
        prepared = [text.strip() for text in texts]
        if self._lowercase:
            prepared = [text.lower() for text in prepared]
        try:
            encodings = self._tokenizer.encode_batch([text[: self._look] for text in prepared])
            for i, text in enumerate(prepared):
                if len(text) > self._look:
                    encodings[i] = self._encode_long(text, encodings[i])
        except (TypeError, UnicodeError):
            raise InvalidInput("the text is not valid Unicode: it holds a lone surrogate") from None
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def _encode_long(self, text: str, encoding: Encoding) -> Encoding:
        # A megabyte takes a second to tokenize and only its beginning counts. The cut falls within a word,
        # which changes nothing as long as that word lies well beyond the limit: two windows further.
        look = self._look
        while len(encoding.overflowing) < 2 and look < len(text):
            look *= 4
            encoding = self._tokenizer.encode(text[:look])
        return encoding

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text after truncation, special tokens included; 1 for invalid Unicode."""
        try:
            return [len(ids) for ids in self.encode(texts)]
        except InvalidInput:
            return [self.lengths([text])[0] for text in texts] if len(texts) > 1 else [1]

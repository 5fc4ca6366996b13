"""Texts to token ids, as the model was trained: its own tokenizer, its own limit, no padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.recipe import Tokens
from vectable.errors import InvalidInput, ModelUnavailable
from vectable.interfaces import Item
from vectable.providers.model_config import read_json

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TokenIds = NDArray[np.int64]

_FIRST_LOOK = 32
"""Characters looked at per token allowed; a longer text is looked at further only if these yield too few."""


class Tokenization:
    """A model's tokenizer. Safe to use from several threads; the work is done outside the GIL."""

    def __init__(
        self, directory: Path, max_tokens: int, transformer: Mapping[str, Any], *, lowercase: bool = False
    ) -> None:
        """`transformer` is the configuration of what takes the tokens. Raises ModelUnavailable when
        `tokenizer.json` is missing or damaged."""
        tokenizer = _read(directory)
        # The file may carry the padding and truncation of whoever saved it; ours come from the model's limit.
        saved: dict[str, Any] = tokenizer.padding or {}
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length=max_tokens)
        self._tokenizer = tokenizer
        self._lowercase = lowercase
        self._look = max_tokens * _FIRST_LOOK
        self.padding_id = self._padding_id(directory, transformer.get("pad_token_id"), saved.get("pad_id"))
        self._max_tokens = max_tokens
        self._before, self._after = self._special()
        known = transformer.get("vocab_size")
        self._ids_end = known if isinstance(known, int) else tokenizer.get_vocab_size()

    def _padding_id(self, directory: Path, configured: Any, saved: Any) -> int:
        token = read_json(directory / "tokenizer_config.json").get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        found = self._tokenizer.token_to_id(token) if isinstance(token, str) else None
        for candidate in (found, configured, saved):
            if isinstance(candidate, int):
                return candidate
        return 0

    def _special(self) -> tuple[list[int], list[int]]:
        """The special tokens put before a text, and those put behind it."""
        encoding = self._tokenizer.encode("a")
        within = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if not within:
            return encoding.ids, []
        return encoding.ids[: within[0]], encoding.ids[within[-1] + 1 :]

    def encode_each(self, items: Sequence[Item], prompt: str = "") -> list[TokenIds]:
        """As `encode`, of texts and tokens alike, each with the prompt before it. Raises InvalidInput."""
        texts = {i: prompt + item for i, item in enumerate(items) if isinstance(item, str)}
        found = dict(zip(texts, self.encode(list(texts.values())), strict=True))
        return [
            self._framed(item, prompt) if isinstance(item, Tokens) else found[i]
            for i, item in enumerate(items)
        ]

    def _framed(self, tokens: Tokens, prompt: str) -> TokenIds:
        """Tokens as a text's would be: between the special tokens, whether they were given or not, within the
        model's limit."""
        given = list(tokens.ids)
        unknown = next((i for i in given if not 0 <= i < self._ids_end), None)
        if unknown is not None:
            raise InvalidInput(
                f"{unknown} is no token of this model", hint=f"its ids are 0 to {self._ids_end - 1:,}"
            )
        if given[: len(self._before)] == self._before:
            given = given[len(self._before) :]
        if self._after and given[-len(self._after) :] == self._after:
            given = given[: -len(self._after)]
        if prompt:
            given = self._tokenizer.encode(prompt, add_special_tokens=False).ids + given
        room = self._max_tokens - len(self._before) - len(self._after)
        return np.array([*self._before, *given[:room], *self._after], dtype=np.int64)

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

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each after truncation, special tokens included; 1 for what `encode_each` refuses."""
        try:
            return [len(ids) for ids in self.encode_each(items)]
        except InvalidInput:
            return [self.lengths([item])[0] for item in items] if len(items) > 1 else [1]


def _read(directory: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    pair = (directory / "vocab.json", directory / "merges.txt")
    try:
        if path.is_file():
            return Tokenizer.from_file(str(path))
        if all(part.is_file() for part in pair):
            return _clip_tokenizer(*pair)
    except Exception as error:  # the library raises plain Exception
        raise ModelUnavailable(f"the tokenizer in {directory} cannot be read: {error}") from None
    raise ModelUnavailable(
        f"{directory} holds no tokenizer.json", hint="save the model with a fast tokenizer"
    )


def _clip_tokenizer(vocabulary: Path, merges: Path) -> Tokenizer:
    """CLIP's tokenizer from the two files that older copies of its models carry instead of one."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    begin, end = "<|startoftext|>", "<|endoftext|>"
    model = models.BPE.from_file(
        str(vocabulary), str(merges), unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>"
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    ids = {token: model.token_to_id(token) or 0 for token in (begin, end)}
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, ids[end]), (begin, ids[begin]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer

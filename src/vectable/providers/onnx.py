"""Text models in the sentence-transformers layout, fp32 on ONNX Runtime."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectable.core.vectors import Matrix
from vectable.errors import ModelUnavailable, ProviderError, Unsupported
from vectable.interfaces import Item, ModelIdentity, Purpose
from vectable.providers.bert_graph import GRAPH_VERSION, build_bert
from vectable.providers.graph import GRAPH_FILE
from vectable.providers.graph_cache import cached_graph
from vectable.providers.model_config import ModelConfig, Pooling, read_model_config
from vectable.providers.passes import passes
from vectable.providers.runtime import DEFAULT_THREADS, open_session, refuse_quantised
from vectable.providers.tokenization import TokenIds, Tokenization
from vectable.providers.weights import SAFETENSORS, Located, checked_sha256, usable_weights
from vectable.providers.worker import Worker

_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnnxTextProvider:
    """A loaded text model. `embed` runs on one worker thread, so calls queue; everything may be called from
    any event loop or thread. The model's prompt for the purpose is put before each text by `embed` itself."""

    max_batch = 1024
    modalities = frozenset({"text", "tokens"})

    def __init__(
        self,
        identity: ModelIdentity,
        config: ModelConfig,
        tokenization: Tokenization,
        session: Any,
        executor: Executor | None = None,
    ) -> None:
        """`session` is an onnxruntime.InferenceSession, or has its methods. An `executor` given must have a
        single thread and stays open at `close`; without one the provider owns one."""
        self.model = identity
        self.dimensions = config.dimensions
        self.max_tokens = config.max_tokens
        self.normalizes = config.normalizes
        self._config = config
        self._tokenization = tokenization
        self.padding_step: int = getattr(session, "padding_step", 1)
        """Each text is padded to a multiple of so many tokens, whatever it is computed with."""
        self._forward: _Forward | None = _Forward(session, config, tokenization.padding_id)
        self._worker = Worker(identity.id, executor)

    def prompt(self, purpose: Purpose) -> str:
        """What `embed` puts before each text, from the model's own configuration; "" where it names none."""
        return self._config.prompts[purpose]

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each item after truncation, special tokens included, without the prompt; never
        raises: what `embed` will refuse counts as little. Tokenizes, about 10,000 short texts a second."""
        return self._tokenization.lengths(["" if isinstance(item, bytes) else item for item in items])

    async def embed(self, items: Sequence[Item], purpose: Purpose) -> Matrix:
        """float32[len(items), dimensions], pooled, before normalisation, in the order of `items`. Texts are
        sorted by length and run in passes of about 1,024 padded tokens, so any number may come at once; a
        cancelled call stops before its next pass. Raises Unsupported (images), InvalidInput,
        ProviderError."""
        return await self._worker.run(lambda cancelled: self._run(self.tokenize(items, purpose), cancelled))

    def tokenize(self, items: Sequence[Item], purpose: Purpose) -> list[TokenIds]:
        """Token ids of each, with the prompt and the special tokens, at most the model's limit. Thread-safe.
        Raises Unsupported (images), InvalidInput."""
        if any(isinstance(item, bytes) for item in items):
            raise Unsupported(
                f"{self.model.id} embeds text, not images", hint="use a model of type image or multimodal"
            )
        return self._tokenization.encode_each(items, self.prompt(purpose))

    def counter(self) -> Callable[[Sequence[Item], Purpose], list[int]]:
        """As of a `TokenizingProvider`."""
        tokenization, prompts = self._tokenization, self._config.prompts
        return lambda items, purpose: [len(ids) for ids in tokenization.encode_each(items, prompts[purpose])]

    async def embed_tokens(self, ids: Sequence[TokenIds]) -> Matrix:
        """As `embed`, of what `tokenize` gave."""
        return await self._worker.run(lambda cancelled: self._run(ids, cancelled))

    async def close(self) -> None:
        """Waits for queued work, then releases the model. Further calls of `embed` raise ProviderError."""
        await self._worker.close(self._release)

    def _release(self) -> None:
        self._forward = None

    def _run(self, ids: Sequence[TokenIds], cancelled: threading.Event) -> Matrix:
        out = np.empty((len(ids), self.dimensions), dtype=np.float32)
        if not ids:
            return out
        for rows in passes([len(i) for i in ids]):
            if cancelled.is_set() or self._forward is None:
                raise self._worker.stopped()
            out[rows] = self._forward([ids[row] for row in rows])
        return out


class _Forward:
    """One forward pass: token ids to pooled vectors. Pools in numpy where the graph gives token vectors."""

    def __init__(self, session: Any, config: ModelConfig, padding_id: int) -> None:
        self._session = session
        self._pooling = config.pooling
        self._padding_id = padding_id
        self._inputs = [i.name for i in session.get_inputs()]
        outputs = {o.name: len(o.shape) for o in session.get_outputs()}
        built = outputs.get("embedding") == 2
        self._pools = not built
        token_level = [name for name, rank in outputs.items() if rank == 3]
        unknown = set(self._inputs) - _INPUTS
        if unknown or not (built or token_level):
            raise Unsupported(
                f"the model's graph has inputs {self._inputs} and outputs {list(outputs)}",
                hint="graphs with input_ids, attention_mask and a last_hidden_state are run here",
            )
        self._output = "embedding" if built else token_level[0]

    def __call__(self, ids: list[TokenIds]) -> Matrix:
        shape = (len(ids), max(map(len, ids)))
        tokens = np.full(shape, self._padding_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = one
            mask[row, : len(one)] = 1
        feed = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        try:
            (output,) = self._session.run([self._output], {name: feed[name] for name in self._inputs})
        except Exception as error:  # onnxruntime raises subclasses of plain Exception
            raise ProviderError(f"the model failed on {shape[0]} texts: {error}") from None
        vectors: Matrix = pool(output, mask, self._pooling) if self._pools else output
        return vectors


def pool(hidden: NDArray[np.float32], mask: NDArray[np.int64], pooling: Pooling) -> Matrix:
    """One vector per text from its token vectors: hidden float32 (batch, tokens, dimensions), mask (batch,
    tokens) 1 for tokens and 0 for padding → float32 (batch, dimensions)."""
    if pooling == "cls":
        return np.ascontiguousarray(hidden[:, 0], dtype=np.float32)
    weights = mask[:, :, None].astype(np.float32)
    if pooling == "max":
        best: Matrix = np.where(weights > 0, hidden, np.float32(-1e9)).max(axis=1)
        return best
    count = weights.sum(axis=1)
    total = (hidden * weights).sum(axis=1)
    return np.asarray(total / (np.sqrt(count) if pooling == "mean_sqrt_len" else count), dtype=np.float32)


def load_onnx(
    located: Located,
    cache_dir: Path,
    *,
    threads: int = DEFAULT_THREADS,
    executor: Executor | None = None,
) -> OnnxTextProvider:
    """Loads a text model; takes 0.3-2 s (the first time a graph is built, up to 6 s). Built graphs are kept
    in `cache_dir`. Raises ModelUnavailable (missing, damaged), Unsupported (another kind of model)."""
    imports = threading.Thread(target=_import_runtime, daemon=True)
    imports.start()  # while the weights' checksum is computed: both leave the GIL free

    def session(graph: Path, name: str) -> Any:
        imports.join()
        return open_session(graph, threads)

    return load_text_model(located, cache_dir, session, "onnx-fp32", executor)


def load_text_model(
    located: Located,
    cache_dir: Path,
    session: Callable[[Path, str], Any],
    computed: str,
    executor: Executor | None = None,
) -> OnnxTextProvider:
    """A text model whose graph `session(file, name)` opens, by a name for what is derived from it; `computed`
    names runtime and precision in its identity. Raises as `load_onnx`."""
    config = read_model_config(located.directory)
    weights = usable_weights(located.directory)
    if weights is None:
        raise Unsupported(
            f"{located.directory} holds no weights that are run here",
            hint="export the model to onnx/model.onnx, with tokenizer.json beside config.json, or try "
            f"{located.id}?runtime=sentence-transformers",
            context={"model": located.id},
        )
    checksum = checked_sha256(located, weights)
    tokenization = Tokenization(
        located.directory, config.max_tokens, config.transformer, lowercase=config.lowercase
    )
    try:
        opened = _open(located, weights, checksum, config, cache_dir, session)
    except OSError as error:
        raise ModelUnavailable(f"the graph of {located.id} cannot be built: {error}") from None
    fingerprint = f"{computed}:{checksum}:{config.pooling}:{config.max_tokens}"
    return OnnxTextProvider(ModelIdentity(located.id, fingerprint), config, tokenization, opened, executor)


def _import_runtime() -> None:
    import onnxruntime  # noqa: F401
    import tokenizers  # noqa: F401


def _open(
    located: Located,
    weights: Path,
    checksum: str,
    config: ModelConfig,
    cache_dir: Path,
    session: Callable[[Path, str], Any],
) -> Any:
    name = located.directory.name if located.source == "local path" else located.id.partition("?")[0]
    name = f"{name}-{checksum[:32]}-{config.pooling}-v{GRAPH_VERSION}"
    if weights.name != SAFETENSORS:
        refuse_quantised(weights)
        return session(weights, name)

    def build(target: Path) -> None:
        build_bert(weights, config.transformer, config.pooling, target)

    with cached_graph(cache_dir, name, build) as directory:
        return session(directory / GRAPH_FILE, name)

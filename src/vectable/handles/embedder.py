"""A model without a database, asynchronous: texts and images to vectors."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vectable.config import Settings
from vectable.core.values import MAX_IMAGE, check_image, check_text
from vectable.core.vectors import Matrix
from vectable.errors import InvalidInput, TooLarge, Unsupported, VectableError
from vectable.handles.callers import off_loop
from vectable.handles.chain import item
from vectable.handles.progress import fetching

if TYPE_CHECKING:
    from vectable.engine.embed import Embedder as Engine
    from vectable.interfaces import Item, ModelCard, Purpose
    from vectable.storage import Storage

_NOT_WAITING = getattr(os, "O_NONBLOCK", 0)


class AsyncEmbedder:
    """A model by name (None: the default text model), or by the path of its directory; loaded when first
    used. Vectors are kept in memory (the setting `cache_max_size`), so the same content is computed once;
    those of a remote model, and what it costs, in the directory `remote` of the setting `cache_dir`, too.
    Use it on one event loop, as `async with AsyncEmbedder() as embedder`."""

    def __init__(self, model: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        """`settings` are the fields of `vectable.config.Settings`; what is not given comes from VECTABLE_*
        variables. Raises InvalidInput."""
        from vectable.providers.remote import declares

        self._settings = Settings.from_environment(**settings)
        named = os.fspath(model) if isinstance(model, os.PathLike) else model
        self._model = self._settings.text_model if named is None else named
        if not isinstance(self._model, str):
            raise InvalidInput(f"a model is named by a string, not {type(model).__name__}")
        self._remote = declares(self._settings, self._model)
        self._engine: Engine | None = None
        self._storage: Storage | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()

    @property
    def model(self) -> str:
        """The model's name as it was given."""
        return self._model

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def _here(self) -> Engine:
        """The engine, on the loop it belongs to: that of its first use."""
        if self._closed:
            raise Unsupported(f"the embedder of {self._model} is closed", hint="make another one")
        if os.getpid() != self._process:
            raise Unsupported(
                "this embedder belongs to another process: it was made before a fork",
                hint="make one in the process that uses it, or start workers with the spawn method",
            )
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise Unsupported("this embedder belongs to another event loop", hint="make one on each loop")
        async with self._opening:
            if self._engine is None:
                self._engine = await self._opened()
        return self._engine

    async def _opened(self) -> Engine:
        from vectable.engine.embed import Embedder
        from vectable.providers.remote import library_of
        from vectable.state.memory import MemoryStateStore, NoVectorCache
        from vectable.storage import open_storage

        found = self._settings
        if not self._remote:
            return Embedder(library_of(found, MemoryStateStore()), found, NoVectorCache())
        directory = await off_loop(lambda: _made(found.cache_directory))
        self._storage = storage = await open_storage(directory / "remote", found)
        return Embedder(library_of(found, storage.state), found, storage.cache, state=storage.state)

    async def encode(
        self, texts: Any, *, purpose: Purpose = "document", cache: bool = True, normalize: bool = True
    ) -> Matrix:
        """Vectors of texts: float32[n, dimensions] of a list, float32[dimensions] of one, of Euclidean length
        1 unless `normalize` is false. `purpose`: "document" or "query", which some models embed differently.
        `cache` false neither reads nor writes the cache. Raises InvalidInput naming the text, ModelNotFound,
        ModelUnavailable, Unsupported (a model of images), ProviderError."""
        if purpose not in ("document", "query"):
            raise InvalidInput(f"purpose is document or query, not {purpose!r}")
        many = not isinstance(texts, str)
        items = _each(texts if many else [texts], "text", _text)
        vectors = await self._embed(items, purpose, cache, normalize)
        return vectors if many else vectors[0]

    async def encode_images(self, images: Any, *, cache: bool = True, normalize: bool = True) -> Matrix:
        """Vectors of images, as `encode`. An image is its bytes, a PIL image, a data: URI, {"base64": …}, or
        the path of a file. Raises InvalidInput naming the image that is none, TooLarge; else as `encode`."""
        many = isinstance(images, (list, tuple))
        given = images if many else [images]
        items = await off_loop(lambda: _each(given, "image", _image))
        vectors = await self._embed(items, "document", cache, normalize)
        return vectors if many else vectors[0]

    async def _embed(self, items: list[Item], purpose: Purpose, cache: bool, normalize: bool) -> Matrix:
        engine = await self._here()
        with fetching(engine.models, self._model):
            encoded = await engine.encode(
                items, self._model, purpose=purpose, cache=cache, normalize_vectors=normalize
            )
        return encoded.vectors

    async def card(self) -> ModelCard:
        """What is known of the model without loading it. Raises ModelNotFound, ModelUnavailable."""
        return await (await self._here()).card(self._model)

    async def preload(self) -> ModelCard:
        """Loads the model now (0.3-6 s, longer with a download); its card. Raises as `encode`."""
        engine = await self._here()
        with fetching(engine.models, self._model):
            card, _ = await engine.preload(self._model)
        return card

    async def cache_stats(self) -> dict[str, Any]:
        """Of the vectors kept in memory: size, max_size, hits, misses, evictions, bytes."""
        return (await self._here()).cache_stats()

    async def close(self) -> None:
        """Releases the model and the vectors kept. May be called twice."""
        engine, storage, self._closed = self._engine, self._storage, True
        self._engine = self._storage = None
        if engine is not None:
            await engine.close()
        if storage is not None:
            await storage.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r}{', closed' if self.closed else ''})"


def _each(given: Any, kind: str, check: Any) -> list[Item]:
    """Every element checked. Raises what the check raises, with the element's position."""
    if not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray)):
        raise InvalidInput(f"a {type(given).__name__} is not a list of {kind}s")
    items: list[Item] = []
    for i, one in enumerate(given):
        try:
            items.append(check(one))
        except VectableError as error:
            if len(given) == 1:
                raise
            context = {**error.context, "index": i}
            raise type(error)(f"{kind} {i}: {error.detail}", hint=error.hint, context=context) from None
    return items


def _text(given: Any) -> str:
    text = check_text(given)
    if not text.strip():
        raise InvalidInput("there is nothing to embed in an empty text")
    return text


def _image(given: Any) -> bytes:
    found = item(given)
    if isinstance(found, str) and found.startswith(("http:", "https:")):
        raise InvalidInput("images are not fetched from addresses here", hint="give the image's bytes")
    if isinstance(found, os.PathLike) or (isinstance(found, str) and not found.startswith("data:")):
        return check_image(_read(Path(found)))
    return check_image(found)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput(
            f"the directory {directory} cannot be made: {reason}", hint="cache_dir names another"
        ) from None
    return directory


def _read(path: Path) -> bytes:
    try:
        # Not waited for: it may be a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NOT_WAITING)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput(f"the image {str(path)[:200]!r} is no file")
            if len(found := file.read(MAX_IMAGE + 1)) > MAX_IMAGE:
                raise TooLarge(f"the image {path} has more than {MAX_IMAGE} bytes")
            return found
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"the image {str(path)[:200]!r} cannot be read: {reason}") from None

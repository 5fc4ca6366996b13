"""Images as requests give them: in the body, by a path in the media root, or by an address."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request

from vectable.config import Settings
from vectable.core.values import MAX_IMAGE, check_image
from vectable.errors import InvalidInput, TooLarge, VectableError
from vectable.server.fetch import Fetcher
from vectable.server.routing import database_of, limits_of

_AT_ONCE = 8
"""Addresses fetched at once for one request."""
_INLINE = 1 << 16
"""Characters of base64 decoded at once; more are, on a thread."""


def image_model(request: Request, named: str | None) -> str:
    """The model for images a request names, else the server's. Raises InvalidInput where there is none."""
    model = named if named is not None else database_of(request).settings.image_model
    if not model:
        raise InvalidInput("this server has no image model", hint="name one as `model`, or set IMAGE_MODEL")
    return model


async def read_images(request: Request, given: Sequence[Any], names: Sequence[str]) -> list[bytes]:
    """The encoded images, called `names` in errors. Together they are no longer than a body may be, however
    they are given. Raises InvalidInput naming the image that cannot be had, TooLarge."""
    reader = _Reader(database_of(request).settings, limits_of(request).max_body, request.app.state.fetcher)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(one: Any, name: str) -> bytes:
        async with gate:
            try:
                return await reader.read(one)
            except TooLarge as error:
                if not error.context.get("together"):
                    raise InvalidInput(f"{name}: {error.detail}", hint=error.hint) from None
                raise
            except VectableError as error:
                raise type(error)(f"{name}: {error.detail}", hint=error.hint, context=error.context) from None

    try:
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(read(one, name)) for one, name in zip(given, names, strict=True)]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in reading]


class _Reader:
    """Reads the images of one request."""

    def __init__(self, settings: Settings, most_bytes: int, fetcher: Fetcher) -> None:
        self._root = settings.media_root
        self._urls = settings.image_urls
        self._most = most_bytes
        self._left = most_bytes
        self._fetcher = fetcher

    async def read(self, given: Any) -> bytes:
        data = await self._read(given)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(
                f"the images have more than {self._most:,} bytes together",
                hint="send them in several requests",
                context={"together": True, "max_bytes": self._most},
            )
        return data

    async def _read(self, given: Any) -> bytes:
        if isinstance(given, bytes):
            return check_image(given)
        if isinstance(given, Mapping):
            text = given.get("base64")
            if set(given) != {"base64"} or not isinstance(text, str):
                raise InvalidInput('an image is a string, or an object with the one field "base64"')
            return await _decoded(given, len(text))
        if not isinstance(given, str) or not given:
            raise InvalidInput(
                "this is not an image",
                hint='give a data: URI, an http(s) address, {"base64": …}, or a path in the media root',
            )
        if given.startswith("data:"):
            return await _decoded(given, len(given))
        if given.startswith(("http:", "https:")):
            return await self._fetched(given)
        return await asyncio.to_thread(read_media, self._root, given)

    async def _fetched(self, url: str) -> bytes:
        if not self._urls:
            raise InvalidInput(
                "images are not fetched from addresses here",
                hint="send the image itself, or have image_urls turned on in the server's settings",
            )
        return check_image(await self._fetcher.fetch(url))


async def _decoded(given: Any, size: int) -> bytes:
    if size <= _INLINE:
        return check_image(given)
    return await asyncio.to_thread(check_image, given)


def read_media(root: str, name: str) -> bytes:
    """The file `name` in the media root, never one outside it. Raises InvalidInput, which does not tell what
    there is elsewhere; TooLarge."""
    if not root:
        raise InvalidInput(
            "images are not read from paths here",
            hint="send the image itself, or have media_root named in the server's settings",
        )
    missing = InvalidInput(f"there is no image {name[:200]!r} in the media root")
    try:
        top = Path(root).resolve(strict=True)
        path = (top / name).resolve(strict=True)
        if os.path.isabs(name) or not path.is_relative_to(top):
            raise missing
        # Not followed, not waited for: what was looked at may have been put in another's place.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError, RuntimeError):
        raise missing from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise missing
    with os.fdopen(handle, "rb") as file:
        if found.st_size > MAX_IMAGE:
            raise TooLarge(
                f"the image has {found.st_size:,} bytes", hint=f"at most {MAX_IMAGE:,} are allowed"
            )
        return check_image(file.read(MAX_IMAGE + 1))

"""Forms with files, as browsers and curl send them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from vectable.core.values import MAX_IMAGE
from vectable.errors import InvalidInput, TooLarge
from vectable.server.limits import drain

FORM = "multipart/form-data"
_MOST_FIELDS = 8


async def read_form(request: Request, max_bytes: int, most_files: int) -> tuple[list[bytes], dict[str, str]]:
    """(The files in their order, whatever their fields are called; the other fields). Raises InvalidInput for
    a form that is none, TooLarge for a body longer than `max_bytes`."""
    chunks = _bounded(request.stream(), max_bytes)
    parser = MultiPartParser(request.headers, chunks, max_files=most_files, max_fields=_MOST_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidInput(f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError, LookupError):
        raise InvalidInput("the form cannot be read", hint="send it as curl -F does") from None
    files: list[bytes] = []
    fields: dict[str, str] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.append(await value.read(MAX_IMAGE + 1))
            else:
                fields[name] = value
    finally:
        await form.close()
    return files, fields


async def _bounded(stream: AsyncIterator[bytes], max_bytes: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > max_bytes:
            await drain(stream, max_bytes)
            raise TooLarge(
                f"the body is longer than {max_bytes} bytes",
                hint="send fewer images at once",
                context={"max_bytes": max_bytes},
            )
        yield chunk

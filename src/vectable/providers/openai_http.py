"""One endpoint over HTTP: texts and key go to its address and nowhere else; answers are read in bounds."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from pathlib import Path

import httpx

from vectable.core.vectors import Matrix
from vectable.errors import EndpointTimeout, EndpointUnavailable, ModelUnavailable
from vectable.providers.guard.attempt import Answered, AttemptFailed
from vectable.providers.openai_models import Endpoint
from vectable.providers.openai_wire import (
    Asked,
    packed_answer,
    read_answer,
    redirection,
    refusal,
    too_long_an_answer,
)

_OK = 200
_REDIRECTIONS = range(300, 400)
_COMPLAINT_BYTES = 65_536
_MAX_KEY = 10_000


def read_key(endpoint: Endpoint) -> str:
    """The endpoint's key, "" where it needs none. Raises ModelUnavailable when it is not where it is said to
    be; what was found instead is not shown."""
    if endpoint.api_key_env:
        where = f"the environment variable {endpoint.api_key_env}"
        key = os.environ.get(endpoint.api_key_env, "")
    elif endpoint.api_key_file:
        where = f"the file {endpoint.api_key_file}"
        try:
            key = Path(endpoint.api_key_file).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            key = ""
    else:
        return ""
    key = key.strip()
    if not key or len(key) > _MAX_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ModelUnavailable(
            f"the key for {endpoint.host} is to be in {where}, which holds none",
            hint="put the key there, and nothing else",
            context={"host": endpoint.host},
        )
    return key


class EndpointClient:
    """Asks one endpoint. Takes tens of milliseconds to make: the trusted certificates are read. Each event
    loop has connections of its own; `close` closes those of the present one."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self.endpoint = endpoint
        self._key = key
        self._tls = httpx.create_ssl_context()
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint.host!r})"

    async def ask(self, body: bytes, asked: Asked) -> Answered[Matrix]:
        """The vectors the endpoint gives. Raises AttemptFailed."""
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                return await self._exchange(body, asked)
        except TimeoutError:
            raise self._too_slow() from None
        except httpx.TimeoutException as error:
            raise self._too_slow(sent=not isinstance(error, httpx.ConnectTimeout)) from None
        except httpx.HTTPError as error:
            # Once the request is on its way nobody can tell whether it will be on the bill.
            sent = not isinstance(error, (httpx.ConnectError, httpx.ProxyError))
            words = "broke off its answer" if sent else "cannot be reached"
            raise AttemptFailed(
                EndpointUnavailable(
                    f"{asked.host} {words} for {asked.model}: {str(error) or type(error).__name__}",
                    hint="check that it runs, and `url` in the models file",
                    context={"host": asked.host, "model": asked.model},
                ),
                retry=True,
                against_endpoint=True,
                billed=sent,
            ) from None

    def _too_slow(self, sent: bool = True) -> AttemptFailed:
        error = EndpointTimeout(
            f"{self.endpoint.host} did not answer for {self.endpoint.model} in {self.endpoint.timeout_s:g} s",
            hint="timeout_s in the models file is the limit",
            context={"host": self.endpoint.host, "model": self.endpoint.model},
        )
        return AttemptFailed(error, retry=True, against_endpoint=True, billed=sent)

    async def _exchange(self, body: bytes, asked: Asked) -> Answered[Matrix]:
        async with self._client().stream(
            "POST",
            f"{self.endpoint.url}/embeddings",
            params=self.endpoint.query or None,
            content=body,
            headers=self._headers(),
        ) as response:
            status = response.status_code
            if status in _REDIRECTIONS:
                raise redirection(status, response.headers.get("location", ""), asked)
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                # A small body may unfold into any size.
                if status == _OK:
                    raise packed_answer(asked, encoding)
                raise refusal(status, response.headers, b"", asked, self._key)
            if status != _OK:
                content = await _read(response, _COMPLAINT_BYTES)
                raise refusal(status, response.headers, content or b"", asked, self._key)
            answer = await _read(response, asked.most_bytes)
        if answer is None:
            raise too_long_an_answer(asked)
        return read_answer(answer, asked)

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self._key:
            name = self.endpoint.api_key_header
            headers[name] = f"Bearer {self._key}" if name == "authorization" else self._key
        return headers

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for other in [each for each in self._clients if each.is_closed()]:
                del self._clients[other]
            most = self.endpoint.max_concurrency
            client = self._clients[loop] = httpx.AsyncClient(
                verify=self._tls,
                # A proxy of the environment would be shown what is meant for this machine.
                trust_env=not self.endpoint.on_this_machine,
                follow_redirects=False,
                timeout=httpx.Timeout(self.endpoint.timeout_s),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
                headers={"accept-encoding": "identity", "user-agent": f"vectable/{version('vectable')}"},
            )
        return client

    async def close(self) -> None:
        """Closes the connections of this event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


async def _read(response: httpx.Response, most: int) -> bytes | None:
    """The body; None when it is longer than `most` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)

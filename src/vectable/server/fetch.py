"""Images fetched from addresses that clients name: from public hosts only, within bounds of size and time.

A name is resolved once, all that it leads to is checked, and the connection goes to an address that passed:
what the name leads to a moment later does not matter (DNS rebinding). Each redirect is checked the same way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from vectable.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 4
_CHUNK = 1 << 16
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that was ever given to networks reachable from everywhere."""
_DOCUMENTATION = ipaddress.ip_network("3fff::/20")
# Whoever names a host decides how long its name servers take, so this is not on the threads other work needs.
_resolvers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="resolve")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet at large: not this machine, a private or link-local network,
    a multicast group, or a reserved block, nor an IPv6 address that stands for such an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
        # What the interpreter calls global depends on its age, and has site-local addresses among it.
        if address not in _UNICAST or address in _DOCUMENTATION:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches one address at a time. `allowed` decides which addresses are connected to."""

    max_bytes: int
    timeout_s: float = 10.0
    allowed: Callable[[Address], bool] = is_public

    async def fetch(self, url: str) -> bytes:
        """The body at `url`. Raises InvalidInput for anything that does not end in one, within the bounds."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._follow(url)
        except TimeoutError:
            raise InvalidInput(f"the address took longer than {self.timeout_s:g} seconds") from None
        except (OSError, h11.ProtocolError) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise InvalidInput(f"the address cannot be fetched: {words}") from None

    async def _follow(self, url: str) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            parts = _checked(url)
            body, location = await self._get(parts)
            if location is None:
                return body
            target = urljoin(url, location)
            if parts.scheme == "https" and urlsplit(target).scheme == "http":
                raise InvalidInput("the address leads from https to http")
            url = target
        raise InvalidInput(f"the address is redirected more than {_MOST_REDIRECTS} times")

    async def _get(self, parts: SplitResult) -> tuple[bytes, str | None]:
        """(The body, or where the answer redirects to)."""
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        address = await self._resolved(host, port)
        secure = ssl.create_default_context() if parts.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            str(address), port, ssl=secure, server_hostname=host if secure else None
        )
        try:
            return await self._exchange(parts, reader, writer)
        finally:
            writer.transport.abort()

    async def _resolved(self, host: str, port: int) -> Address:
        """An address of `host`. Raises InvalidInput unless every one may be connected to."""
        try:
            look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            found = await asyncio.get_running_loop().run_in_executor(_resolvers, look_up)
        except (OSError, UnicodeError):
            raise InvalidInput(f"the host {host[:80]!r} is not known") from None
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses or not all(map(self.allowed, addresses)):
            # Which address it is would tell a stranger about this network.
            raise InvalidInput(
                f"the host {host[:80]!r} is not on the public internet",
                hint="send the image itself, in base64 or as a file",
            )
        return addresses[0]

    async def _exchange(
        self, parts: SplitResult, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[bytes, str | None]:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_CHUNK)
        headers = [
            ("Host", parts.netloc),
            ("Accept", "image/*"),
            ("User-Agent", "vectable"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = h11.Request(method="GET", target=target, headers=headers)
        writer.write(connection.send(request) + connection.send(h11.EndOfMessage()))
        body = bytearray()
        while True:
            event: Any = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                if (location := _redirect(event)) is not None:
                    return b"", location
                _check_response(event, self.max_bytes)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self.max_bytes:
                    raise _too_long(self.max_bytes)
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body), None
            elif not isinstance(event, h11.InformationalResponse):
                raise InvalidInput("the address cannot be fetched: the connection ended early")


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        raise InvalidInput("this is not an address", hint="give one that begins http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("an address with a user name or password is not fetched")
    return parts


def _redirect(response: h11.Response) -> str | None:
    if response.status_code not in _REDIRECTS:
        return None
    location = dict(response.headers).get(b"location")
    if location is None:
        raise InvalidInput(f"the address answers {response.status_code} without saying where to")
    return location.decode("latin-1")


def _check_response(response: h11.Response, max_bytes: int) -> None:
    if response.status_code != 200:
        raise InvalidInput(f"the address answers {response.status_code}")
    length = dict(response.headers).get(b"content-length", b"")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_long(max_bytes)
    encoding = dict(response.headers).get(b"content-encoding", b"identity")
    if encoding.strip().lower() != b"identity":
        raise InvalidInput("the address answers in a compressed form that was not asked for")


def _too_long(max_bytes: int) -> InvalidInput:
    return InvalidInput(f"what is at the address is longer than {max_bytes:,} bytes")

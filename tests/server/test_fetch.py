"""Fetching images by address: which hosts, how much, how long; from a real server that misbehaves."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.waiting import LIMIT_S
from vectable.errors import InvalidInput
from vectable.server.fetch import Fetcher, is_public

BODY = b"\x89PNG and so on"
Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


def whole(body: bytes = BODY, status: str = "200 OK", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


class Host:
    """A real HTTP server on loopback that answers each path as told."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            self.asked.append(head)
            answer = self.answers[path]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    one = Host()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield one
    server.close()


def anywhere(address: Any) -> bool:
    return True


async def fetch(host: Host, path: str = "/", **more: Any) -> bytes:
    return await Fetcher(max_bytes=1_000, **{"timeout_s": 5.0, "allowed": anywhere, **more}).fetch(
        host.url + path
    )


async def test_an_image_is_fetched(host: Host) -> None:
    host.answers["/a.png?size=1"] = whole()
    assert await fetch(host, "/a.png?size=1") == BODY
    assert "Host: 127.0.0.1:" in host.asked[0]
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    host.answers["/chunked"] = chunked
    assert await fetch(host, "/chunked") == b"abcde"
    host.answers["/until-closed"] = b"HTTP/1.1 200 OK\r\n\r\nabc"
    assert await fetch(host, "/until-closed") == b"abc"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:0:1:2:3:4:5:6", "2001:db8::1"),
        *("fec0::1", "feff::1", "3fff::1", "5f00::1", "4000::1", "100::1", "::7f00:1", "::ffff:0:7f00:1"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


async def test_private_hosts_are_refused_by_name_and_by_number(host: Host) -> None:
    port = host.url.rpartition(":")[2]
    for name in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"):
        with pytest.raises(InvalidInput, match=r"not on the public internet|not known"):
            await Fetcher(1_000).fetch(f"http://{name}:{port}/")
    assert host.asked == []


async def test_the_connection_goes_to_the_address_that_was_checked(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere each time it is asked: it is asked once."""
    port = int(host.url.rpartition(":")[2])
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(name: str, *rest: Any, **more: Any) -> Any:
        if name != "rebinding.example":
            return real(name, *rest, **more)
        asked.append(name)
        found = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(2, 1, 6, "", (found, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    host.answers["/"] = whole()
    checked: list[str] = []

    def allowed(address: Any) -> bool:
        checked.append(str(address))
        return True

    assert await Fetcher(1_000, allowed=allowed).fetch(f"http://rebinding.example:{port}/") == BODY
    assert asked == ["rebinding.example"]
    assert checked == ["127.0.0.1"]


async def test_one_private_address_among_public_ones_is_enough(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(name: str, *rest: Any, **more: Any) -> Any:
        return [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(InvalidInput, match="not on the public internet"):
        await Fetcher(1_000).fetch("http://both.example/")


async def test_names_that_take_long_hold_up_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    asked, go_on = threading.Semaphore(0), threading.Event()

    def slow(name: str, *rest: Any, **more: Any) -> Any:
        asked.release()
        go_on.wait(LIMIT_S)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    fetches = [asyncio.create_task(Fetcher(1_000).fetch("http://slow.example/")) for _ in range(4)]
    try:
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(asked.acquire), LIMIT_S / 10)
    finally:
        go_on.set()
        await asyncio.wait(fetches)
    assert all(isinstance(fetch.exception(), InvalidInput) for fetch in fetches)


async def test_redirects_are_followed_and_checked_again(host: Host) -> None:
    host.answers |= {
        "/1": whole(b"", "302 Found", Location="/2"),
        "/2": whole(b"", "307 Temporary Redirect", Location=f"{host.url}/3"),
        "/3": whole(),
        "/away": whole(b"", "301 Moved", Location="http://127.0.0.2:1/x"),
        "/scheme": whole(b"", "301 Moved", Location="file:///etc/passwd"),
        "/round": whole(b"", "302 Found", Location="/round"),
        "/nowhere": whole(b"", "302 Found"),
    }
    assert await fetch(host, "/1") == BODY

    def first_only(address: Any) -> bool:
        return str(address) == "127.0.0.1"

    with pytest.raises(InvalidInput, match="not on the public internet"):
        await fetch(host, "/away", allowed=first_only)
    for path in ("/scheme", "/round", "/nowhere"):
        with pytest.raises(InvalidInput):
            await fetch(host, path)


async def test_too_much_or_not_a_picture_of_an_answer(host: Host) -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1_024 + b"\r\n"
    host.answers |= {
        "/declared": b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        "/grows": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000,
        "/endless": endless * 3,
        "/missing": whole(b"", "404 Not Found"),
        "/broken": whole(b"", "500 Oops"),
        "/short": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nabc",
        "/nonsense": b"\x00\x01nonsense\r\n\r\n",
        "/headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"y" * 200_000 + b"\r\n\r\n",
        "/packed": whole(Content_Encoding="gzip"),
        "/nothing": b"",
    }
    for path in host.answers:
        with pytest.raises(InvalidInput):
            await fetch(host, path)


async def test_an_answer_that_drips_is_given_up(host: Host) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    host.answers["/drip"] = drip
    with pytest.raises(InvalidInput, match="longer than"):
        await fetch(host, "/drip", timeout_s=0.2)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.com/", "http://", "http:///x", "//example.com", "http://a:b@example.com/"),
        *(
            "http://user@example.com/",
            "http://example.com:99999/",
            "http://exa mple.com/",
            "https:example.com",
        ),
        *("http://example.com/\r\nX: y", "http://ex\u00e4mple.com/", "http://[::1", "http://example.com:0/"),
    ],
)
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidInput):
        await Fetcher(1_000, timeout_s=5.0, allowed=anywhere).fetch(url)


async def test_hosts_that_cannot_be_reached(host: Host) -> None:
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    for url in (f"http://127.0.0.1:{port}/", "http://no-such-host.invalid/", f"https://{host.url[7:]}/"):
        with pytest.raises(InvalidInput):
            await Fetcher(1_000, timeout_s=5.0, allowed=anywhere).fetch(url)

"""Answers leave in one piece where they are small, whole in any case."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.waiting import LIMIT_S
from vectable.server.protocol import JoiningProtocol, JoiningTransport


async def _pair() -> tuple[JoiningTransport, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.settimeout(5)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=_stream(ours))
    return JoiningTransport(transport), theirs


def _stream(connected: socket.socket) -> socket.socket:
    """The loop asks for a stream; one that keeps the borders of writes is one, too, and shows them."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=connected.detach())


@pytest.mark.asyncio
async def test_what_is_written_at_once_is_sent_at_once() -> None:
    transport, peer = await _pair()
    with peer:
        transport.write(b"head ")
        transport.write(b"body")
        assert peer.recv(100) == b"head body"
        transport.write(b"alone")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert peer.recv(100) == b"alone"
        transport.write(b"last")
        transport.close()
        assert peer.recv(100) == b"last"
        assert transport.is_closing()


@pytest.mark.asyncio
async def test_a_long_body_is_not_copied_behind_its_head() -> None:
    transport, peer = await _pair()
    with peer:
        body = b"x" * (1 << 16)
        transport.write(b"head")
        transport.write(body)
        assert peer.recv(1 << 17) == b"head"
        assert peer.recv(1 << 17) == body
        transport.write(b"never sent")
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert peer.recv(100) == b""


async def _lengths(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers how long the body was."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


_POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
_PIECE = b"400\r\n" + b"x" * 1_024 + b"\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("begin", "piece", "end", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 1_024, b"", b"HTTP/1.1 431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Many: y\r\n" * 100, b"", b"HTTP/1.1 431"),
        (b"GET /", b"x" * 1_024, b"", b"HTTP/1.1 431"),
        (_POST + b"0\r\n", b"X-Trailer: y\r\n" * 80, b"", b"HTTP/1.1 431"),
        (_POST, _PIECE, b"0\r\n\r\n", b"HTTP/1.1 200"),
    ],
    ids=["a header", "headers", "an address", "trailers", "a long body is none"],
)
async def test_a_head_that_does_not_end_is_refused(
    begin: bytes, piece: bytes, end: bytes, expected: bytes
) -> None:
    config = uvicorn.Config(_lengths, log_config=None, lifespan="off")
    config.load()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            lambda: JoiningProtocol(config, ServerState(), {}), sock=ours
        )
        for received in [begin, *[piece] * 100, end]:
            if not protocol.transport.is_closing():
                protocol.data_received(received)
        answer = await asyncio.wait_for(loop.sock_recv(theirs, 12), LIMIT_S)
        assert answer == expected
        protocol.transport.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT"])
async def test_a_connection_whose_head_never_comes_is_closed(sent: bytes) -> None:
    config = uvicorn.Config(_lengths, log_config=None, lifespan="off", timeout_keep_alive=1)
    config.load()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: JoiningProtocol(config, ServerState(), {}), sock=ours)
        await loop.sock_sendall(theirs, sent)
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.wait_for(loop.sock_recv(theirs, 1_000), LIMIT_S):
                pass  # the answer to what was whole

"""Answers leave in one piece where they are small, whole in any case."""

from __future__ import annotations

import asyncio
import socket

import pytest

from vectable.server.protocol import JoiningTransport


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

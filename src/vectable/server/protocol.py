"""HTTP as uvicorn speaks it, with heads of bounded length; short answers leave in one piece with theirs."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_SMALL = 1 << 16
"""Bytes that are copied sooner than written by themselves."""
_LONGEST_HEAD = 1 << 16
"""Bytes of a head, beyond those it began with, that the parser may keep: it has no limit of its own."""
_TOO_LONG = b"the head of the request is too long"


class JoiningProtocol(HttpToolsProtocol):
    """Writes an answer's head together with what follows it: each write of its own costs a system call, wakes
    the client for half an answer, and under TLS is a record of its own."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is there."""
        self._goes_on = False
        self._kept = 0
        super().connection_made(JoiningTransport(transport))
        self._head_due = self.loop.call_later(self.timeout_keep_alive, self._no_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_due.cancel()
        super().connection_lost(exc)

    def _no_head(self) -> None:
        # As long as a connection may rest between requests: who sends nothing, or too slowly, is let go.
        if self.cycle is not None and not self.cycle.response_complete:  # the request before it goes on
            self._head_due = self.loop.call_later(self.timeout_keep_alive, self._no_head)
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parses what came. A head, or what follows a body, that does not end is refused: it would be kept,
        and nobody is asked for a key before it is there."""
        self._goes_on = False
        super().data_received(data)
        self._kept = 0 if self._goes_on else self._kept + len(data)
        if self._kept > _LONGEST_HEAD and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_TOO_LONG), _TOO_LONG)
            )
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._goes_on = True
        if self._head_due.cancelled():
            self._head_due = self.loop.call_later(self.timeout_keep_alive, self._no_head)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._goes_on = True
        self._head_due.cancel()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body is there."""
        self._goes_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there."""
        self._goes_on = True
        super().on_message_complete()


class JoiningTransport(asyncio.Transport):
    """A transport that keeps a short write until the next one, or until the loop comes round."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held = b""
        self._later: asyncio.Handle | None = None

    def write(self, data: Any) -> None:
        """Sends `data`, at the latest when the loop comes round."""
        if self._held:
            self._send(data)
        elif len(data) < _SMALL:
            self._held = bytes(data)
            self._later = asyncio.get_running_loop().call_soon(self._send)
        else:
            self._transport.write(data)

    def _send(self, data: Any = b"") -> None:
        held, self._held = self._held, b""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if len(data) < _SMALL:
            self._transport.write(held + data)
        else:
            self._transport.write(held)
            self._transport.write(data)

    def close(self) -> None:
        """Closes the connection once everything is sent."""
        if self._held:
            self._send()
        self._transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._held = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Nothing is to be received for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The opposite of `pause_reading`."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol takes over."""
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol in charge."""
        return self._transport.get_protocol()

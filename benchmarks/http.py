"""A server of its own and clients that cost little: bare sockets, answers read and not parsed."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def served(*flags: str) -> Iterator[tuple[str, int, psutil.Process]]:
    """A server on a new database: (host, port, process), once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "vectable.cli", "serve", "--db", str(Path(directory) / "db")]
        process = subprocess.Popen([*command, "--port", str(port), *flags], stdout=subprocess.DEVNULL)
        try:
            _await_answer(port, process)
            yield "127.0.0.1", port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def _await_answer(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError("the server ended")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server does not answer")


class Client:
    """One connection, one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: Any = None
        self._writer: Any = None
        self._used_at = 0.0

    async def post(self, path: str, body: Any) -> tuple[float, bytes]:
        """(Milliseconds to the answer's last byte, its body). Raises RuntimeError unless it is a 200."""
        # A server closes connections that were idle for some seconds.
        if self._writer is None or time.monotonic() - self._used_at > 2:
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 26)
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        started = time.perf_counter()
        self._writer.write(head.encode() + content)
        answer_head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer_head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = await self._reader.readexactly(length)
        elapsed = (time.perf_counter() - started) * 1000
        self._used_at = time.monotonic()
        if not answer_head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:500].decode())
        return elapsed, answer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def crowd(
    host: str, port: int, clients: int, bodies: Sequence[Any], path: str
) -> tuple[float, list[float]]:
    """(Seconds in all, milliseconds of each): `bodies` dealt out to so many clients at once."""

    async def one(number: int) -> list[float]:
        client = Client(host, port)
        try:
            return [(await client.post(path, body))[0] for body in bodies[number::clients]]
        finally:
            client.close()

    started = time.perf_counter()
    times = await asyncio.gather(*(one(number) for number in range(clients)))
    return time.perf_counter() - started, [each for part in times for each in part]

"""A server of its own and clients that cost little: bare sockets, answers read and not parsed."""

from __future__ import annotations

import asyncio
import json
import os
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

ROOT = Path(__file__).parents[1]


@contextmanager
def served(*flags: str, python: str | Path = sys.executable) -> Iterator[tuple[str, int, psutil.Process]]:
    """A server on a new database: (host, port, process), once it answers."""
    with tempfile.TemporaryDirectory() as directory:
        database, port = str(Path(directory) / "db"), free_port()
        command = [python, "-m", "vectable.cli", "serve", "--db", database, "--port", str(port), *flags]
        with answering(command, port, with_sources()) as process:
            yield "127.0.0.1", port, process


def with_sources() -> dict[str, str]:
    """The environment in which any interpreter finds this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def answering(
    command: Sequence[str | Path], port: int, environment: dict[str, str], patience_s: int = 60
) -> Iterator[psutil.Process]:
    """A server's process, once it takes connections, until the block ends."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            if not _answers(port, process, patience_s):
                said.seek(0)
                raise RuntimeError(f"no server: {said.read()[-2_000:].decode(errors='replace')}")
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def peak_memory(process: psutil.Process) -> float:
    """The most memory a process ever had, in MiB."""
    found = getattr(process.memory_info(), "peak_wset", None)
    if found is None:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        found = int(line.split()[1]) * 1024
    return float(found) / 2**20


def _answers(port: int, process: subprocess.Popen[bytes], patience_s: int) -> bool:
    for _ in range(patience_s * 10):
        if process.poll() is not None:
            return False
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


class Connection:
    """A blocking socket, one request at a time: as little as a client can cost."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self._socket: socket.socket | None = None
        self._used_at = 0.0

    def post(self, path: str, body: Any) -> tuple[float, bytes]:
        """(Milliseconds to the answer's last byte, its body). Raises RuntimeError unless it is a 200."""
        content = json.dumps(body).encode()
        host, port = self.address
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        connected = self._connected()
        started = time.perf_counter()
        connected.sendall(head.encode() + content)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._part(connected)
        length = int(received[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(received) < end + 4 + length:
            received += self._part(connected)
        elapsed = (time.perf_counter() - started) * 1000
        self._used_at = time.monotonic()
        answer = bytes(received[end + 4 :])
        if not received.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:500].decode())
        return elapsed, answer

    @staticmethod
    def _part(connected: socket.socket) -> bytes:
        part = connected.recv(1 << 20)
        if not part:
            raise RuntimeError("the server closed the connection")
        return part

    def _connected(self) -> socket.socket:
        # A server closes connections that were idle for some seconds.
        if self._socket is None or time.monotonic() - self._used_at > 2:
            self.close()
            self._socket = socket.create_connection(self.address, timeout=180)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Client:
    """One connection of many, one request at a time."""

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

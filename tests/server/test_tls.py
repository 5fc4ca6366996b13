"""TLS on real sockets: the version, the headers, renewed certificates, and what is refused without it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trustme

from vectable.config import Settings
from vectable.database import Database
from vectable.errors import AccessDenied, InvalidInput
from vectable.server.run import serve
from vectable.server.tls import Certificate, certificate_of

PROGRAM = [sys.executable, "-m", "vectable.cli"]
ENVIRONMENT = {**os.environ, "VECTABLE_FAKE_EMBEDDINGS": "1", "VECTABLE_PRELOAD": "0"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_certificate(authority: trustme.CA, directory: Path, *names: str) -> tuple[str, str]:
    """(certificate, key), as files."""
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    cert, key = directory / "cert.pem", directory / "key.pem"
    issued.private_key_pem.write_to_path(key)
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    return str(cert), str(key)


def create_key(directory: Path) -> str:
    async def create() -> str:
        async with await Database.open(directory / "db") as database:
            return (await database.keys.create("k"))[1]

    return asyncio.run(create())


def outside_address() -> str:
    """An address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback's")
        address: str = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback's")
    return address


@contextmanager
def serving(directory: Path, *flags: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server process, and the port it answers on."""
    command = [*PROGRAM, "serve", "--port", "0", "--json", "--db", str(directory / "db"), *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            text += line
        yield int(json.loads(text)["url"].rpartition(":")[2]), process
        process.terminate()
        assert process.wait(100) == 0
    finally:
        process.kill()
        process.wait()


def test_a_server_with_a_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = write_certificate(authority, tmp_path)
    token = create_key(tmp_path)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with serving(tmp_path, "--host", "0.0.0.0", "--tls-cert", cert, "--tls-key", key) as (port, _):
        url = f"https://localhost:{port}"
        with httpx.Client(base_url=url, verify=trusting, timeout=60) as client:
            answer = client.get("/stats", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            assert client.get("/stats").status_code == 401
            assert client.get("/health").status_code == 200
        old = ssl.create_default_context()
        authority.configure_trust(old)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("localhost", port)) as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain, server_hostname="localhost")
        plain = socket.create_connection(("localhost", port))
        with trusting.wrap_socket(plain, server_hostname="localhost") as wrapped:
            assert wrapped.version() == "TLSv1.3"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://localhost:{port}/health", timeout=10)


def test_keys_over_plain_http_from_other_machines_are_refused(tmp_path: Path) -> None:
    address = outside_address()
    token = create_key(tmp_path)
    authorized = {"Authorization": f"Bearer {token}"}
    with serving(tmp_path, "--host", "0.0.0.0", "--trusted-proxies", f"{address}/32") as (port, _):
        proxied = {**authorized, "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        through = httpx.get(f"http://{address}:{port}/stats", headers=proxied, timeout=60)
        assert through.status_code == 200
        assert "Strict-Transport-Security" in through.headers
        unencrypted = httpx.get(
            f"http://{address}:{port}/stats", headers={**proxied, "X-Forwarded-Proto": "http"}, timeout=60
        )
        assert unencrypted.status_code == 403
        assert "plain HTTP" in unencrypted.json()["detail"]
        assert "X-Forwarded-Proto: https" in unencrypted.json()["hint"]
        local = httpx.get(f"http://127.0.0.1:{port}/stats", headers=authorized, timeout=60)
        assert local.status_code == 200
    with serving(tmp_path, "--host", "0.0.0.0", "--trusted-proxies", "192.0.2.77") as (port, _):
        lying = httpx.get(f"http://{address}:{port}/stats", headers=proxied, timeout=60)
        assert lying.status_code == 403, "nobody declared that proxy"


def test_a_server_others_can_reach_needs_a_key_and_tls(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = write_certificate(authority, tmp_path)
    settings = Settings(db=str(tmp_path / "db"), host="0.0.0.0", port=0, tls_cert=cert, tls_key=key)
    with pytest.raises(AccessDenied, match="there is no key"):
        serve(settings)
    with pytest.raises(AccessDenied, match="--tls-cert and --tls-key"):
        serve(replace(settings, tls_cert="", tls_key=""))
    with pytest.raises(InvalidInput, match="TLS needs both files"):
        serve(replace(settings, tls_key=""))
    create_key(tmp_path)
    with serving(tmp_path, "--host", "0.0.0.0", "--insecure") as (port, process):
        assert httpx.get(f"http://127.0.0.1:{port}/stats", timeout=60).status_code == 401
        process.terminate()
        assert process.stderr is not None
        assert "INSECURE" in process.stderr.read()


def test_renewed_certificates_are_taken(authority: trustme.CA, tmp_path: Path) -> None:
    certificate = Certificate(*write_certificate(authority, tmp_path))
    assert not certificate.refresh()
    cert, _ = write_certificate(authority, tmp_path, "other.example")
    os.utime(cert, ns=(1, 1))
    assert certificate.refresh()
    Path(cert).write_text("torn", "utf-8")
    assert not certificate.refresh(), "what was there is kept"
    Path(cert).unlink()
    assert not certificate.refresh()


def test_a_certificate_whose_key_is_still_to_come_is_not_taken(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = write_certificate(authority, tmp_path)
    certificate = Certificate(cert, key)
    before = Path(key).read_bytes()
    write_certificate(authority, tmp_path, "other.example")
    Path(key).write_bytes(before)
    os.utime(cert, ns=(1, 1))
    assert not certificate.refresh()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.version() == "TLSv1.3", "the old certificate serves on"


def test_unusable_files_are_named(authority: trustme.CA, tmp_path: Path) -> None:
    cert, key = write_certificate(authority, tmp_path)
    assert certificate_of("", "") is None
    with pytest.raises(InvalidInput, match=r"tls_key .*cannot be read: No such file"):
        certificate_of(cert, str(tmp_path / "none.pem"))
    (tmp_path / "second").mkdir()
    other = write_certificate(trustme.CA(), tmp_path / "second")[1]
    with pytest.raises(InvalidInput, match="key values mismatch"):
        certificate_of(cert, other)
    (tmp_path / "text.pem").write_text("no certificate", "utf-8")
    with pytest.raises(InvalidInput, match="cannot be used"):
        certificate_of(str(tmp_path / "text.pem"), key)

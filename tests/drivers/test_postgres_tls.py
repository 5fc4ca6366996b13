"""TLS to the server. The PostgreSQL of the tests is built without it, so a small proxy stands in front: it
answers the client's SSLRequest as a server does, speaks real TLS by a certificate made here, and hands on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from vectable import connect_async
from vectable.drivers.postgres import Address, PostgresDriver
from vectable.errors import BackendUnavailable, InvalidInput

SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


class TlsProxy:
    """In front of the server whose socket is at `target`. `offers` false: it says no to TLS, as a server
    without it does, and goes on in the clear."""

    def __init__(self, target: str, certificate: trustme.LeafCert) -> None:
        self.target = target
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.context)
        self.offers = True
        self.versions: list[str] = []
        """Of TLS, for every connection that came through it."""
        self.plain = 0
        """Connections that went on without."""
        self.port = 0

    async def start(self) -> asyncio.Server:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        return listening

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            answer, back = await asyncio.open_unix_connection(self.target)
            try:
                if first != SSL_REQUEST:
                    back.write(first)
                    self.plain += 1
                elif self.offers:
                    writer.write(b"S")
                    await writer.drain()
                    await writer.start_tls(self.context)
                    self.versions.append(writer.get_extra_info("ssl_object").version())
                else:
                    writer.write(b"N")
                    self.plain += 1
                await asyncio.gather(_pump(reader, back), _pump(answer, writer))
            except asyncio.CancelledError:
                pass  # the test is over
            finally:
                back.close()
                writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()


AUTHORITY = trustme.CA()


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[TlsProxy]:
    """With a certificate for the name `localhost`."""
    found = Address.parse(postgres_url).keywords
    if not found.get("host", "").startswith("/"):
        pytest.skip("the server under test is not on this machine")
    target = f"{found['host']}/.s.PGSQL.{found.get('port', '5432')}"
    proxy = TlsProxy(target, AUTHORITY.issue_cert("localhost"))
    async with await proxy.start():
        yield proxy


@pytest.fixture
def url(proxy: TlsProxy, postgres_url: str) -> str:
    """The address of the database behind the proxy; the host's place is open."""
    found = Address.parse(postgres_url)
    return f"postgresql://{quote(found.user)}@%s:{proxy.port}/{found.database}?%s"


@pytest.fixture
def root(tmp_path: Path) -> str:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "root.pem")
    return str(tmp_path / "root.pem")


async def test_a_database_over_tls_that_is_verified_is_like_any_other(
    proxy: TlsProxy, url: str, root: str
) -> None:
    address = url % ("localhost", f"sslmode=verify-full&sslrootcert={quote(root)}")
    async with await connect_async(address, fake_embeddings=True, text_model="hashing/16") as db:
        table = await db.create_table("t", {"title": "string"})
        await table.add_embedding_column("emb", source="title")
        await table.insert([{"id": str(i), "title": f"word {i}"} for i in range(3_000)])
        [hit] = await table.similar("word 77", on="emb").limit(1).collect()
        assert hit["title"] == "word 77"
    assert set(proxy.versions) == {"TLSv1.3"}
    assert proxy.plain == 0


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("127.0.0.1", "sslmode=require"),
        ("localhost", ""),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=ROOT"),
        ("localhost", "sslmode=verify-full&sslrootcert=ROOT&sslnegotiation=postgres"),
    ],
)
async def test_what_is_asked_for_is_encrypted(
    proxy: TlsProxy, url: str, root: str, host: str, options: str
) -> None:
    driver = PostgresDriver(url % (host, options.replace("ROOT", quote(root))), pool_least=1)
    await driver.open()
    await driver.close()
    assert proxy.versions
    assert proxy.plain == 0


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=ROOT"),
        ("localhost", "sslmode=verify-full&sslrootcert=OTHER"),
        ("localhost", "sslmode=verify-ca&sslrootcert=OTHER"),
    ],
    ids=["another name", "another authority", "another authority, any name"],
)
async def test_who_cannot_prove_to_be_the_server_is_not_talked_to(
    proxy: TlsProxy, url: str, root: str, tmp_path: Path, host: str, options: str
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    named = options.replace("ROOT", quote(root)).replace("OTHER", quote(str(tmp_path / "other.pem")))
    with pytest.raises(BackendUnavailable) as caught:
        await PostgresDriver(url % (host, named)).open()
    assert "TLS" in str(caught.value)
    assert "sslrootcert" in caught.value.hint
    assert proxy.plain == 0


async def test_the_authorities_of_the_system_can_be_trusted(
    proxy: TlsProxy, url: str, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = url % ("localhost", "sslrootcert=system")
    with pytest.raises(BackendUnavailable, match=r"local issuer|self.signed"):
        await PostgresDriver(address).open()
    monkeypatch.setenv("SSL_CERT_FILE", root)  # where OpenSSL is told to look for those of the system
    driver = PostgresDriver(address, pool_least=1)
    await driver.open()
    await driver.close()
    with pytest.raises(BackendUnavailable, match=r"Hostname mismatch|IP address mismatch"):
        await PostgresDriver(url % ("127.0.0.1", "sslmode=verify-full&sslrootcert=system")).open()
    assert proxy.plain == 0
    with pytest.raises(InvalidInput, match="too weak"):
        PostgresDriver(url % ("localhost", "sslmode=require&sslrootcert=system"))


async def test_a_server_without_tls_is_refused_where_it_is_required(proxy: TlsProxy, url: str) -> None:
    proxy.offers = False
    with pytest.raises(BackendUnavailable) as caught:
        await PostgresDriver(url % ("localhost", "sslmode=require")).open()
    assert "offers no TLS" in str(caught.value)
    assert "sslmode" in caught.value.hint
    # Nothing but the question has been sent; who only prefers TLS goes on without.
    driver = PostgresDriver(url % ("localhost", "sslmode=prefer"), pool_least=1)
    await driver.open()
    await driver.close()
    assert proxy.versions == []


async def test_a_missing_file_of_certificates_is_said_so(url: str, tmp_path: Path) -> None:
    address = url % ("localhost", f"sslmode=verify-full&sslrootcert={quote(str(tmp_path / 'none.pem'))}")
    with pytest.raises(InvalidInput, match=r"sslrootcert.*none\.pem"):
        await PostgresDriver(address).open()

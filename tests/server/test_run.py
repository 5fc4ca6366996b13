"""Starting and stopping a server process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.providers.clip_forms import write_clip
from tests.providers.reference import write_tiny_bert
from tests.waiting import LIMIT_S, until
from vectable.config import Settings
from vectable.errors import AccessDenied, Conflict, InvalidInput
from vectable.server.exposure import check_transport, is_loopback
from vectable.server.run import listen

SERVE = """
import sys
from vectable.config import Settings
from vectable.server.run import serve
serve(Settings.from_environment(db=sys.argv[1], port=0), ready=lambda url: print(url, flush=True))
print("closed", flush=True)
"""


def start(directory: Path) -> tuple[subprocess.Popen[str], str]:
    environment = {**os.environ, "VECTABLE_FAKE_EMBEDDINGS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(directory)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_stops_when_told_and_finishes_what_is_under_way(tmp_path: Path, sign: signal.Signals) -> None:
    process, url = start(tmp_path / "db")
    try:
        with httpx.Client(base_url=url, timeout=LIMIT_S) as client:
            client.post("/api/v1/tables", json={"name": "t", "columns": {"n": "int"}})
            answered: list[httpx.Response] = []

            def slowly():
                yield b'{"id": "a", "n": 1}\n'
                process.send_signal(sign)
                threading.Event().wait(0.5)
                yield b'{"id": "b", "n": 2}\n'

            headers = {"Content-Type": "application/x-ndjson"}
            answered.append(client.post("/api/v1/tables/t/rows", content=slowly(), headers=headers))
        assert answered[0].json()["inserted"] == 2
        assert process.stdout is not None
        assert process.stdout.read().strip() == "closed", "the database was closed, and serve returned"
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
    process, url = start(tmp_path / "db")
    try:
        assert httpx.get(f"{url}/api/v1/tables/t/rows/b", timeout=LIMIT_S).json() == {"id": "b", "n": 2}
    finally:
        process.kill()
        process.wait()


def test_a_request_that_does_not_end_is_told_of_the_stop(tmp_path: Path) -> None:
    process, url = start(tmp_path / "db")
    try:
        httpx.post(f"{url}/api/v1/tables", json={"name": "t", "columns": {}}, timeout=LIMIT_S)
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=LIMIT_S) as stalled:
            stalled.sendall(
                b"POST /api/v1/tables/t/rows HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n{}\n"
            )
            assert b"100" in stalled.recv(1_000)
            process.send_signal(signal.SIGTERM)
            answer = b""
            while chunk := stalled.recv(65_536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"shutting down" in answer
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()


def test_addresses_others_can_reach_are_refused() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"):
        assert is_loopback(host)
        check_transport(Settings(host=host))
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.com", "", "127.0.0.1.example"):
        assert not is_loopback(host)
        with pytest.raises(AccessDenied, match="--insecure"):
            check_transport(Settings(host=host))
        check_transport(Settings(host=host, insecure=True))
        check_transport(Settings(host=host, trusted_proxies="10.0.0.1"))
        check_transport(Settings(host=host, tls_cert="cert.pem", tls_key="key.pem"))


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}.*choose another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(InvalidInput, match="not a port"):
        listen("127.0.0.1", 65_536)
    with pytest.raises((InvalidInput, Conflict)):
        listen("no.such.host.invalid", 0)


def test_the_command_line_serves(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vectable.cli", "serve", "--port", "0", "--json", "--db", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            text += process.stdout.readline()
        url = json.loads(text)["url"]
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).json()["status"] == "healthy"
    finally:
        process.terminate()
        assert process.wait(LIMIT_S) == 0
    refused = subprocess.run(
        [*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert refused.returncode != 0
    assert "--insecure" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


LOADING = """
import sys, time, os
from vectable import providers
real, gate = providers.load, sys.argv[2]

def load(*arguments, **named):
    print("loading", file=sys.stderr, flush=True)
    while not os.path.exists(gate):
        time.sleep(0.02)
    if os.path.exists(gate + ".broken"):
        raise RuntimeError("a defect")
    return real(*arguments, **named)

providers.load = load
"""


@contextmanager
def served(directory: Path, prelude: str = "", *arguments: str, **variables: str) -> Iterator[str]:
    """The URL of a server process that has not been asked anything."""
    environment = {**os.environ, "VECTABLE_FAKE_EMBEDDINGS": "1", **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", prelude + SERVE, str(directory), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()


def loaded(url: str) -> list[str]:
    models = httpx.get(f"{url}/api/v1/embeddings/models", timeout=LIMIT_S).json()["models"]
    return [m["id"] for m in models if m["loaded"]]


def test_the_default_model_is_loaded_before_anybody_asks(tmp_path: Path) -> None:
    gate = tmp_path / "open"
    with served(tmp_path / "db", LOADING, str(gate)) as url:
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).json()["status"] == "healthy", "while it loads"
        assert loaded(url) == []
        gate.touch()
        assert "all-MiniLM-L6-v2" in until(lambda: loaded(url))[0]


def test_a_model_that_cannot_be_loaded_ahead_leaves_the_server_at_work(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    (tmp_path / "open.broken").touch()
    with served(tmp_path / "db", LOADING, str(tmp_path / "open")) as url:
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).status_code == 200
    with served(tmp_path / "db", VECTABLE_TEXT_MODEL="no-such-model", VECTABLE_FAKE_EMBEDDINGS="0") as url:
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).status_code == 200


def test_what_would_have_to_be_fetched_is_not_loaded_ahead(tmp_path: Path) -> None:
    nothing = {"VECTABLE_FAKE_EMBEDDINGS": "0", "VECTABLE_TEXT_MODEL": "BAAI/bge-large-en-v1.5"}
    shown = "import sys; sys.stderr = open(sys.argv[3], 'w', buffering=1)\n"
    log = tmp_path / "log"
    with served(tmp_path / "db", shown + LOADING, str(tmp_path / "never"), str(log), **nothing) as url:
        assert loaded(url) == []
    assert "loading" not in log.read_text()


def test_more_models_are_loaded_ahead_and_the_image_model_where_it_can_be(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip"))
    settings = {
        "VECTABLE_FAKE_EMBEDDINGS": "0",
        "VECTABLE_TEXT_MODEL": str(write_tiny_bert(tmp_path / "text")),
        "VECTABLE_IMAGE_MODEL": clip,
        "VECTABLE_PRELOAD_MODELS": "no/such-model, hashing/48",
        "VECTABLE_CACHE_DIR": str(tmp_path / "cache"),
    }
    with served(tmp_path / "db", **settings) as url:
        expected = sorted(["hashing/48", clip, settings["VECTABLE_TEXT_MODEL"]])
        until(lambda: loaded(url), lambda found: found == expected)
        models = httpx.get(f"{url}/health", timeout=LIMIT_S).json()["models"]
        assert models == {"text": settings["VECTABLE_TEXT_MODEL"], "image": clip}
    with served(tmp_path / "db", VECTABLE_IMAGE_MODEL="no/such-model") as url:
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).json()["models"]["image"] is None
    (Path(clip) / "tokenizer.json").write_text("{}", "utf-8")  # all there, and of no use
    with served(tmp_path / "db", **settings | {"VECTABLE_PRELOAD_MODELS": ""}) as url:
        until(lambda: httpx.get(f"{url}/health", timeout=LIMIT_S).json()["models"]["image"] is None)
        answer = httpx.post(f"{url}/embed/text", json={"texts": ["a"]}, timeout=LIMIT_S)
        assert answer.status_code == 200, "the server works all the same"


def test_loading_ahead_can_be_declined(tmp_path: Path) -> None:
    shown = "import sys; sys.stderr = open(sys.argv[3], 'w', buffering=1)\n"
    arguments = (str(tmp_path / "never"), str(tmp_path / "log"))
    with served(tmp_path / "db", shown + LOADING, *arguments, VECTABLE_PRELOAD="0") as url:
        assert loaded(url) == []
    assert "loading" not in (tmp_path / "log").read_text()

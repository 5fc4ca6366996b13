"""Downloads, against a small hub of our own that speaks the real hub's protocol over a socket."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.api.test_progress import run_in_terminal
from tests.providers.clip_forms import write_clip
from tests.providers.reference import write_tiny_bert
from tests.providers.shipped_graph import write_shipped_graph
from tests.providers.test_golden import picture
from vectable import providers
from vectable.errors import ModelNotFound, ModelUnavailable, Unsupported
from vectable.testing.provider_suite import assert_same, embed

COMMIT = "0123456789012345678901234567890123456789"


class SmallHub:
    """Serves directories as repositories: /api/models/NAME and /NAME/resolve/COMMIT/FILE."""

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.requests: list[str] = []
        self.status = 200
        self.takes_s = 0.0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        time.sleep(self.takes_s)
        self.requests.append(path)
        kind, _, rest = path.removeprefix("/").partition("/models/")
        name = rest if kind == "api" else path.split("/resolve/")[0].removeprefix("/")
        repository = self.repositories.get(name.removesuffix(f"/revision/{COMMIT}"))
        if self.status != 200:
            self.send(request, self.status, b"{}", {})
        elif repository is None:
            self.send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif kind == "api":
            self.send(request, 200, json.dumps(self.describe(name, repository)).encode(), {})
        else:
            content = (repository / path.split(f"/resolve/{COMMIT}/")[1]).read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.send(
                request, 200, content, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            )

    def describe(self, name: str, repository: Path) -> dict[str, object]:
        files = [path for path in sorted(repository.rglob("*")) if path.is_file()]
        siblings = []
        for path in files:
            content = path.read_bytes()
            entry: dict[str, object] = {"rfilename": str(path.relative_to(repository)), "size": len(content)}
            if path.suffix in {".safetensors", ".onnx"}:
                entry["lfs"] = {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 134,
                }
            siblings.append(entry)
        return {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}

    def send(
        self, request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]
    ) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


@pytest.fixture
def small_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    hub = SmallHub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def test_a_model_is_downloaded_once_and_then_found(small_hub: SmallHub, tmp_path: Path) -> None:
    original = write_tiny_bert(tmp_path / "original")
    (original / "pytorch_model.bin").write_bytes(b"never fetched")
    (original / "README.md").write_text("never fetched")
    small_hub.repositories["owner/tiny"] = original
    heard: list[tuple[str, int, int]] = []
    provider = providers.load(
        "owner/tiny", cache_dir=tmp_path / "graphs", progress=lambda *now: heard.append(now)
    )
    assert provider.model.id == "owner/tiny"
    local = providers.load(str(original), cache_dir=tmp_path / "graphs", allow_paths=True)
    assert provider.model.fingerprint == local.model.fingerprint
    assert_same(embed(provider, ["a man"]), embed(local, ["a man"]))
    done = [now[1] for now in heard]
    assert done == sorted(done)
    assert heard[-1][1] == heard[-1][2] > 10_000
    assert {now[0] for now in heard} >= {"model.safetensors", "tokenizer.json", "1_Pooling/config.json"}
    assert not any("pytorch_model" in path or "README" in path for path in small_hub.requests)

    small_hub.requests.clear()
    assert providers.resolve("owner/tiny").cached
    providers.load("owner/tiny", cache_dir=tmp_path / "graphs", allow_download=False)
    assert small_hub.requests == []


def test_onnx_is_preferred_where_the_repository_ships_it(
    small_hub: SmallHub, tmp_path: Path, minilm_directory: Path
) -> None:
    original = write_shipped_graph(tmp_path / "original", minilm_directory)
    (original / "model.safetensors").write_bytes(b"not needed")
    small_hub.repositories["owner/shipped"] = original
    assert embed(providers.load("owner/shipped"), ["a man"]).shape == (1, 24)
    assert not any("safetensors" in path for path in small_hub.requests)


@pytest.mark.parametrize("form", ["safetensors", "sentence-transformers", "towers"])
def test_clip_models_are_downloaded_whole(form: str, small_hub: SmallHub, tmp_path: Path) -> None:
    small_hub.repositories["owner/clip"] = write_clip(tmp_path / "original", form)
    provider = providers.load("owner/clip", cache_dir=tmp_path / "graphs")
    assert provider.modalities >= {"text", "image"}
    assert embed(provider, ["a cat", picture(30, 20)]).shape == (2, 12)
    assert providers.resolve("owner/clip").type == "multimodal"
    small_hub.requests.clear()
    providers.load("owner/clip", cache_dir=tmp_path / "graphs", allow_download=False)
    assert small_hub.requests == []


def test_an_unknown_repository_is_not_found(small_hub: SmallHub) -> None:
    with pytest.raises(ModelNotFound, match="the model hub has none"):
        providers.load("owner/unheard-of")


def test_a_repository_without_usable_weights_is_refused(small_hub: SmallHub, tmp_path: Path) -> None:
    original = write_tiny_bert(tmp_path / "original")
    (original / "model.safetensors").unlink()
    small_hub.repositories["owner/pickled"] = original
    with pytest.raises(Unsupported, match="ships no weights"):
        providers.load("owner/pickled")


def test_a_failing_hub_is_a_clear_error(small_hub: SmallHub) -> None:
    small_hub.status = 500
    with pytest.raises(ModelUnavailable, match="the hub answered 500"):
        providers.load("all-mpnet-base-v2")


@pytest.mark.parametrize(
    "work",
    [
        'from vectable.cli.entry import run; run(["models", "owner/tiny"])',
        """
        import vectable
        with vectable.connect("memory:") as db:
            t = db.create_table("t", {"title": "string"})
            t.add_embedding_column("e", source="title", model="owner/tiny")
        """,
        'import vectable; vectable.connect("memory:").embed("a man", model="owner/tiny")',
    ],
)
def test_a_terminal_shows_the_download(small_hub: SmallHub, tmp_path: Path, work: str) -> None:
    small_hub.repositories["owner/tiny"] = write_tiny_bert(tmp_path / "original")
    small_hub.takes_s = 0.2
    seen = run_in_terminal(work)
    assert "fetch owner/tiny" in seen
    assert "bytes/s" in seen

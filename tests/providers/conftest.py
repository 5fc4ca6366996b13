from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.providers.reference import write_tiny_bert
from vectable import providers
from vectable.interfaces import EmbeddingProvider
from vectable.providers.weights import locate


@pytest.fixture(autouse=True)
def _no_fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the real models, whatever the environment says."""
    monkeypatch.delenv("VECTABLE_FAKE_EMBEDDINGS", raising=False)
    monkeypatch.delenv("APP_USE_FAKE_EMBEDDINGS", raising=False)


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def minilm(graph_cache: Path) -> EmbeddingProvider:
    """The default model from the installed weights package."""
    return providers.load("all-MiniLM-L6-v2", cache_dir=graph_cache, allow_download=False, fake=False)


@pytest.fixture
def load_path(tmp_path: Path) -> Callable[[Path], EmbeddingProvider]:
    """Loads a model's directory."""
    return lambda directory: providers.load(str(directory), cache_dir=tmp_path / "graphs", allow_paths=True)


@pytest.fixture
def tiny_bert(tmp_path: Path) -> Path:
    return write_tiny_bert(tmp_path / "tiny")


@pytest.fixture(scope="session")
def minilm_directory() -> Path:
    located = locate("all-MiniLM-L6-v2")
    assert located is not None
    return located.directory

"""Every provider passes the suite that is shipped for authors of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.providers.reference import write_tiny_bert
from tests.providers.shipped_graph import write_shipped_graph
from vectable import providers
from vectable.interfaces import EmbeddingProvider
from vectable.testing.provider_suite import ImageSuite, ProviderSuite


class TestHashing(ProviderSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> EmbeddingProvider:
        return providers.load("hashing/64")


class TestMiniLM(ProviderSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, minilm: EmbeddingProvider) -> EmbeddingProvider:
        return minilm


class TestShippedGraph(ProviderSuite):
    """A model whose repository ships ONNX without pooling, with prompts."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, tmp_path_factory: pytest.TempPathFactory, minilm_directory: Path) -> EmbeddingProvider:
        directory = tmp_path_factory.mktemp("shipped") / "model"
        write_shipped_graph(directory, minilm_directory, prompts={"query": "query: ", "passage": ""})
        return providers.load(str(directory), allow_paths=True)


class TestEfficientNet(ImageSuite):
    """A model that embeds images only."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, graph_cache: Path) -> EmbeddingProvider:
        return providers.load(
            "ml-illustrated/efficientnet-lite0", cache_dir=graph_cache, allow_download=False, fake=False
        )


class TestStandIn(ProviderSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> EmbeddingProvider:
        return providers.load("all-mpnet-base-v2", fake=True)


def test_suite_fails_a_provider_whose_vectors_depend_on_the_batch(tmp_path: Path) -> None:
    directory = write_tiny_bert(tmp_path / "tiny")
    provider = providers.load(str(directory), cache_dir=tmp_path, allow_paths=True)
    forward = provider._forward  # type: ignore[attr-defined]

    def dependent(ids: list) -> object:
        return forward(ids) + 0.01 * len(ids)

    provider._forward = dependent  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="differ"):
        ProviderSuite().test_a_vector_does_not_depend_on_its_batch(provider)

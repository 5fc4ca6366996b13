"""Text models on OpenVINO: the suite in each precision, and how near they are to fp32 on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.providers.reference import WORDS, write_tiny_bert
from tests.providers.shipped_graph import write_shipped_graph
from vectable import providers
from vectable.errors import ModelUnavailable, Unsupported
from vectable.interfaces import EmbeddingProvider
from vectable.providers.int8_graph import quantised
from vectable.providers.openvino import OpenVinoSession
from vectable.testing.provider_suite import LONG_TEXT, SHORT_TEXTS, UNICODE_TEXTS, ProviderSuite, embed

NAME = "all-MiniLM-L6-v2?runtime=openvino"
TEXTS = [*SHORT_TEXTS, LONG_TEXT, *UNICODE_TEXTS]


def bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module", params=["fp32", "bf16", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    if request.param == "bf16" and not bf16():
        pytest.skip("this processor has no bf16 arithmetic")
    return str(request.param)


class TestOpenVino(ProviderSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, precision: str, graph_cache: Path) -> EmbeddingProvider:
        return providers.load(f"{NAME}&precision={precision}", cache_dir=graph_cache, fake=False)


def test_it_is_as_near_to_fp32_as_its_precision_allows(
    precision: str, minilm: EmbeddingProvider, graph_cache: Path
) -> None:
    provider = providers.load(f"{NAME}&precision={precision}", cache_dir=graph_cache, fake=False)
    found, expected = embed(provider, TEXTS), embed(minilm, TEXTS)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1) / lengths
    print(f"{precision}: cosine to fp32 at least {cosines.min():.6f}, {cosines.mean():.6f} on average")
    assert cosines.min() > {"fp32": 0.999999, "bf16": 0.9998, "int8": 0.99}[precision]
    assert provider.model.fingerprint != minilm.model.fingerprint
    assert provider.model.fingerprint.startswith(f"openvino-{precision}")


def test_the_card_names_runtime_and_precision(precision: str) -> None:
    card = providers.resolve(f"{NAME}&precision={precision}")
    assert (card.runtime, card.precision, card.dimensions, card.cached) == ("openvino", precision, 384, True)
    assert providers.resolve(card.id) == card


def test_graphs_without_pooling_run_too(precision: str, tmp_path: Path, minilm_directory: Path) -> None:
    directory = write_shipped_graph(tmp_path / "shipped", minilm_directory)
    name = f"{directory}?runtime=openvino&precision={precision}"
    if precision == "int8":
        with pytest.raises(Unsupported, match="no matrices"):  # this one has none
            providers.load(name, allow_paths=True, cache_dir=tmp_path)
        return
    found = embed(providers.load(name, allow_paths=True), TEXTS)
    expected = embed(providers.load(str(directory), allow_paths=True), TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-5 if precision == "fp32" else 0.05)


def test_a_matrix_in_int8_is_itself_to_half_a_scale() -> None:
    matrix = np.random.default_rng(1).normal(0, [0.01, 1, 100, 0], (64, 4)).astype(np.float32)
    values, scale = quantised(matrix)
    assert values.dtype == np.int8
    assert (np.abs(values * scale - matrix) <= scale * 0.501).all()


def test_texts_are_padded_alike_whatever_they_come_with_and_never_beyond_the_positions(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    infer = OpenVinoSession._infer

    def noted(self: OpenVinoSession, names: list[str], feed: dict[str, Any]) -> list[Any]:
        shapes.append(feed["input_ids"].shape)
        return infer(self, names, feed)

    monkeypatch.setattr(OpenVinoSession, "_infer", noted)
    directory = write_tiny_bert(tmp_path / "tiny", max_tokens=13, positions=13)
    name = f"{directory}?runtime=openvino&precision={precision}"
    provider = providers.load(name, allow_paths=True, cache_dir=tmp_path, fake=False)
    texts = [" ".join(WORDS * 4)[:length] for length in (200, 3, 60)]
    assert max(provider.lengths(texts)) == 13
    together = embed(provider, texts)
    assert shapes == [(1, 8), (2, 13)]
    alone = np.concatenate([embed(provider, [text]) for text in texts])
    assert shapes[2:] == [(1, 13), (1, 8), (1, 13)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_weights_that_cannot_be_had_are_told() -> None:
    with pytest.raises(ModelUnavailable, match="not on this machine"):
        providers.load("all-mpnet-base-v2?runtime=openvino", allow_download=False, fake=False)

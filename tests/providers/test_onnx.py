"""Loaded models: what they read from their own files, shipped graphs, lifetime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.providers.reference import write_tiny_bert
from tests.providers.shipped_graph import SIZE, table, write_shipped_graph
from vectable import providers
from vectable.errors import ModelUnavailable, ProviderError, Unsupported
from vectable.interfaces import EmbeddingProvider
from vectable.providers.model_config import POOLINGS
from vectable.providers.passes import passes as token_passes
from vectable.testing.provider_suite import embed

Load = Callable[[Path], EmbeddingProvider]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_shipped_graphs_are_pooled_as_their_config_says(
    pooling: str, tmp_path: Path, minilm_directory: Path, load_path: Load
) -> None:
    provider = load_path(write_shipped_graph(tmp_path / "m", minilm_directory, pooling=pooling))
    long, short = embed(provider, ["man bread food", "man"])
    for ids, found in (([101, 2158, 7852, 2833, 102], long), ([101, 2158, 102], short)):
        tokens = table()[ids] + np.eye(2, SIZE)[0]
        expected = {
            "mean": tokens.mean(axis=0),
            "cls": tokens[0],
            "max": tokens.max(axis=0),
            "mean_sqrt_len": tokens.sum(axis=0) / np.sqrt(len(ids)),
        }
        np.testing.assert_allclose(found, expected[pooling], atol=1e-5)
    assert not provider.normalizes


def test_prompts_of_the_config_are_put_before_the_text(tmp_path: Path, load_path: Load) -> None:
    prompts = {"query": "quick ", "document": "the plane "}
    provider = load_path(write_tiny_bert(tmp_path / "prompted", prompts=prompts))
    plain = load_path(write_tiny_bert(tmp_path / "plain"))
    assert provider.prompt("query") == "quick "
    for purpose, prompt in prompts.items():
        found = embed(provider, ["man"], purpose)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, embed(plain, [prompt + "man"]))


def test_text_is_lowercased_where_the_config_says(tiny_bert: Path, load_path: Load) -> None:
    tokenizer = json.loads((tiny_bert / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (tiny_bert / "tokenizer.json").write_text(json.dumps(tokenizer))
    cased = embed(load_path(tiny_bert), ["MAN", "man"])
    (tiny_bert / "sentence_bert_config.json").write_text('{"max_seq_length": 12, "do_lower_case": true}')
    lowered = embed(load_path(tiny_bert), ["MAN", "man"])
    assert np.abs(cased[0] - cased[1]).max() > 1e-3
    np.testing.assert_array_equal(lowered[0], lowered[1])


def test_a_cut_of_long_text_changes_nothing(tiny_bert: Path, load_path: Load) -> None:
    provider = load_path(tiny_bert)
    # White space without end: the first looks at the text find too few tokens.
    sparse = (" " * 1000).join(["the", "quick", "man"] * 20)
    words = " ".join(["the", "quick", "man"] * 20)
    np.testing.assert_array_equal(embed(provider, [sparse]), embed(provider, [words]))
    assert provider.lengths([sparse]) == [12]


def test_passes_are_sorted_bounded_and_complete() -> None:
    lengths = [256, 3, 100, 7, 256, 256, 256, 256, 5] + [12] * 200
    passes = list(token_passes(lengths))
    assert sorted(row for rows in passes for row in rows) == list(range(len(lengths)))
    assert all(len(rows) * max(lengths[row] for row in rows) <= 1024 for rows in passes)
    assert list(token_passes([5000])) == [[0]]


def test_a_given_executor_is_used_and_left_open(tiny_bert: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        provider = providers.load(str(tiny_bert), cache_dir=tmp_path, allow_paths=True, executor=executor)
        busy = asyncio.run(_embed_while_busy(provider, executor))
        assert busy, "the pass did not wait for the executor's thread"
        asyncio.run(provider.close())
        assert executor.submit(lambda: 5).result() == 5


async def _embed_while_busy(provider: EmbeddingProvider, executor: ThreadPoolExecutor) -> bool:
    import threading

    gate = threading.Event()
    executor.submit(gate.wait)
    embedding = asyncio.ensure_future(provider.embed(["a man"], "document"))
    await asyncio.sleep(0.05)
    waiting = not embedding.done()
    gate.set()
    assert (await embedding).shape == (1, 16)
    return waiting


def test_a_cancelled_call_stops_before_its_next_pass(tiny_bert: Path, tmp_path: Path) -> None:
    import threading

    with ThreadPoolExecutor(1) as executor:
        provider = providers.load(str(tiny_bert), cache_dir=tmp_path, allow_paths=True, executor=executor)
        forward, started, gate, passes = provider._forward, threading.Event(), threading.Event(), []  # type: ignore[attr-defined]

        def slow(ids: list) -> object:
            passes.append(len(ids))
            started.set()
            gate.wait(100)
            return forward(ids)

        provider._forward = slow  # type: ignore[attr-defined]

        async def cancel() -> None:
            call = asyncio.ensure_future(provider.embed(["a man"] * 5_000, "document"))
            await asyncio.to_thread(started.wait, 100)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        asyncio.run(cancel())
        gate.set()
        executor.submit(lambda: None).result()
    assert len(passes) == 1


def test_a_closed_model_says_so(tiny_bert: Path, load_path: Load) -> None:
    provider = load_path(tiny_bert)
    asyncio.run(provider.close())
    asyncio.run(provider.close())
    with pytest.raises(ProviderError, match="closed"):
        embed(provider, ["text"])


def test_quantised_graphs_are_refused(tmp_path: Path, minilm_directory: Path, load_path: Load) -> None:
    import onnx

    directory = write_shipped_graph(tmp_path / "m", minilm_directory)
    path = directory / "onnx" / "model.onnx"
    model = onnx.load(str(path))
    model.graph.node.append(
        onnx.helper.make_node("DynamicQuantizeLinear", ["last_hidden_state"], ["q", "scale", "zero"])
    )
    onnx.save(model, str(path))
    with pytest.raises(Unsupported, match="quantised"):
        load_path(directory)


def test_a_graph_that_is_no_graph_is_a_clear_error(
    tmp_path: Path, minilm_directory: Path, load_path: Load
) -> None:
    directory = write_shipped_graph(tmp_path / "m", minilm_directory)
    (directory / "onnx" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_path(directory)
    (directory / "onnx" / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_path(directory)


def test_a_damaged_tokenizer_is_a_clear_error(tiny_bert: Path, load_path: Load) -> None:
    (tiny_bert / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match=r"the tokenizer in .* cannot be read"):
        load_path(tiny_bert)

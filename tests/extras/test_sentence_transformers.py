"""The extra `sentence-transformers`, tested for real in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extras.environment import environment, run_inside
from tests.project.test_dependencies import requirements
from vectable import providers
from vectable.errors import InvalidInput, Unsupported


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_models_run_by_sentence_transformers() -> None:
    brought = {each.name for each in requirements("sentence-transformers")} - {
        each.name for each in requirements("images")
    }
    wanted = [str(each) for each in requirements("sentence-transformers") if each.name in brought]
    python = environment("sentence-transformers", wanted, [f"{name}==" for name in brought], needs_gb=8)
    said = run_inside(python, Path(__file__).with_name("inside_sentence_transformers.py"))
    assert "passed" in said
    assert "skipped" not in said


def test_without_the_extra_its_absence_is_told() -> None:
    with pytest.raises(Unsupported, match="not installed") as caught:
        providers.load("all-MiniLM-L6-v2?runtime=sentence-transformers")
    assert "vectable[sentence-transformers]" in (caught.value.hint or "")


def test_a_choice_of_runtime_is_part_of_the_name() -> None:
    card = providers.resolve("all-minilm-l6-v2?runtime=sentence-transformers")
    assert card.id == "sentence-transformers/all-MiniLM-L6-v2?runtime=sentence-transformers"
    assert (card.dimensions, card.runtime, card.precision) == (384, "sentence-transformers", "fp32")
    assert providers.resolve(card.id) == card
    stand_in = providers.load(card.id, fake=True)
    assert stand_in.model.id == "hashing/384?for=sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    "name",
    [
        "all-MiniLM-L6-v2?runtime=tensorflow",
        "all-MiniLM-L6-v2?runtime=",
        "all-MiniLM-L6-v2?runtime=sentence-transformers&precision=int8",
        "all-MiniLM-L6-v2?runtime=openvino&precision=int3",
        "all-MiniLM-L6-v2?precision=int8",
        "?runtime=openvino",
    ],
)
def test_a_choice_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        providers.resolve(name)

"""The steps of a query: immutable, checked, the same in every spelling."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vectable.core.predicate import Clause, Field
from vectable.core.query import Query
from vectable.core.schema import Column, ColumnType, Embedding, Table, Version
from vectable.errors import InvalidFilter, InvalidInput, UnknownColumn
from vectable.handles.chain import Chain
from vectable.handles.columns import Columns


def a_table(vectors: int = 1) -> Table:
    names = {"id": "string", "stars": "int", "language": "string", "count": "int", "meta": "json"}
    columns = [Column(name=name, type=ColumnType(type_)) for name, type_ in names.items()]
    for i in range(vectors):
        version = Version(dimensions=3)
        embedding = Embedding(model="m", source="language", template="{language}")
        columns.append(
            Column(
                name=f"emb{i}",
                type=ColumnType.VECTOR,
                versions=(version,),
                active=version.id,
                embedding=embedding,
            )
        )
    return Table(name="repos", key=(columns[0].id,), columns=tuple(columns))


class Steps(Columns, Chain["Steps"]):
    """The chain alone, without a database."""

    def __init__(self, request: Query | None = None, vectors: int = 1) -> None:
        self.request = request or Query()
        self.vectors = vectors
        self._definition = a_table(vectors)

    @property
    def definition(self) -> Table:
        return self._definition

    def count(self) -> int:
        return 0

    def _spec(self) -> Query:
        return self.request

    def _derive(self, query: Query) -> Steps:
        return Steps(query, self.vectors)


t = Steps()


def test_every_step_gives_a_new_query() -> None:
    first = t.where(t.stars >= 5)
    second = first.where(language="Python").limit(3)
    assert t.request == Query()
    assert first.request.predicate == (t.stars >= 5)
    assert second.request.predicate == (t.stars >= 5) & (t.language == "Python")
    assert (first.request.limit, second.request.limit) == (100, 3)


@pytest.mark.parametrize(
    "spelled",
    [
        lambda: t.where((t.stars >= 5) & (t.language == "Python")),
        lambda: t.where(t.stars >= 5, t.language == "Python"),
        lambda: t.where(t.stars >= 5).where(language="Python"),
        lambda: t.where("stars >= ? and language = ?", 5, "Python"),
        lambda: t.where("stars >= 5", language="Python"),
        lambda: t.where(
            [
                {"column": "stars", "operator": ">=", "value": 5},
                {"column": "language", "operator": "=", "value": "Python"},
            ]
        ),
        lambda: t.where({"sql": "stars >= ? and language = ?", "params": [5, "Python"]}),
        lambda: t.where(None).where(t.stars >= 5, None, t.language == "Python"),
    ],
)
def test_all_spellings_of_a_filter_are_one(spelled: Any) -> None:
    assert spelled().request.predicate == (t.stars >= 5) & (t.language == "Python")


def test_no_condition_changes_nothing() -> None:
    assert t.where().request == Query()
    assert t.where(None).request == Query()
    assert t.where(language=None).request.predicate == t.language.is_null()


def test_what_is_no_condition_is_explained() -> None:
    with pytest.raises(InvalidFilter, match=r't\["count"\]'):
        t.where(t.count == 3)
    with pytest.raises(InvalidFilter, match=r"t\.language == True"):
        t.where(t.language)
    with pytest.raises(InvalidFilter, match="a int is not a filter"):
        t.where(5)
    with pytest.raises(InvalidFilter):
        t.where("stars >= ?")
    with pytest.raises(InvalidFilter):
        t.where("stars >= ?", 1, 2)


def test_columns_are_attributes_and_items() -> None:
    clause = t.stars >= 5
    assert isinstance(clause, Clause)
    assert clause == (t["stars"] >= 5)
    assert isinstance(t["count"], Field)
    assert callable(t.count)
    assert t["meta.stars"].name == t.meta["stars"].name == "meta.stars"
    assert t["emb0.state"].name == t.emb0.state.name
    assert "stars" in dir(t)


def test_a_misspelt_column_says_what_exists() -> None:
    with pytest.raises(UnknownColumn, match="did you mean 'language'"):
        t.langage  # noqa: B018
    with pytest.raises(UnknownColumn, match="known columns: count, emb0"):
        t["zzz"]
    with pytest.raises(UnknownColumn, match="did you mean 'order_by'"):
        t.order_bye  # noqa: B018
    assert not hasattr(t, "langage")
    assert hasattr(t, "language")
    assert getattr(t, "_repr_mimebundle_", None) is None
    with pytest.raises(UnknownColumn, match="string"):
        t[0]  # type: ignore[index]
    with pytest.raises(TypeError):
        iter(t)  # type: ignore[call-overload]


def test_similar_finds_the_only_vector_column() -> None:
    similar = t.similar("hooks", threshold=0.3, exact=True).request.similar
    assert similar is not None
    assert (similar.column, similar.to, similar.threshold, similar.exact) == ("emb0", "hooks", 0.3, True)
    assert t.similar("hooks", on=t.emb0).request.similar == t.similar("hooks", "emb0").request.similar


def test_similar_needs_a_vector_column() -> None:
    with pytest.raises(InvalidInput, match="emb0, emb1"):
        Steps(vectors=2).similar("hooks")
    with pytest.raises(InvalidInput, match="add_embedding_column"):
        Steps(vectors=0).similar("hooks")
    with pytest.raises(InvalidInput, match="vector columns: emb0"):
        t.similar("hooks", on="language")
    with pytest.raises(UnknownColumn, match="did you mean 'emb0'"):
        t.similar("hooks", on="emb9")


def test_images_and_vectors_pass_as_they_are() -> None:
    picture = Image.new("RGB", (2, 2), "red")
    sent = t.similar(picture).request.similar
    assert sent is not None
    assert Image.open(io.BytesIO(sent.to)).getpixel((0, 0)) == (255, 0, 0)
    vector = np.ones(3)
    kept = t.similar(vector).request.similar
    assert kept is not None
    assert kept.to is vector


def test_select_order_and_pages() -> None:
    asked = t.select("id", t.stars).order_by("-stars", t.language).limit(5).offset(2).request
    assert asked.select == ("id", "stars")
    assert [str(term) for term in asked.order_by] == ["-stars", "language"]
    assert (asked.limit, asked.offset) == (5, 2)
    assert t.select(["id", "stars"]).request.select == ("id", "stars")
    assert t.order_by(["-similarity_score"]).request.order_by[0].column == "score"
    assert t.cursor("abc").request.cursor == "abc"
    assert t.limit(0).request.limit == 0


@pytest.mark.parametrize("count", [-1, 10_001, 2.5, "many", None])
def test_limits_out_of_range_are_refused(count: Any) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        t.limit(count)


def test_other_bad_steps_are_refused() -> None:
    with pytest.raises(InvalidInput, match="offset"):
        t.offset(-1)
    with pytest.raises(InvalidInput, match="threshold"):
        t.similar("hooks", threshold=float("nan"))
    with pytest.raises(InvalidInput, match="sort term"):
        t.order_by("-")
    with pytest.raises(InvalidInput, match="named by a string"):
        t.select(3)  # type: ignore[arg-type]

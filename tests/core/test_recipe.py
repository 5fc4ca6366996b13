"""Recipes: templates, rendering, content keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectable.core.recipe import (
    check_template,
    content_key,
    parse_template,
    renamed_template,
    render,
    source_template,
    template_columns,
)
from vectable.core.schema import Column, ColumnType, Table
from vectable.errors import InvalidInput, UnknownColumn


def table(**columns: ColumnType) -> Table:
    made = (Column(name="id", type=ColumnType.STRING), *(Column(name=n, type=t) for n, t in columns.items()))
    return Table(name="t", key=(made[0].id,), columns=made)


def test_rendering_puts_values_into_the_text() -> None:
    row = {"title": "Hooks", "n": 7, "x": 0.5, "ok": True, "off": False, "tags": ["a", "b"]}
    template = "{title}\n{n} {x} {ok} {off} {{kept}} {tags}"
    assert render(template, row) == "Hooks\n7 0.5 true false {kept} a, b"


@pytest.mark.parametrize("row", [{"title": None, "body": "x"}, {"body": "x"}])
def test_a_null_source_leaves_nothing_to_embed(row: dict[str, object]) -> None:
    assert render("{title}\n{body}", row) is None
    assert render("{title}\n{body}", row, {"title": "untitled"}) == "untitled\nx"
    assert render("{title}\n{body}", row, {"title": ""}) == "\nx"


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0\u2003"])
def test_blank_text_is_nothing_to_embed(blank: str) -> None:
    assert render("{title}", {"title": blank}) is None
    assert render(" {title} ", {"title": blank}) is None


def test_braces_and_percent_signs_in_values_are_only_text() -> None:
    assert render("{a} {b}", {"a": "{b}", "b": "%s {0} {{"}) == "{b} %s {0} {{"


def test_an_image_column_alone_gives_its_bytes() -> None:
    assert render("{picture}", {"picture": b"\x89PNG"}) == b"\x89PNG"


@pytest.mark.parametrize(
    "template",
    ["{a.b}", "{a[0]}", "{a!r}", "{a:>10}", "{}", "{0}", "{a b}", "{", "}", "{a", "{a:{b}}", "{__x}"],
)
def test_templates_take_plain_column_names_only(template: str) -> None:
    with pytest.raises(InvalidInput):
        parse_template(template)


@pytest.mark.parametrize("name", ["title", "größe", "標題", "x²", "_x", "class", "Ⅷ"])
def test_every_name_a_column_may_have_can_be_embedded(name: str) -> None:
    column = Column(name=name, type=ColumnType.STRING)
    template = source_template(column)
    assert template_columns(template) == [name]
    assert render(template, {name: "text"}) == "text"


def test_columns_of_a_template_come_once_each_in_order() -> None:
    assert template_columns("{b} {a} {b} {{c}}") == ["b", "a"]


@given(
    literals=st.lists(st.text("ab{}%\\ \n", max_size=6), min_size=2, max_size=4),
    names=st.lists(st.sampled_from(["a", "b", "title"]), min_size=1, max_size=3),
)
def test_renaming_changes_only_the_name(literals: list[str], names: list[str]) -> None:
    pieces = [literals[0].replace("{", "{{").replace("}", "}}")]
    for literal, name in zip(literals[1:], names, strict=False):
        pieces += ["{" + name + "}", literal.replace("{", "{{").replace("}", "}}")]
    template = "".join(pieces)
    renamed = renamed_template(template, "a", "z")
    row = {"a": "A", "b": "B", "title": "T"}
    assert render(renamed, {"z": "A", "b": "B", "title": "T"}) == render(template, row)
    assert "a" not in template_columns(renamed)


def test_a_template_fits_its_table() -> None:
    fits = table(
        title=ColumnType.STRING, stars=ColumnType.INT, tags=ColumnType.STRINGS, picture=ColumnType.IMAGE
    )
    assert check_template("{title} {stars} {tags}", fits) is False
    assert check_template("{picture}", fits) is True


@pytest.mark.parametrize(
    "template", ["no column", "", "{meta}", "{picture} {title}", "{title} {picture}", "{when}"]
)
def test_a_template_that_cannot_be_embedded_is_refused(template: str) -> None:
    fits = table(
        title=ColumnType.STRING, meta=ColumnType.JSON, picture=ColumnType.IMAGE, when=ColumnType.TIMESTAMP
    )
    with pytest.raises(InvalidInput):
        check_template(template, fits)


def test_a_misspelt_source_says_what_exists() -> None:
    with pytest.raises(UnknownColumn, match="did you mean 'title'"):
        check_template("{titel}", table(title=ColumnType.STRING))


def test_a_content_key_names_model_prompt_kind_and_content() -> None:
    keys = {
        content_key("m1@a", "", "text"),
        content_key("m2@a", "", "text"),
        content_key("m1@a", "query: ", "text"),
        content_key("m1@a", "", "text "),
        content_key("m1@a", "", b"text"),
        # Parts that run together the same way are still different parts.
        content_key("m1@at", "", "ext"),
        content_key("m1@a", "t", "ext"),
    }
    assert len(keys) == 7
    assert all(len(key) == 32 for key in keys)


def test_a_content_key_never_changes_between_releases() -> None:
    assert content_key("model@fingerprint", "", "A man is eating food.").hex() == GOLDEN


def test_text_that_is_not_unicode_has_no_content_key() -> None:
    with pytest.raises(InvalidInput):
        content_key("m", "", "\ud800")


GOLDEN = "7714f801f7a4739a9b46c15fd99621a522ead52df703d7a452b5f458c0453158"

"""Settings: where they come from, and that none is taken that cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vectable
from vectable import Settings
from vectable.config import force
from vectable.config.sources import unknown_variables
from vectable.errors import InvalidInput


def test_arguments_win_over_variables_over_plain_names_over_defaults() -> None:
    environ = {
        "VECTABLE_TEXT_MODEL": "a",
        "TEXT_MODEL": "b",
        "PORT": "4000",
        "CACHE_TTL": "5",
        "CACHE_MAX_SIZE": "",
    }
    found = Settings.from_environment(environ, inline_cells=7, host=None)
    assert (found.text_model, found.port, found.cache_ttl_ms, found.inline_cells) == ("a", 4_000, 5, 7)
    assert (found.cache_max_size, found.host) == (10_000, "127.0.0.1")
    assert Settings.from_environment(environ, text_model="c").text_model == "c"


def test_the_order_of_sources_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.env"
    file.write_text(
        "# a comment\nexport VECTABLE_PORT=1\nPORT=2\nTEXT_MODEL='a $b'\nCACHE_TTL=7\n"
        "VECTABLE_CACHE_MAX_SIZE=\n"
        "BATCH_SIZE=9 # nine\nVECTABLE_HOTS=x\n",
        "utf-8",
    )
    environ = {"VECTABLE_ENV_FILE": str(file), "PORT": "3", "CACHE_TTL": ""}
    found = {each.name: (each.value, each.source) for each in force(environ, host="::1")}
    assert found["host"] == ("::1", "argument")
    assert found["port"] == (3, "PORT"), "a plain name of the environment beats any name of the file"
    assert found["text_model"] == ("a $b", f"{file}: TEXT_MODEL")
    assert found["cache_ttl_ms"] == (7, f"{file}: CACHE_TTL"), "empty counts as not set"
    assert found["cache_max_size"] == (10_000, "default")
    assert found["batch_size"] == (9, f"{file}: BATCH_SIZE")
    assert Settings.from_environment(environ | {"VECTABLE_PORT": "4"}).port == 4
    [(variable, hint)] = unknown_variables(environ)
    assert variable == "VECTABLE_HOTS"
    assert "'VECTABLE_HOST'" in hint


def test_no_file_is_read_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=1\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({}).port == 3_000
    assert Settings.from_environment({"VECTABLE_ENV_FILE": ""}).port == 3_000
    (tmp_path / "broken").write_bytes(b"PORT=\xff\n")
    with pytest.raises(InvalidInput, match="broken cannot be read: it is not UTF-8"):
        Settings.from_environment({"VECTABLE_ENV_FILE": "broken"})
    with pytest.raises(InvalidInput, match="no such file cannot be read: it is no file"):
        Settings.from_environment({"VECTABLE_ENV_FILE": "no such file"})
    for line in ("PORT=soon", "VECTABLE_RELOAD=soon"):
        (tmp_path / ".env").write_text(line, "utf-8")
        with pytest.raises(InvalidInput, match=rf"^\.env: {line.replace('=', '=.')}"):
            Settings.from_environment({"VECTABLE_ENV_FILE": ".env"})
    (tmp_path / ".env").write_text('of: others\n# VECTABLE_PORT 1\nPORT=2\nVECTABLE_DB="torn\n', "utf-8")
    with pytest.raises(InvalidInput, match=r"^\.env: VECTABLE_DB in line 4 cannot be read"):
        Settings.from_environment({"VECTABLE_ENV_FILE": ".env"})
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPORT=2\r\nof: others\r\nBARE\r\n")
    assert Settings.from_environment({"VECTABLE_ENV_FILE": ".env"}).port == 2
    (tmp_path / ".env").unlink()
    assert Settings.from_environment({"VECTABLE_ENV_FILE": ".env"}).port == 3_000, "it need not be there"


@pytest.mark.parametrize(
    ("environ", "format"),
    [
        ({"NODE_ENV": "production"}, "json"),
        ({"NODE_ENV": "development"}, "text"),
        ({"NODE_ENV": "staging"}, "text"),
        ({"NODE_ENV": "production", "VECTABLE_LOG_FORMAT": "text"}, "text"),
    ],
)
def test_node_env_is_the_format_of_logs(environ: dict[str, str], format: str) -> None:
    assert Settings.from_environment(environ).log_format == format


def test_every_plain_name_of_the_service_is_read() -> None:
    environ = {
        "PORT": "1",
        "TEXT_MODEL": "t",
        "IMAGE_MODEL": "i",
        "CACHE_MAX_SIZE": "2",
        "CACHE_TTL": "3",
        "BATCH_SIZE": "4",
        "MAX_WORKERS": "5",
        "NODE_ENV": "production",
    }
    from_there = {each.source for each in force(environ) if each.source != "default"}
    assert from_there == set(environ)


@pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
def test_fake_embeddings_have_two_names(word: str) -> None:
    assert Settings.from_environment({"VECTABLE_FAKE_EMBEDDINGS": word}).fake_embeddings
    assert Settings.from_environment({"APP_USE_FAKE_EMBEDDINGS": word}).fake_embeddings
    both = {"VECTABLE_FAKE_EMBEDDINGS": "0", "APP_USE_FAKE_EMBEDDINGS": word}
    assert not Settings.from_environment(both).fake_embeddings


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"VECTABLE_FAKE_EMBEDDINGS": "maybe"}, "VECTABLE_FAKE_EMBEDDINGS='maybe'"),
        ({"CACHE_TTL": "soon"}, "CACHE_TTL='soon' is not a whole number"),
        ({"VECTABLE_SEARCH_THREADS": "0"}, "give 1 to"),
        ({"VECTABLE_INLINE_CELLS": "-1"}, "VECTABLE_INLINE_CELLS='-1' is out of bounds"),
        ({"PORT": "70000"}, "PORT='70000' is out of bounds (give 0 to 65535)"),
        (
            {"VECTABLE_SYNCHRONOUS": "off"},
            "VECTABLE_SYNCHRONOUS='off' is no choice there is (use full or normal)",
        ),
    ],
)
def test_variables_that_cannot_be_meant(environ: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_environment(environ)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inline_cell": 5}, "did you mean 'inline_cells'"),
        ({"inline_cells": "5"}, "a whole number, not str"),
        ({"inline_cells": True}, "a whole number, not bool"),
        ({"fake_embeddings": "no"}, "true or false, not str"),
        ({"text_model": 5}, "text, not int"),
        ({"synchronous": "off"}, "use full or normal"),
        ({"search_threads": 0}, "give 1 to"),
        ({"resident_bytes": -1}, "give 0 to"),
    ],
)
def test_arguments_that_cannot_be_meant(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        vectable.connect("memory:", **settings)
    assert words in str(caught.value)


def test_paths_may_be_path_objects(tmp_path: Path) -> None:
    assert Settings.from_environment({}, cache_dir=tmp_path).cache_directory == tmp_path
    with vectable.connect(db=tmp_path / "db", fake_embeddings=True) as db:
        assert Path(db.url) == tmp_path / "db"

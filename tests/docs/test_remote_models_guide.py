"""docs/remote-models.md is true: its file is accepted, its snippets run against a server on this machine, and
it names every field there is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_docs import PROGRAM, ROOT, blocks, run
from tests.providers.misbehaving_server import failing, misbehaving_server
from vectable.providers.openai_models import Endpoint, Model

PAGE = ROOT / "docs" / "remote-models.md"


def test_the_guide_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDINGS_KEY", "a-key-of-the-guide")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with misbehaving_server(1536) as server, misbehaving_server(1536) as backup:
        [declared] = blocks(PAGE, "toml")
        declared = declared.replace("http://127.0.0.1:8080/v1", server.url)
        (tmp_path / "models.toml").write_text(declared.replace("http://127.0.0.1:8081/v1", backup.url))
        snippets = blocks(PAGE, "python")
        shown = run("\n".join(snippets[:-1]), tmp_path)
        assert "Trail running shoes" in shown.splitlines()[0]
        assert "(2, 1536)" in shown
        assert "nothing was sent" in shown
        assert "'cap': '0.02'" in shown
        assert server.requests[0].headers["authorization"] == "Bearer a-key-of-the-guide"
        assert server.requests[0].body["model"] == "text-embedding-3-small"
        assert backup.requests == []

        server.always = failing(401)
        shown = run("\n".join(["import vectable", snippets[-1]]), tmp_path)
        assert shown.splitlines() == [f"{server.host} closed 1 1", f"{backup.host} closed 1 0"]
        assert "authorization" not in backup.requests[0].headers
        assert backup.requests[0].body["model"] == "embed-small"


def test_the_command_of_the_guide_lists_the_model(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(blocks(PAGE, "toml")[0])
    [command] = blocks(PAGE, "sh")
    done = subprocess.run(
        [*command.replace("vectable", PROGRAM).split()[1:]],
        env={**os.environ, "VECTABLE_MODELS_FILE": "models.toml"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "product-texts" in done.stdout


def test_every_field_is_told() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"[a-z_]+", row)}
    assert told == set(Model.model_fields) | set(Endpoint.model_fields)

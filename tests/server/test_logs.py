"""Logs: one line an event, for people or programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from vectable.config import Settings
from vectable.server.logs import log_to


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("vectable")
    before = list(root.handlers), root.level, own.level
    yield
    root.handlers, (root.level, own.level) = before[0], before[1:]


def test_json_lines_are_one_object_each() -> None:
    stream = io.StringIO()
    log_to(stream, Settings(log_format="json", log_level="info"))
    log = logging.getLogger("vectable.server")
    log.info("asked %s", "twice\nover", extra={"request_id": "r1", "ms": 1.5})
    log.debug("not this")
    logging.getLogger("elsewhere").info("nor this")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("request %s failed", "r2")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "info",
        "logger": "vectable.server",
        "message": "asked twice\nover",
        "request_id": "r1",
        "ms": 1.5,
    }
    assert second["level"] == "error"
    assert "ValueError: broken" in second["traceback"]


def test_what_is_no_utf_8_is_still_one_object() -> None:
    stream = io.StringIO()
    log_to(stream, Settings(log_format="json"))
    logging.getLogger("vectable.server").warning("no \udcff", extra={"count": 1 << 70})
    found = json.loads(stream.getvalue())
    assert (found["message"], found["count"]) == ("no \udcff", 1 << 70)


def test_the_level_is_that_of_libraries_too() -> None:
    stream = io.StringIO()
    log_to(stream, Settings(log_level="error"))
    for name in ("uvicorn.error", "vectable.server"):
        logging.getLogger(name).warning("not this")
        logging.getLogger(name).error("this")
    assert stream.getvalue().splitlines() == ["ERROR uvicorn.error: this", "ERROR vectable.server: this"]


def test_text_lines_name_what_belongs_to_them() -> None:
    stream = io.StringIO()
    log_to(stream, Settings())
    logging.getLogger("vectable.server").warning("slow", extra={"request_id": "r1"})
    logging.getLogger("vectable.server").info("not this")
    assert stream.getvalue() == "WARNING vectable.server: slow request_id=r1\n"

"""What a server logs: one line an event, for people or for programs, with the request it belongs to.

No log holds a text that was sent, a vector, a key or a password: events name routes, never what filled them.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import orjson

from vectable.config import Settings

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, what `extra` gave, and for a
    defect its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        found.update((name, value) for name, value in vars(record).items() if name not in _OWN)
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(found, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        except TypeError:  # a name that is no UTF-8, a number beyond 64 bits: JSON can say both
            return json.dumps(found, default=str)


class TextLines(logging.Formatter):
    """The same for people: level, logger, message, then name=value for what `extra` gave."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        head, newline, rest = super().format(record).partition("\n")
        more = [f"{name}={value}" for name, value in vars(record).items() if name not in _OWN]
        return " ".join([head, *more]) + newline + rest


def log_to(stream: TextIO, settings: Settings) -> None:
    """Sends every log of this process, from `log_level` on, to `stream` in `log_format`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Of what libraries have to say, never more than warnings.
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("vectable").setLevel(level)


def log_to_standard_error(settings: Settings) -> None:
    """`log_to` standard error, where servers write their logs."""
    log_to(sys.stderr, settings)

"""The log: one line an event, as `key=value`, whatever is in the values."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from musicgen_cli.text import escaped_json

_PLAIN = re.compile(r"[\w.:/%*+-]+", re.ASCII)


def fields(**values: object) -> dict[str, Any]:
    """Return what a logging call takes as `extra`, to be written as `key=value`."""
    return {"fields": values}


class KeyValue(logging.Formatter):
    """Writes time, level, event, then the record's fields; a value that isn't a plain word is a JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line, also of a traceback."""
        known: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            known["error"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_word(str(value))}" for key, value in known.items())


@contextlib.contextmanager
def to_stderr() -> Iterator[None]:
    """Write our log, and uvicorn's warnings, to stderr: one line a request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValue())
    ours, theirs = logging.getLogger("musicgen_cli.service"), logging.getLogger("uvicorn")
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    theirs.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        theirs.removeHandler(handler)


def _word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else escaped_json(json.dumps(text))

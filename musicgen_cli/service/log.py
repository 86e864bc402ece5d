"""The service's log: one line per event, as `key=value` pairs with quoted values."""

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

_PLAIN = re.compile(r"[\w.:/%*+-]+", re.ASCII)  # written without quotes


def fields(**values: object) -> dict[str, Any]:
    """Return the `extra` of a logging call whose values are written as `key=value`."""
    return {"fields": values}


class KeyValueFormatter(logging.Formatter):
    """Writes time, level, event and the record's fields; a value that is not a plain word becomes a JSON string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback becomes the value of `error`."""
        pairs: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            pairs["error"] = self.formatException(record.exc_info)
        return " ".join(f"{key}={_quoted(str(value))}" for key, value in pairs.items())


@contextlib.contextmanager
def to_stderr() -> Iterator[None]:
    """Write the service's log and uvicorn's warnings to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    service, uvicorn = logging.getLogger("musicgen_cli.service"), logging.getLogger("uvicorn")
    service.setLevel(logging.INFO)
    service.addHandler(handler)
    uvicorn.addHandler(handler)
    try:
        yield
    finally:
        service.removeHandler(handler)
        uvicorn.removeHandler(handler)


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else escaped_json(json.dumps(text))

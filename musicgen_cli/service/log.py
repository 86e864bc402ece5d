"""
The service's log: one line per event, as `key=value` pairs with quoted values.

How many lines there are is not up to those who send requests: of each kind of warning one a minute is written, and of
each kind of refusal or failure 30; the next one says how many were left out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from musicgen_cli.text import escaped_json

_PERIOD_S = 60.0
_WARNINGS, _FAILURES = 1, 30  # of one kind that are written in a period
_LOGGERS = ("musicgen_cli.service", "uvicorn", "asyncio")

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


@dataclass(slots=True)
class _Period:
    """What was logged of one kind since `started`."""

    started: float
    written: int = 0
    left_out: int = 0


class Throttle(logging.Filter):
    """
    Leaves out lines of a kind of which there were many lately; successes are always written.

    A kind is a place in the source, and for answers the status.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._periods: dict[tuple[str, int, object], _Period] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written; the first of a period gets the field `left_out`, if there were any."""
        values: dict[str, Any] = getattr(record, "fields", {})
        status = values.get("status", 0)
        if record.levelno < logging.WARNING and status < 400:
            return True
        kind, now = (record.pathname, record.lineno, status), self._clock()
        period = self._periods.setdefault(kind, _Period(now))
        if now - period.started >= _PERIOD_S:
            self._periods[kind] = _Period(now)
            if period.left_out:
                record.fields = {**values, "left_out": period.left_out}
            period = self._periods[kind]
        if period.written >= (_WARNINGS if record.levelno == logging.WARNING else _FAILURES):
            period.left_out += 1
            return False
        period.written += 1
        return True


@contextlib.contextmanager
def to_stderr() -> Iterator[None]:
    """Write the service's log and the warnings of uvicorn and asyncio to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    handler.addFilter(Throttle())
    logging.getLogger("musicgen_cli.service").setLevel(logging.INFO)
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(handler)


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else escaped_json(json.dumps(text))

"""The service's log: how many lines of a kind are written."""

from __future__ import annotations

import io
import logging

import pytest

from musicgen_cli.service.log import KeyValueFormatter, Throttle, fields


class Log:
    """A logger whose lines are kept, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self._written = io.StringIO()
        handler = logging.StreamHandler(self._written)
        handler.setFormatter(KeyValueFormatter())
        handler.addFilter(Throttle(lambda: self.now))
        self.logger = logging.Logger("test")  # one of its own
        self.logger.addHandler(handler)

    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()

    def answer(self, status: int, times: int) -> None:
        for _ in range(times):
            self.logger.info("answered", extra=fields(status=status))


def test_answers_are_all_written() -> None:
    """Their number is bounded by what the service can do."""
    log = Log()
    log.answer(200, 1000)
    assert len(log.lines()) == 1000


def test_refusals_are_bounded_by_status() -> None:
    """Thirty of each status a minute; the first of the next minute says how many were left out."""
    log = Log()
    for status in (401, 429):
        log.answer(status, 1000)
    assert len(log.lines()) == 60

    log.now = 60
    log.answer(401, 2)

    assert log.lines()[60].endswith(" status=401 left_out=970")
    assert log.lines()[61].endswith(" status=401")


@pytest.mark.parametrize(("level", "most"), [(logging.WARNING, 1), (logging.ERROR, 30)])
def test_warnings_and_errors_are_bounded(level: int, most: int) -> None:
    """By the place in the source that they come from, whatever they say."""
    log = Log()
    for number in range(100):
        log.logger.log(level, "number %s", number)
    log.logger.log(level, "another one")
    assert len(log.lines()) == most + 1

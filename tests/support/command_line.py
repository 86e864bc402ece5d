"""How tests start the command line: as a program, or in their own process with the fixture `musicgen`."""

from __future__ import annotations

import sys
from typing import Protocol

MUSICGEN = [sys.executable, "-m", "musicgen_cli"]


class Result(Protocol):
    """What a command left behind."""

    @property
    def code(self) -> int: ...

    @property
    def out(self) -> str: ...

    @property
    def err(self) -> str: ...

    @property
    def lines(self) -> list[str]: ...


class Run(Protocol):
    """Runs one command line; the words are arguments after the program's name."""

    def __call__(self, *words: object) -> Result: ...

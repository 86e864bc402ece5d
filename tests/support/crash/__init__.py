"""Programs that interrupt operations of a store, and check that nothing is lost; each prints its results as JSON."""

from __future__ import annotations

from typing import Any, Protocol


class Crash(Protocol):
    """The fixture `crash`: runs one of these programs in a new directory, and returns its results."""

    def __call__(self, program: str, *arguments: str) -> dict[str, Any]: ...

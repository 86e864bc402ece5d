"""What became of the takes of a batch, one by one and counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from musicgen_cli.actions.batch.worklist import BatchItem
from musicgen_cli.actions.library.made_from import source_s
from musicgen_cli.errors import MusicgenError, NotFoundError, TargetError, UsageError
from musicgen_cli.store import Artifact


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one take: an artifact, or an error, or both where only the export failed."""

    item: BatchItem
    artifact: Artifact | None = None
    error: MusicgenError | None = None
    path: Path | None = None  # the exported file
    warnings: tuple[str, ...] = ()
    loop: str = ""  # how the file was cut into a loop, if it was
    is_new: bool = True


@dataclass(slots=True)
class Tally:
    """Counts the takes of a batch."""

    made: int = 0
    skipped: int = 0  # in the store already
    failed: Counter[str] = field(default_factory=Counter)  # by error code
    in_the_way: int = 0  # failures because of a file that only `force` replaces
    refused: int = 0  # failures that the same request has again
    exported: int = 0  # files of stored takes that were missing, or those of an earlier run
    foreign: int = 0  # files of stored takes that hold something else
    audio_s: float = 0.0  # of new sound in the takes that were made
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.artifact is not None and outcome.is_new:
            self.made += 1
            self.audio_s += outcome.artifact.duration - source_s(outcome.artifact.extra)
        self.exported += outcome.path is not None and not outcome.is_new
        if outcome.error is not None:
            self.failed[outcome.error.code] += 1
            self.refused += isinstance(outcome.error, UsageError | NotFoundError)
            self.in_the_way += isinstance(outcome.error, TargetError) and outcome.error.exists

    @property
    def elapsed_s(self) -> float:
        """Seconds since the batch was started."""
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True)
class Preview:
    """What a batch would do with one take: make it, export it from the store, or fail to write its file."""

    item: BatchItem
    action: str  # make, export or fail
    error: TargetError | None = None

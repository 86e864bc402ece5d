"""
Many requests, one result each: a failure stops only itself, and what is in the store is not made twice.

Each take's record carries a fingerprint, `<family>-<request>-<occurrence>`:

- family: `1`, the version of this form, and 16 hex digits of a BLAKE2 of the model and of the name given with `--run`;
- request: 32 hex digits of a BLAKE2 of the prompt and all parameters, defaults included. A seed belongs to it where one
  was given; where it is drawn for the take, its absence does, so that another run doesn't depend on what was drawn;
- occurrence: numbers equal requests of one file from 0.

Tags, creator, parent, set and output don't change the sound and are not in it; nor is the engine, so that a batch begun
over HTTP can be finished locally.
"""

from __future__ import annotations

import errno
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes
from typing import Protocol

from musicgen_cli.actions.batch.rows import Row
from musicgen_cli.actions.batch.worklist import BatchItem, Worklist
from musicgen_cli.actions.generate import PlannedTake, expected_bytes, make, planned_take
from musicgen_cli.actions.library.export import Target, export, file_name, target
from musicgen_cli.actions.pool import as_done
from musicgen_cli.engine.base import Engine, ProgressListener
from musicgen_cli.engine.fleet import NoServiceError
from musicgen_cli.errors import (
    AmbiguousIdError,
    ArtifactNotFoundError,
    MusicgenError,
    ServiceError,
    StoppedError,
    StoreBusyError,
    StoreError,
    TryAgainError,
)
from musicgen_cli.store import Artifact, Store
from musicgen_cli.store.digest import id_wanted
from musicgen_cli.store.store import LAST

_FORM = "1"
_REST = re.compile(r"-([0-9a-f]{32})-(\d{1,18})")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MAY_PASS = (TryAgainError, ServiceError)  # another try of the same request may go better


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one take: it is stored, or there is an error, or both where only the export failed."""

    wanted: BatchItem
    artifact: Artifact | None = None
    error: MusicgenError | None = None
    path: Path | None = None  # the exported file
    warnings: tuple[str, ...] = ()
    is_new: bool = True


@dataclass(slots=True)
class Tally:
    """A batch, counted."""

    made: int = 0
    skipped: int = 0  # in the store already
    failed: Counter[str] = field(default_factory=Counter)  # by code
    audio_s: float = 0.0  # of what was made
    started: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.artifact is not None and outcome.is_new:
            self.made += 1
            self.audio_s += outcome.artifact.duration
        if outcome.error is not None:
            self.failed[outcome.error.code] += 1

    @property
    def elapsed_s(self) -> float:
        """Seconds since the batch was begun."""
        return time.monotonic() - self.started


class Watch(Protocol):
    """Sees how a batch is getting on; both methods may be called by any thread."""

    def begin(self, takes: int, audio_s: float) -> None:
        """See how many takes are to be made, and how much sound that is in all."""

    def making(self, wanted: BatchItem) -> AbstractContextManager[ProgressListener]:
        """See one take while it is made."""


class Batch:
    """
    The takes of a worklist that its store hasn't got.

    Args:
        model: Which model will make them, None if the service doesn't say.
        run: A name; under another one the same file is made anew.
        parents: A parent's id by what rows call it, as `find_parents` returns them.
        redo: Make also what is there.
        force: Exports may replace files.
    """

    def __init__(
        self,
        work: Worklist,
        store: Store,
        *,
        model: str | None,
        run: str | None = None,
        parents: Mapping[str, str] | None = None,
        redo: bool = False,
        force: bool = False,
    ) -> None:
        self._work = work
        self._store = store
        self._parents = parents or {}
        self._redo = redo
        self._force = force
        self._family = _FORM + blake2b(json.dumps([model, run]).encode(), digest_size=8).hexdigest()
        self._salt = token_bytes(8) if redo else b""  # what is made again is a set of its own
        self._indices: dict[str, int] = {}
        self._indexing = threading.Lock()
        self._stopped = threading.Event()
        self.tally = Tally()

    @contextmanager
    def exclusive_lock(self) -> Iterator[None]:
        """
        Keep other processes from running the same batch into this store.

        Raises:
            StoreBusyError: One does.
        """
        name = blake2b(self._work.digest + self._family.encode(), digest_size=8).hexdigest()
        with ExitStack() as held:
            try:
                held.enter_context(self._store.exclusive_lock(f"batch-{name}"))
            except StoreBusyError as err:
                raise StoreBusyError(
                    "the same batch is under way in this store", hint="wait for it, or tell them apart with --run NAME"
                ) from err
            yield

    def run(
        self,
        engine: Engine,
        watch: Watch,
        *,
        jobs: int = 1,
        retry: int = 0,
        max_failures: int | None = None,
    ) -> Iterator[Outcome]:
        """
        Make what is missing, while `alone`; yield each take as it ends, and each export that was missing.

        Args:
            engine: Safe to use from `jobs` threads.
            jobs: How many are made at once.
            retry: How many more times a request is tried that failed in a way that may pass.
            max_failures: After so many no more are begun.

        Raises:
            StoreError, TargetError: The disk is full, or the store can't be written: nothing more can succeed.
            NoServiceError: No service has been there for too long.
        """
        try:
            yield from self._counted(self._look())
            missing = self._work.missing()
            watch.begin(missing, self._work.audio_s * missing / self._work.takes)
            tasks = self._until(max_failures)
            results = as_done(tasks, lambda wanted: self._make(wanted, engine, watch, retry), jobs=jobs)
            yield from self._counted(_outcomes(results))
        finally:
            self._stopped.set()

    def fingerprint(self, wanted: BatchItem) -> str:
        """Return what a take is known by."""
        return f"{self._family}-{wanted.key.hex()}-{wanted.occurrence}"

    def row_of(self, wanted: BatchItem) -> Row:
        """Return a row that asks for just this take, and is known again as this take."""
        set_id, index = self._place(wanted)
        place = {"variation_set_id": set_id, "variation_index": index}
        return wanted.as_row() | {name: value for name, value in place.items() if value is not None}

    def _counted(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            self.tally.add(outcome)
            yield outcome

    def _until(self, max_failures: int | None) -> Iterator[BatchItem]:
        for wanted in self._work:
            if max_failures is not None and self.tally.failed.total() >= max_failures:
                return
            yield wanted

    def _look(self) -> Iterator[Outcome]:
        """Pass over the store once: what is there, what of it was not exported, and how far variation sets go."""
        self._indices = dict.fromkeys(self._work.sets(), 0)
        for artifact in self._store.newest(None):
            if artifact.variation_set_id in self._indices and artifact.variation_index is not None:
                set_id = artifact.variation_set_id
                self._indices[set_id] = max(self._indices[set_id], artifact.variation_index + 1)
            mark = artifact.fingerprint or ""
            rest = mark.startswith(self._family) and _REST.fullmatch(mark, len(self._family))
            if self._redo or not rest:
                continue
            wanted = self._work.found(bytes.fromhex(rest[1]), int(rest[2]))
            if wanted is not None and (missing := _missing_output(wanted, artifact)) is not None:
                yield self._export(wanted, artifact, missing, is_new=False)
        self.tally.skipped = self._work.takes - self._work.missing()

    def _make(self, wanted: BatchItem, engine: Engine, watch: Watch, retry: int) -> Outcome:
        """Make one take, in a thread of its own."""
        with watch.making(wanted) as heard:
            listener = _Stoppable(heard, self._stopped)
            where = None if wanted.output is None else target(wanted.output, force=self._force)
            planned = self._plan(wanted)
            self._store.check_room(expected_bytes(planned))
            while True:
                try:
                    take = make(planned, engine, self._store, listener)
                    break
                except _MAY_PASS as err:
                    if not retry:
                        raise
                    retry -= 1
                    listener.note(f"line {wanted.line}: {err}, trying again")
            if where is None:
                return Outcome(wanted, take.artifact, warnings=take.warnings)
            return self._export(wanted, take.artifact, where, warnings=take.warnings)

    def _plan(self, wanted: BatchItem) -> PlannedTake:
        set_id, index = self._place(wanted)
        if set_id is not None and index is None:
            with self._indexing:
                index = self._indices[set_id]
                self._indices[set_id] += 1
        return planned_take(
            wanted.request,
            tags=wanted.tags,
            creator=wanted.creator,
            parent_id=wanted.parent and self._parents[wanted.parent],
            variation_set_id=set_id,
            variation_index=index,
            fingerprint=self.fingerprint(wanted),
        )

    def _place(self, wanted: BatchItem) -> tuple[str | None, int | None]:
        """Return a take's variation set and its index; the set of a row is the same whenever its takes are made."""
        if wanted.variation_set_id is not None or wanted.siblings is None:
            return wanted.variation_set_id, wanted.variation_index
        key, occurrence = wanted.siblings
        mark = b"%s %s %d" % (self._salt, key, occurrence)
        return f"set_{blake2b(mark, key=self._family.encode(), digest_size=6).hexdigest()}", wanted.variation

    def _export(
        self,
        wanted: BatchItem,
        artifact: Artifact,
        where: Target,
        *,
        is_new: bool = True,
        warnings: tuple[str, ...] = (),
    ) -> Outcome:
        try:
            path = export(artifact, self._store, where, set())
        except MusicgenError as err:
            if _is_fatal(err):
                raise
            return Outcome(wanted, artifact, err, None, warnings, is_new)
        return Outcome(wanted, artifact, None, path, warnings, is_new)


def find_parents(work: Worklist, store: Store) -> tuple[dict[str, str], dict[str, MusicgenError]]:
    """Find the takes that rows name as their parents, in one pass; return their ids, and what is wrong with others."""
    named = work.parents()
    starts = {name: id_wanted(name) for name in named}
    found: dict[str, list[str]] = {start[0]: [] for start in starts.values() if start}
    last = None
    if named:
        digits = range(len("artifact_") + 4, len("artifact_") + 12)  # a start of 12 is a whole id
        for artifact in store.newest(None):
            last = last or artifact.id
            for named_so in (artifact.id, *(artifact.id[:length] for length in digits)):
                if named_so in found:
                    found[named_so].append(artifact.id)
    ids: dict[str, str] = {}
    wrong: dict[str, MusicgenError] = {}
    for name, start in starts.items():
        candidates = [last] if name == LAST and last else found[start[0]] if start else []
        if len(candidates) == 1:
            ids[name] = candidates[0]
        else:
            wrong[name] = AmbiguousIdError(name, candidates) if candidates else ArtifactNotFoundError(name)
    return ids, wrong


class _Stoppable:
    """A listener that ends what it listens to once the batch has ended."""

    def __init__(self, heard: ProgressListener, stopped: threading.Event) -> None:
        self._heard = heard
        self._stopped = stopped

    def step(self, done: int, total: int) -> None:
        """Pass a step on."""
        if self._stopped.is_set():
            raise StoppedError
        self._heard.step(done, total)

    def note(self, text: str) -> None:
        """Pass a note on."""
        if self._stopped.is_set():
            raise StoppedError
        self._heard.note(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Pass samples on."""
        self._heard.sound(pcm, sample_rate, channels)


def _outcomes(results: Iterator[tuple[BatchItem, Outcome | MusicgenError]]) -> Iterator[Outcome]:
    for wanted, result in results:
        if isinstance(result, Outcome):
            yield result
        elif _is_fatal(result):
            raise result
        else:
            yield Outcome(wanted, error=result)


def _is_fatal(err: MusicgenError) -> bool:
    """Tell whether all other takes would fail in the same way."""
    if isinstance(err, StoreError | NoServiceError):
        return True
    cause: BaseException | None = err
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__
    return False


def _missing_output(wanted: BatchItem, artifact: Artifact) -> Target | None:
    """Return where a stored take is to be exported to, if nothing is there."""
    assert wanted.output is not None
    where = target(wanted.output, force=True)
    path = where.path / f"{file_name(artifact, where.template)}.wav" if where.is_folder else where.path
    if path.is_symlink() or path.exists():
        return None
    return target(wanted.output)

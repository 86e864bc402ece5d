"""
Runs a batch: takes that are stored already are not made again, and a failed take doesn't stop the others.

Each take's record carries a fingerprint, `<family>-<request>-<occurrence>`:

- family: `1`, the version of this form, and 16 hex digits of a BLAKE2 of the model and of the name given with `--run`;
- request: 32 hex digits of a BLAKE2 of the prompt and all parameters, defaults included, and of the hashes of the
  sounds that the take is made from, if there are any. A seed that was given is part of it. A seed that is drawn for the
  take is not, so that another run doesn't depend on what was drawn;
- occurrence: numbers equal requests of one file from 0.

Tags, creator, parent, set and output don't change the sound and are not in it. Nor is the engine, so that a batch begun
over HTTP can be finished locally.
"""

from __future__ import annotations

import errno
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import blake2b
from secrets import token_bytes
from typing import Protocol

from musicgen_cli.actions.batch import outputs
from musicgen_cli.actions.batch.checked_row import RowFields
from musicgen_cli.actions.batch.outcome import Outcome, Preview, Tally
from musicgen_cli.actions.batch.worklist import BatchItem, Worklist
from musicgen_cli.actions.generate import PlannedTake, StoredTake, expected_bytes, make, planned_take
from musicgen_cli.actions.library.export import ExportTarget
from musicgen_cli.actions.pool import as_done
from musicgen_cli.actions.source_finder import members
from musicgen_cli.engine.base import Engine, ProgressListener
from musicgen_cli.errors import (
    InvalidValueError,
    MusicgenError,
    NoServiceError,
    ServiceError,
    StoppedError,
    StoreBusyError,
    StoreError,
    TargetError,
    TryAgainError,
)
from musicgen_cli.limits import BACKOFF_FIRST_S
from musicgen_cli.store import Artifact, Store
from musicgen_cli.text import as_whole

_FINGERPRINT_VERSION = "1"
_AFTER_FAMILY = re.compile(r"-([0-9a-f]{32})-(\d{1,18})")
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_JOBS = 256  # requests at once, at most
_RETRIES = 1000
_RETRIED = (TryAgainError, ServiceError)  # failures that may be temporary


class BatchListener(Protocol):
    """Follows the progress of a batch; both methods may be called from any thread."""

    def begin(self, takes: int, audio_s: float) -> None:
        """Receive the number of takes that are missing, and their total length in seconds."""

    def making(self, item: BatchItem) -> AbstractContextManager[ProgressListener]:
        """Return the listener of one take, entered while it is made."""


def checked_numbers(jobs: int | None, retry: int, max_failures: int | None) -> tuple[int | None, int, int | None]:
    """
    Check the numbers of `Batch.run`, and return them; 2.0 is 2.

    Raises:
        InvalidValueError: One is out of its range.
    """
    jobs, retry, max_failures = map(as_whole, (jobs, retry, max_failures))
    for name, value, low, high in (
        ("jobs", 1 if jobs is None else jobs, 1, _JOBS),
        ("retry", retry, 0, _RETRIES),
        ("max_failures", 1 if max_failures is None else max_failures, 1, None),
    ):
        if type(value) is not int or value < low or (high is not None and value > high):
            allowed = f"{low} or more" if high is None else f"{low}-{high}"
            raise InvalidValueError(f"{name} must be a whole number, {allowed}, got {value!r:.40}")
    return jobs, retry, max_failures


class Batch:
    """
    Makes the takes of a worklist that are missing in the store.

    Args:
        model: The model that will make them; None if the service doesn't say.
        run: The run's name; a run with another name makes all takes again.
        parents: The ids of parents by the names that rows give them, from `find_parents`.
        redo: Make takes again that the store has.
        force: Let exports replace files.
    """

    def __init__(
        self,
        worklist: Worklist,
        store: Store,
        *,
        model: str | None,
        run: str | None = None,
        parents: Mapping[str, str] | None = None,
        redo: bool = False,
        force: bool = False,
    ) -> None:
        self._worklist = worklist
        self._store = store
        self._parents = parents or {}
        self._redo = redo
        self._force = force
        self._family = _FINGERPRINT_VERSION + blake2b(json.dumps([model, run]).encode(), digest_size=8).hexdigest()
        self._salt = token_bytes(8) if redo else b""  # takes made again are a set of their own
        self._next_indices: dict[str, int] = {}  # by variation set
        self._indexing = threading.Lock()
        self._ended = threading.Event()
        self.tally = Tally()

    @contextmanager
    def exclusive_lock(self) -> Iterator[None]:
        """
        Keep other processes from running the same batch into this store.

        Raises:
            StoreBusyError: Another process is running it.
        """
        name = blake2b(self._worklist.digest + self._family.encode(), digest_size=8).hexdigest()
        with ExitStack() as stack:
            try:
                stack.enter_context(self._store.exclusive_lock(f"batch-{name}"))
            except StoreBusyError as err:
                raise StoreBusyError(
                    "the same batch is under way in this store", hint="wait for it, or tell them apart with --run NAME"
                ) from err
            yield

    def run(
        self,
        engine: Engine,
        listener: BatchListener,
        *,
        jobs: int = 1,
        retry: int = 0,
        max_failures: int | None = None,
    ) -> Iterator[Outcome]:
        """
        Make the missing takes, with the `exclusive_lock` held; yield each as it ends, and each export that was missing.

        Args:
            engine: Safe to use from `jobs` threads.
            jobs: How many takes are made at once.
            retry: How many more times a request is tried after a failure that may be temporary.
            max_failures: Begin no more takes after this many failures.

        Raises:
            StoreError, TargetError: The disk is full, or the store can't be written: nothing more can succeed.
            NoServiceError: No service could be reached for too long.
        """
        try:
            yield from self._counted(self._missing_exports())
            missing = self._worklist.missing()
            listener.begin(missing, self._worklist.audio_s * missing / self._worklist.takes)
            items = self._until(max_failures)
            results = as_done(items, lambda item: self._make(item, engine, listener, retry), jobs=jobs)
            yield from self._counted(_outcomes(results))
        finally:
            self._ended.set()

    def preview(self) -> Iterator[Preview]:
        """Yield what `run` would do, and change nothing; takes that have all they need are left out."""
        for item, artifact in self._compare_with_store():
            target, err = self._missing_target(item, artifact)
            if target is not None or err is not None:
                yield Preview(item, "export" if err is None else "fail", err)
        for item in self._worklist:
            try:
                if item.row.output is not None:
                    self._target(item)
            except TargetError as err:
                yield Preview(item, "fail", err)
            else:
                yield Preview(item, "make")

    def fingerprint(self, item: BatchItem) -> str:
        """Return what identifies a take from one run to the next."""
        return f"{self._family}-{item.key.hex()}-{item.occurrence}"

    def row_of(self, item: BatchItem) -> RowFields:
        """Return a row that asks for just this take and gets the same fingerprint."""
        set_id, index = self._set_and_index(item)
        members = {"variation_set_id": set_id, "variation_index": index}
        return item.as_row() | {name: value for name, value in members.items() if value is not None}

    def _counted(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in outcomes:
            self.tally.add(outcome)
            yield outcome

    def _until(self, max_failures: int | None) -> Iterator[BatchItem]:
        for item in self._worklist:
            if max_failures is not None and self.tally.failed.total() >= max_failures:
                return
            yield item

    def _compare_with_store(self) -> Iterator[tuple[BatchItem, Artifact]]:
        """Read the store once: mark takes that it has, yield those with outputs, find the next index of each set."""
        self._next_indices = dict.fromkeys(self._worklist.sets(), 0)
        for artifact in self._store.newest(None):
            if artifact.variation_set_id in self._next_indices and artifact.variation_index is not None:
                set_id = artifact.variation_set_id
                self._next_indices[set_id] = max(self._next_indices[set_id], artifact.variation_index + 1)
            fingerprint = artifact.fingerprint or ""
            match = fingerprint.startswith(self._family) and _AFTER_FAMILY.fullmatch(fingerprint, len(self._family))
            if self._redo or not match:
                continue
            item = self._worklist.mark_stored(bytes.fromhex(match[1]), int(match[2]))
            if item is not None:
                yield item, artifact
        self.tally.skipped = self._worklist.takes - self._worklist.missing()

    def _make(self, item: BatchItem, engine: Engine, listener: BatchListener, retry: int) -> Outcome:
        """Make one take; called on one of the batch's threads."""
        with listener.making(item) as progress:
            stopping_listener = _StoppingListener(progress, self._ended)
            output = item.row.output
            if output is not None:
                self._target(item)
            planned = self._plan(item)
            self._store.check_free_space(expected_bytes(planned))
            take = self._try(item, planned, engine, stopping_listener, retry)
            if output is None:
                return Outcome(item, take.artifact, warnings=take.warnings)
            return self._export(item, take.artifact, warnings=take.warnings)

    def _try(
        self, item: BatchItem, planned: PlannedTake, engine: Engine, listener: ProgressListener, retry: int
    ) -> StoredTake:
        while True:
            try:
                return make(planned, engine, self._store, listener)
            except _RETRIED as err:
                if not retry:
                    raise
                retry -= 1
                listener.note(f"line {item.line}: {err}, trying again")
                if isinstance(err, ServiceError) and err.connection_broke:
                    self._ended.wait(BACKOFF_FIRST_S)  # then what is restarting refuses connections: that is waited for

    def _plan(self, item: BatchItem) -> PlannedTake:
        set_id, index = self._set_and_index(item)
        if set_id is not None and index is None:
            with self._indexing:
                index = self._next_indices[set_id]
                self._next_indices[set_id] += 1
        sounds = self._worklist.finder.store(item.row.sounds)
        parent_id = sounds.parent_id if item.row.parent_id is None else self._parents[item.row.parent_id]
        return planned_take(
            item.request,
            tags=item.row.tags,
            creator=item.row.creator,
            parent_id=parent_id,
            variation_set_id=set_id,
            variation_index=index,
            fingerprint=self.fingerprint(item),
            extra=members(sounds) | ({"output": name} if (name := outputs.name_of(item.row.output)) else {}),
        )

    def _set_and_index(self, item: BatchItem) -> tuple[str | None, int | None]:
        """Return a take's variation set and its index; the set of a row is the same whenever its takes are made."""
        if item.row.variation_set_id is not None or item.siblings is None:
            return item.row.variation_set_id, item.row.variation_index
        key, occurrence = item.siblings
        message = b"%s %s %d" % (self._salt, key, occurrence)
        return f"set_{blake2b(message, key=self._family.encode(), digest_size=6).hexdigest()}", item.variation

    def _target(self, item: BatchItem) -> ExportTarget:
        """Return where a take that is to be made is exported to."""
        assert item.row.output is not None
        return outputs.target_of(item.row.output, self._store, loop=item.row.loop, force=self._force)

    def _missing_exports(self) -> Iterator[Outcome]:
        """Export the stored takes whose files aren't there."""
        for item, artifact in self._compare_with_store():
            target, err = self._missing_target(item, artifact)
            if err is not None:
                yield Outcome(item, artifact, err, is_new=False)
            elif target is not None:
                yield self._export(item, artifact, target, is_new=False)

    def _missing_target(self, item: BatchItem, artifact: Artifact) -> tuple[ExportTarget | None, TargetError | None]:
        """Return where a stored take is to be exported to, or why that fails; a file of somebody else is counted."""
        row = item.row
        assert row.output is not None
        try:
            return outputs.missing_target(row.output, artifact, self._store, loop=row.loop, force=self._force), None
        except TargetError as err:
            if not err.exists:
                return None, err
            self.tally.foreign += 1
            return None, None

    def _export(
        self,
        item: BatchItem,
        artifact: Artifact,
        where: ExportTarget | None = None,
        *,
        is_new: bool = True,
        warnings: tuple[str, ...] = (),
    ) -> Outcome:
        try:
            if where is None:  # found out again: the file may have been edited while the take was made
                where = self._target(item)
            path, loop = outputs.write(artifact, self._store, where)
        except MusicgenError as err:
            if _is_fatal(err):
                raise
            return Outcome(item, artifact, err, None, warnings, is_new=is_new)
        return Outcome(item, artifact, None, path, (*warnings, *where.warnings), loop, is_new)


class _StoppingListener:
    """Passes progress on, and stops the take once the batch has ended."""

    def __init__(self, listener: ProgressListener, ended: threading.Event) -> None:
        self._listener = listener
        self._ended = ended

    def step(self, done: int, total: int) -> None:
        """Pass a step on."""
        if self._ended.is_set():
            raise StoppedError
        self._listener.step(done, total)

    def note(self, text: str) -> None:
        """Pass a note on."""
        if self._ended.is_set():
            raise StoppedError
        self._listener.note(text)

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        """Pass samples on."""
        self._listener.sound(pcm, sample_rate, channels)

    def pause(self) -> None:
        """Pass a pause on."""
        self._listener.pause()


def _outcomes(results: Iterator[tuple[BatchItem, Outcome | MusicgenError]]) -> Iterator[Outcome]:
    for item, result in results:
        if isinstance(result, Outcome):
            yield result
        elif _is_fatal(result):
            raise result
        else:
            yield Outcome(item, error=result)


def _is_fatal(err: MusicgenError) -> bool:
    """Tell whether all other takes would fail in the same way."""
    if isinstance(err, StoreError | NoServiceError):
        return True
    cause: BaseException | None = err
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
            return True
        cause = cause.__cause__
    return False

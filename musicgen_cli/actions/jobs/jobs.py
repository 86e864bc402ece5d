"""
The takes of one store that are made in the background: a folder of jobs, and the one process that makes them.

    <state>/jobs/<store>/       0700   <store>: 16 hex digits of a BLAKE2 of the store's real path
      <id>.json                 0600   one job, replaced in one step whenever something of it changes
      <id>.tmp-*                0600   a write that is under way or was cut off; never read
      <id>.cancel               0600   somebody wants the running job to stop; empty
      lock                      0600   held for a moment by who changes which jobs there are, or their states
      runner.lock               0600   held by the runner while it lives
      runner.starting           0600   from a runner's start until it has its lock; empty
      runner.log                0600   what a runner had to say before it died

A job is written by whoever queues it, then by the runner alone. Only where no runner holds its lock, and so none can
come back to it, others may write what became of a running job. A runner is started with a job and by any later look,
if something is pending; it ends when nothing is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from musicgen_cli import atomic
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import PlannedTake
from musicgen_cli.actions.jobs.folder import is_job_id, job_folder
from musicgen_cli.actions.jobs.job import PENDING, RUNNING, Job, from_record, new_job, to_record
from musicgen_cli.errors import (
    AmbiguousIdError,
    InvalidValueError,
    JobNotFoundError,
    MusicgenError,
    RunnerDiedError,
    StoreBusyError,
    StoreError,
)
from musicgen_cli.store import Artifact, Store, files
from musicgen_cli.store.journal import locked, timestamp

KEPT = timedelta(days=7)  # a job that has ended; its take stays for ever
LAST = "last"

_RUNNER_LOCK = "runner.lock"
_LOG = "runner.log"
_STARTING = "runner.starting"
_STARTING_S = 10.0  # a runner that has no lock by then won't come
_LOG_BYTES = 1024 * 1024
_DETACHED = 0
if sys.platform == "win32":
    _DETACHED = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
_SHORTEST = 4  # digits of an id that is cut


class Jobs:
    """
    The jobs of a store.

    Args:
        store: Where their takes go.
        state_dir: The platform's folder for state.

    Every method raises `StoreError` if the folder can't be used, and `StoreBusyError` if it stays locked.
    """

    def __init__(self, store: Store, state_dir: Path) -> None:
        self._store = store
        self.folder = job_folder(store.root, state_dir)
        self._read: dict[str, tuple[tuple[int, int], Job]] = {}

    def add(self, planned_takes: Sequence[PlannedTake], engine_config: EngineConfig) -> list[Job]:
        """Queue takes that were checked, and see that somebody makes them."""
        with self._changing():
            known = self.known()
            shift = _next_index(known, planned_takes[0].draft.variation_set_id) - (
                planned_takes[0].draft.variation_index or 0
            )
            place = max([time.time_ns(), *(job.place + 1 for job in known)])
            added = []
            for i, asked in enumerate(planned_takes):
                index = asked.draft.variation_index
                if index is not None and shift > 0:  # others of the set are queued already
                    asked = replace(asked, draft=replace(asked.draft, variation_index=index + shift))
                added.append(new_job(asked, engine_config, place=place + i, created=_now()))
                self._write(added[-1])
        self.reconcile()
        return added

    def reconcile(self) -> list[Job]:
        """
        Return all jobs, in the order in which they were queued, as they really are.

        What a dead runner left running has failed, or is complete if its take is in the store; what ended long ago
        goes; and if something is pending and nobody is at it, somebody is started.
        """
        if not self.folder.is_dir():
            return []
        with self._changing():
            try:
                with locked(self.folder, _RUNNER_LOCK, wait_s=0):
                    self._settle()
                    is_alive = False
            except StoreBusyError:
                is_alive = True
            known = self._prune()
            if not is_alive and not self._is_starting() and any(job.state == PENDING for job in known):
                self._start()
        return known

    def find(self, wanted: str, among: Collection[Job] | None = None) -> Job:
        """
        Return the job with an id: whole, a unique start of 4 or more digits, or `last`.

        Raises:
            JobNotFoundError: None answers to it.
            AmbiguousIdError: Several start so.
        """
        known = self.reconcile() if among is None else among
        if wanted == LAST and known:
            return max(known, key=lambda job: job.place)
        found = [job for job in known if job.id.startswith(wanted)] if len(wanted) >= _SHORTEST else []
        if not found:
            raise JobNotFoundError(wanted)
        if len(found) > 1:
            raise AmbiguousIdError(wanted, [job.id for job in found])
        return found[0]

    def cancel(self, ids: Sequence[str], *, wait_s: float = 5.0) -> list[Job]:
        """
        Take jobs back: pending ones at once, running ones as soon as their engine hears of it.

        Args:
            wait_s: How long to wait for those that are running; one that loads a model may take longer.

        Returns:
            Each as it is then; one that had ended already is as it was.

        Raises:
            JobNotFoundError, AmbiguousIdError: An id answers to none, or to several; nothing was cancelled.
        """
        known = self.reconcile()
        names = list(dict.fromkeys(self.find(wanted, known).id for wanted in ids))
        with self._changing():
            now = {job.id: job for job in self.known()}
            for job in (now[name] for name in names if name in now):
                if job.state == PENDING:
                    self._write(job.cancelled(_now()))
                elif job.state == RUNNING:
                    os.close(atomic.open_fd(self._flag(job), os.O_CREAT | os.O_WRONLY))
        give_up = time.monotonic() + wait_s
        while True:
            now = {job.id: job for job in self.reconcile()}
            asked = [now[name] for name in names if name in now]
            if all(job.has_ended for job in asked) or time.monotonic() > give_up:
                return asked
            time.sleep(0.05)

    def known(self) -> list[Job]:
        """Return all jobs as their files tell, in the order in which they were queued."""
        found: dict[str, tuple[tuple[int, int], Job]] = {}
        with files.explained("read", self.folder):
            for name in files.names(self.folder):
                if not name.endswith(".json") or not is_job_id(name.removesuffix(".json")):
                    continue
                path = self.folder / name
                try:
                    status = path.lstat()
                    version = (status.st_ino, status.st_mtime_ns)
                    old = self._read.get(name)
                    found[name] = old if old and old[0] == version else (version, _read_job(path))
                except FileNotFoundError:
                    continue  # pruned just now
        self._read = found
        return sorted((job for _, job in found.values()), key=lambda job: job.place)

    # What follows is the runner's.

    @contextmanager
    def as_runner(self) -> Iterator[Callable[[], bool]]:
        """
        Be the one process that runs these jobs.

        Yields:
            Asks to end: True, and the lock is free, unless something is pending.

        Raises:
            StoreBusyError: Another process is.
        """
        with self._changing():
            lock = locked(self.folder, _RUNNER_LOCK, wait_s=0)
            lock.__enter__()
            atomic.discard(self.folder / _STARTING)
            self._settle()
        is_held = True

        def end() -> bool:
            nonlocal is_held
            with self._changing():
                if self.head() is not None:
                    return False
                lock.__exit__(None, None, None)
                is_held = False
            return True

        try:
            yield end
        finally:
            if is_held:
                lock.__exit__(None, None, None)

    def head(self) -> Job | None:
        """Return the pending job whose turn it is."""
        return next((job for job in self.known() if job.state == PENDING), None)

    def claim(self, job: Job) -> Job | None:
        """Begin a pending job; None if it is pending no more."""
        with self._changing():
            now = self._current(job)
            if now is None or now.state != PENDING:
                return None
            return self._write(replace(now, state=RUNNING, started=_now(), runner_pid=os.getpid()))

    def progress(self, job: Job, steps: int, total: int) -> Job:
        """Tell how a running job is getting on."""
        return self._write(replace(job, steps=steps, total=total))

    def is_unwanted(self, job: Job) -> bool:
        """Tell whether somebody took a running job back."""
        return self._flag(job).exists()

    def end(self, job: Job, outcome: Artifact | MusicgenError | None) -> None:
        """Tell what became of a running job; None: it was taken back."""
        with self._changing():
            self._end(job, outcome)

    def end_unwanted(self, job: Job, then: Callable[[], None]) -> None:
        """If a running job was taken back and hasn't ended, tell so and do something that nobody can come between."""
        with self._changing():
            now = self._current(job)
            if now is not None and now.state == RUNNING and self.is_unwanted(job):
                self._end(now, None)
                then()

    def _end(self, job: Job, outcome: Artifact | MusicgenError | None) -> None:
        if outcome is None:
            self._write(job.cancelled(_now()))
        elif isinstance(outcome, Artifact):
            self._write(job.complete(outcome, _now()))
        else:
            self._write(job.failed(outcome, _now()))
        atomic.discard(self._flag(job))

    def _settle(self) -> None:
        """Write down what became of jobs whose runner is dead; the caller holds both locks, so nobody writes a job."""
        for name in files.names(self.folder):
            if atomic.TEMPORARY in name:
                atomic.discard(self.folder / name)
        left = {job.id: job for job in self.known() if job.state == RUNNING}
        if not left:
            return
        made = {take.client_job_id: take for take in self._store.newest(None) if take.client_job_id in left}
        for job in left.values():
            if job.id in made:
                self._end(job, made[job.id])
            elif self.is_unwanted(job):
                self._end(job, None)
            else:
                self._end(job, RunnerDiedError(job.runner_pid, self.folder / _LOG))

    def _prune(self) -> list[Job]:
        """Forget what ended long ago; return the others."""
        oldest = timestamp(datetime.now(UTC) - KEPT)
        kept = []
        for job in self.known():
            if job.has_ended and (job.finished or "") < oldest:
                atomic.discard(self._flag(job))
                atomic.discard(self._path(job))
            else:
                kept.append(job)
        return kept

    def _is_starting(self) -> bool:
        """Tell whether a runner was started so lately that it may not have its lock yet."""
        try:
            age_s = time.time() - (self.folder / _STARTING).stat().st_mtime
        except FileNotFoundError:
            return False
        return 0 <= age_s < _STARTING_S

    def _start(self) -> None:
        """Start a runner that outlives this process and its terminal."""
        words = [sys.executable, "-m", "musicgen_cli.actions.jobs.runner", str(self._store.root)]
        log = self.folder / _LOG
        with files.explained("write to", self.folder):
            atomic.discard(self.folder / _STARTING)
            os.close(atomic.open_fd(self.folder / _STARTING, os.O_CREAT | os.O_WRONLY))
            fd = atomic.open_fd(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            if os.fstat(fd).st_size > _LOG_BYTES:
                os.ftruncate(fd, 0)
            # In a folder of its own: `-m` finds modules in the current one first.
            runner = subprocess.Popen(  # noqa: S603  # this interpreter, our module
                words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=fd,
                start_new_session=True,
                creationflags=_DETACHED,
            )
        except OSError as err:
            raise StoreError(f"can't start what makes takes in the background: {err.strerror}") from err
        finally:
            os.close(fd)
        threading.Thread(target=runner.wait, daemon=True).start()  # so that no zombie stays if we live longer

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with files.explained("write to", self.folder):
            if not self.folder.is_dir():
                files.make_directory(self.folder)
            with locked(self.folder):
                yield

    def _current(self, job: Job) -> Job | None:
        return next((known for known in self.known() if known.id == job.id), None)

    def _write(self, job: Job) -> Job:
        data = json.dumps(to_record(job), ensure_ascii=True, separators=(",", ":")).encode()
        with files.explained("write to", self.folder):
            atomic.write(self._path(job), data, prefix=f"{job.id}{atomic.TEMPORARY}")
            atomic.sync_directory(self.folder)
        return job

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.id}.json"

    def _flag(self, job: Job) -> Path:
        return self.folder / f"{job.id}.cancel"


def _read_job(path: Path) -> Job:
    """Read a job's file; a damaged one is a job that failed."""
    with files.open_to_read(path) as file:
        data = file.read()
        written = timestamp(datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC))
    try:
        job = from_record(json.loads(data))
    except (ValueError, RecursionError, InvalidValueError):
        blank = Job(
            path.stem, PENDING, place=0, created=written, request={}, known={}, engine_config=EngineConfig(local=False)
        )
        return blank.failed(StoreError(f"the job's file is damaged: {str(path)!r}"), written)
    return replace(job, id=path.stem)


def _next_index(known: Sequence[Job], set_id: str | None) -> int:
    """Return one more than the highest index of those in a variation set."""
    indices = [job.known["variation_index"] for job in known if set_id and job.known.get("variation_set_id") == set_id]
    return max((index + 1 for index in indices if index is not None), default=0)


def _now() -> str:
    return timestamp(datetime.now(UTC))

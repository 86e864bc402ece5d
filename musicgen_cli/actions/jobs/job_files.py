"""
The files of a store's jobs: how they are named, read, written and locked.

    <state>/jobs/<store>/       0700   <store>: 16 hex digits of a BLAKE2b of the store's real path
      <id>.json                 0600   one job, replaced atomically whenever it changes
      <id>.tmp-*                0600   a write that is in progress or was cut off; never read
      <id>.cancel               0600   empty; asks the runner to stop this job
      lock                      0600   held while jobs are added or removed or change their states
      runner.lock               0600   held by the runner while it lives
      runner.starting           0600   empty; there from a runner's start until the runner holds its lock
      runner.log                0600   what the runners wrote to standard error

A job's file is written by the process that queues the job, and from then on by the runner. Other processes may write a
running job only while runner.lock is free: the runner that claimed the job is dead then, and can't write it any more.
A runner starts only under the folder's lock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from musicgen_cli import atomic, foreign, settings
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.jobs.folder import is_job_id
from musicgen_cli.actions.jobs.job import PENDING, Job, from_record, to_record
from musicgen_cli.errors import InvalidValueError, StoreError
from musicgen_cli.store import files
from musicgen_cli.store.lines import timestamp
from musicgen_cli.store.lock import locked

RUNNER_LOG = "runner.log"
RUNNER_STARTING = "runner.starting"

_JOB_BYTES = 1 << 20  # a request has 64 KiB, and each of its characters may be written as six
_RUNNER_LOCK = "runner.lock"
_OTHER_FOLDER = "XDG_STATE_HOME names another place for jobs" if os.name == "posix" else "look who owns it"


def explained(action: str, folder: Path) -> AbstractContextManager[None]:
    """Turn an `OSError` into a `StoreError` as `files.explained` does, with a hint for the folder of jobs."""
    if action == "write to" and folder.is_relative_to(settings.NO_HOME):
        raise StoreError("there is no home directory for the files of jobs", hint=_OTHER_FOLDER)
    return files.explained(action, folder, hint=_OTHER_FOLDER)


class JobFiles:
    """
    The folder of a store's jobs; it need not exist, and `locked` creates it.

    Every method raises `StoreError` if the folder can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cache: dict[str, tuple[tuple[int, int], Job]] = {}  # name → (inode, mtime_ns), the job in that file

    def read(self) -> list[Job]:
        """Return all jobs as their files say, in the order in which they were queued."""
        if not self.exists():
            return []
        cache: dict[str, tuple[tuple[int, int], Job]] = {}
        with explained("read", self.folder):
            for name in files.names(self.folder):
                if not name.endswith(".json") or not is_job_id(name.removesuffix(".json")):
                    continue
                path = self.folder / name
                try:
                    status = path.lstat()
                    version = (status.st_ino, status.st_mtime_ns)
                    old = self._cache.get(name)
                    cache[name] = old if old and old[0] == version else (version, _read_job(path))
                except FileNotFoundError:
                    continue  # removed by another process
        self._cache = cache
        return sorted((job for _, job in cache.values()), key=lambda job: job.place)

    def write(self, job: Job) -> Job:
        """Write a job's file, and return the job."""
        data = json.dumps(to_record(job), ensure_ascii=True, separators=(",", ":")).encode()
        with explained("write to", self.folder):
            atomic.write(self._path(job), data, prefix=f"{job.id}{atomic.TEMPORARY}")
            atomic.sync_directory(self.folder)
        return job

    def write_ended(self, job: Job) -> None:
        """Write a job that has ended, and remove the request to cancel it."""
        self.write(job)
        atomic.discard(self._cancel_flag(job))

    def remove(self, job: Job) -> None:
        """Remove a job's files."""
        atomic.discard(self._cancel_flag(job))
        atomic.discard(self._path(job))

    def remove_temporaries(self) -> None:
        """Remove the writes that were cut off; the caller knows that none is in progress."""
        with explained("read", self.folder):
            for name in files.names(self.folder):
                if atomic.TEMPORARY in name:
                    atomic.discard(self.folder / name)

    def request_cancel(self, job: Job) -> None:
        """Ask the runner to stop a running job."""
        with explained("write to", self.folder):
            os.close(atomic.open_fd(self._cancel_flag(job), os.O_CREAT | os.O_WRONLY))

    def is_cancel_requested(self, job: Job) -> bool:
        """Tell whether the runner was asked to stop a job that has not ended."""
        with explained("read", self.folder):
            return self._cancel_flag(job).exists()

    def exists(self) -> bool:
        """
        Tell whether the folder is there.

        Raises:
            StoreError: It is there, and other users can write to it.
        """
        with explained("read", self.folder):
            if not self.folder.is_dir():
                return False
        self._refuse_others()
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Hold the folder's lock, and create the folder if need be.

        Raises:
            StoreBusyError: Another process kept it locked.
        """
        with explained("write to", self.folder):
            if not self.folder.is_dir():
                files.make_directory(self.folder)
            self._refuse_others()
            with locked(self.folder, hint=_OTHER_FOLDER):
                yield

    def runner_lock(self) -> AbstractContextManager[None]:
        """
        Hold the runner's lock; taken only under the folder's.

        Raises:
            StoreBusyError: There is a runner already.
        """
        return locked(self.folder, _RUNNER_LOCK, wait_s=0, hint=_OTHER_FOLDER)

    def has_runner(self) -> bool:
        """
        Tell whether a runner lives, without writing anything.

        The caller holds the folder's lock. A runner takes its own lock under that one, and so can't meet this probe,
        which it would mistake for another runner.
        """
        from filelock import lock_descriptor  # here, since importing it takes long

        with explained("read", self.folder):
            try:
                fd = atomic.open_fd(self.folder / _RUNNER_LOCK, os.O_RDWR)
            except FileNotFoundError:
                return False
            try:
                return not lock_descriptor(fd, blocking=False)
            finally:
                os.close(fd)

    def _refuse_others(self) -> None:
        """
        Refuse a folder to which others can write: what a job asks for is done in the name of its owner.

        Raises:
            StoreError: This folder, or one of the two above it, is such a folder.
        """
        for folder in (self.folder, *self.folder.parents[:2]):
            with explained("read", folder):
                is_link = folder == self.folder and folder.is_symlink()  # users may link those above
                reason = "it is a symbolic link" if is_link else foreign.who_else(folder.stat())
            if reason is not None:
                raise StoreError(f"the folder of jobs {str(folder)!r} is not used: {reason}", hint=_OTHER_FOLDER)

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.id}.json"

    def _cancel_flag(self, job: Job) -> Path:
        return self.folder / f"{job.id}.cancel"


def _read_job(path: Path) -> Job:
    """Read a job's file; a damaged one, and one that others could have written, is read as a failed job."""
    with files.open_to_read(path) as file:
        status = os.fstat(file.fileno())
        data = foreign.read_all(file, _JOB_BYTES) if foreign.who_else(status) is None else b""
        written = timestamp(datetime.fromtimestamp(status.st_mtime, UTC))
    try:
        job = from_record(json.loads(data))
    except (ValueError, RecursionError, InvalidValueError):
        config = EngineConfig(local=False)
        blank = Job(path.stem, PENDING, place=0, created=written, request={}, metadata={}, engine_config=config)
        return blank.failed(StoreError(f"the job's file is damaged: {str(path)!r}"), written)
    return replace(job, id=path.stem)

"""Jobs that have ended are kept by number, too, so that commands stay quick."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import GenerateOptions, plan
from musicgen_cli.actions.jobs.job import Job, new_job, to_record
from musicgen_cli.actions.jobs.job_files import JobFiles
from musicgen_cli.actions.jobs.jobs import MAX_ENDED, Jobs
from musicgen_cli.actions.jobs.poll import Poll, Polled
from musicgen_cli.errors import MusicgenError
from musicgen_cli.store import Store
from musicgen_cli.store.lines import timestamp

NOW = datetime.now(UTC)


def ended_jobs(store: Store, count: int) -> tuple[Jobs, list[str]]:
    """Write files of jobs that have failed, one a second; return the jobs and the ids, the oldest first."""
    jobs = Jobs(store, settings.state_dir())
    with JobFiles(jobs.folder).locked():
        pass  # makes the folder
    (planned,) = plan(GenerateOptions({"prompt": "a lute"}), store)
    job = new_job(planned, EngineConfig(local=True, model="nano"), place=0).failed(MusicgenError("no"))
    ids = []
    for number in range(count):
        ids.append(str(uuid.uuid4()))
        finished = timestamp(NOW - timedelta(seconds=count - number))
        record = to_record(job) | {"id": ids[-1], "place": number, "finished": finished}
        (jobs.folder / f"{ids[-1]}.json").write_text(json.dumps(record))
    return jobs, ids


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def test_the_latest_jobs_that_have_ended_are_kept(store: Store) -> None:
    """`list` shows only them, and `reconcile` removes the files of the others."""
    jobs, ids = ended_jobs(store, MAX_ENDED + 100)

    assert [job.id for job in jobs.list()] == ids[100:]
    assert len([*jobs.folder.glob("*.json")]) == MAX_ENDED + 100
    assert [job.id for job in jobs.reconcile()] == ids[100:]
    assert len([*jobs.folder.glob("*.json")]) == MAX_ENDED


def test_twenty_thousand_jobs_are_few_after_the_first_command(store: Store) -> None:
    """All commands after it read a bounded number of files."""
    jobs, ids = ended_jobs(store, 20_000)

    jobs.reconcile()

    assert [job.id for job in Jobs(store, settings.state_dir()).list()] == ids[-MAX_ENDED:]
    assert len([*jobs.folder.iterdir()]) <= MAX_ENDED + 5


def test_a_wait_keeps_what_it_has_seen() -> None:
    """A job that ended, and was removed while others were waited for, has ended all the same."""
    config = EngineConfig(local=True, model="nano")

    def job(id_: str, state: str) -> Job:
        return Job(id_, state, 0, timestamp(NOW), {}, {}, config, error={"message": "no"})

    looks = [[job("aaaa", "failed"), job("bbbb", "running")], [job("bbbb", "running")], [job("bbbb", "failed")]]
    waiting = Poll(lambda: looks.pop(0), ["aaaa", "bbbb"], timeout_ms=None, mode="all")

    assert isinstance(waiting.look(), float)
    assert isinstance(waiting.look(), float)
    result = waiting.look()
    assert isinstance(result, Polled)
    assert result.errors == {"aaaa": "no", "bbbb": "no"}

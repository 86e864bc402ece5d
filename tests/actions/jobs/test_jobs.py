from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from musicgen_cli import settings
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import GenerateOptions, plan
from musicgen_cli.actions.jobs import runner
from musicgen_cli.actions.jobs.job import Job, new_job
from musicgen_cli.actions.jobs.job_files import JobFiles
from musicgen_cli.actions.jobs.job_queue import JobQueue
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.actions.jobs.poll import poll
from musicgen_cli.errors import AmbiguousIdError, InvalidValueError, NotFoundError
from musicgen_cli.store import Store
from musicgen_cli.store.lines import timestamp
from musicgen_cli.store.lock import locked
from tests.support import fakes
from tests.support.together import Together

Queue = Callable[..., Sequence[Job]]
WAIT_S = 60  # for what takes a moment, on a machine that is slow


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store, settings.state_dir())


@pytest.fixture
def queue(jobs: Jobs, store: Store, service: HTTPServer) -> Iterator[Queue]:
    """Queue takes that the fake service makes; kill a runner that is left."""

    def add(prompt: str = "x", **more: Any) -> Sequence[Job]:
        options = GenerateOptions({"prompt": prompt, "duration": 0.5}, **more)
        url = service.url_for("/").rstrip("/")
        return jobs.add(plan(options, store), EngineConfig(local=False, url=url, timeout=60, max_wait=5))

    yield add
    for job in jobs.list():
        if job.runner_pid is not None and job.state == "running":
            os.kill(job.runner_pid, signal.SIGKILL)


@pytest.fixture
def gate(service: HTTPServer) -> Iterator[threading.Event]:
    """Hold back every answer of the service until the event is set."""
    opened = threading.Event()

    def answer(request: Request) -> Response:
        opened.wait(WAIT_S)
        return fakes.ours(request)

    service.clear()
    service.expect_request("/predict", method="POST").respond_with_handler(answer)
    yield opened
    opened.set()


def ended(jobs: Jobs, *waiting: Job) -> list[Job]:
    """Wait until jobs have ended, and return them as they are then."""
    deadline = time.monotonic() + WAIT_S
    while True:
        now = {job.id: job for job in jobs.reconcile()}
        if all(now[job.id].has_ended for job in waiting):
            return [now[job.id] for job in waiting]
        assert time.monotonic() < deadline, now
        time.sleep(0.05)


def running(jobs: Jobs, waiting: Job) -> Job:
    """Wait until a pending job is running, and return it as it is then."""
    deadline = time.monotonic() + WAIT_S
    while (job := jobs.find(waiting.id)).state != "running":
        assert job.state == "pending", job.error
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


def change(jobs: Jobs, job: Job, **values: Any) -> None:
    """Write other values into a job's file, as another program could."""
    path = jobs.folder / f"{job.id}.json"
    record = json.loads(path.read_text()) | values
    path.unlink()
    path.write_text(json.dumps(record))


def left_running(jobs: Jobs, store: Store, prompt: str) -> Job:
    """Write a running job whose runner is dead."""
    (planned,) = plan(GenerateOptions({"prompt": prompt, "duration": 0.5}), store)
    job = new_job(planned, EngineConfig(local=True, model="nano"), place=time.time_ns()).running(pid=2**22 + 1)
    job_files = JobFiles(jobs.folder)
    with job_files.locked():
        return job_files.write(job)


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return the bytes, the time and the inode of each file in a folder."""
    return {
        path.name: (path.read_bytes(), (status := path.stat()).st_mtime_ns, status.st_ino) for path in folder.iterdir()
    }


def test_a_job_becomes_a_stored_take(queue: Queue, jobs: Jobs, store: Store) -> None:
    """Its result names the take, whose record names the job."""
    (job,) = ended(jobs, *queue("calm", tags=["a"], creator="me"))

    take = store.get("last")
    assert job.state == "complete"
    assert job.result == {
        "status": "success", "output_hash": take.content_hash, "artifact_id": take.id, "duration": 0.5,
        "sample_rate": 32_000,
    }  # fmt: skip
    assert (take.prompt, take.creator, take.client_job_id) == ("calm", "me", job.id)
    assert "a" in take.tags


def test_only_the_owner_can_read_jobs_and_no_key_is_in_them(
    queue: Queue, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, service: HTTPServer
) -> None:
    """Files are 0600, folders 0700; the runner reads the key itself and sends it."""
    monkeypatch.setenv("MUSICGEN_API_KEY", "s3cret")
    ended(jobs, *queue())

    for path in jobs.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"s3cret" not in path.read_bytes()
    for folder in (jobs.folder, jobs.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert service.log[0][0].headers["Authorization"] == "Bearer s3cret"


def test_the_members_of_a_job_s_file_stay_the_same(jobs: Jobs, store: Store) -> None:
    """Other versions read them."""
    job = left_running(jobs, store, "calm")
    record = json.loads((jobs.folder / f"{job.id}.json").read_bytes())

    assert [*record] == [
        "id", "state", "place", "created", "request", "known", "means", "started", "finished", "runner_pid", "steps",
        "total", "result", "error", "key_proof",
    ]  # fmt: skip
    assert [*record["known"]] == ["tags", "creator", "parent_id", "variation_set_id", "variation_index"]
    assert record["means"] == {
        "local": True, "url": None, "timeout": None, "max_wait": None, "model": "nano", "engine": None, "device": None,
        "precision": None,
    }  # fmt: skip


def test_a_failed_job_has_its_reason_and_the_next_one_runs(queue: Queue, jobs: Jobs, service: HTTPServer) -> None:
    """The error is in the job's file, and the next job runs."""
    service.clear()
    service.expect_ordered_request("/predict").respond_with_json({"detail": "no room"}, 500)
    service.expect_ordered_request("/predict").respond_with_handler(fakes.ours)
    first, second = ended(jobs, *queue(), *queue())

    assert first.state == "failed"
    assert first.error == {
        "code": "service-error", "message": "the service answered 500: no room", "hint": None, "exit_code": 6,
    }  # fmt: skip
    assert second.state == "complete"


def test_jobs_run_in_the_order_in_which_they_came(queue: Queue, jobs: Jobs, store: Store) -> None:
    """So do variations, and takes that join the same set one after another get indices of their own."""
    queued = [*queue("a", variations=2), *queue("b", variation_set_id="s"), *queue("c", variation_set_id="s")]
    ended(jobs, *queued)

    takes = [*store.newest(None)][::-1]
    assert [take.client_job_id for take in takes] == [job.id for job in queued]
    assert [take.variation_index for take in takes] == [0, 1, 0, 1]


@pytest.mark.usefixtures("gate")
def test_a_pending_job_is_cancelled_at_once(queue: Queue, jobs: Jobs, service: HTTPServer) -> None:
    """The job before it goes on."""
    first, second = [*queue("first"), *queue("second")]
    running(jobs, first)

    assert [job.state for job in jobs.cancel([second.id])] == ["cancelled"]
    assert jobs.find(first.id).state == "running"


def test_a_running_job_is_cancelled_and_its_connection_ends(queue: Queue, jobs: Jobs, store: Store) -> None:
    """The service's connection is closed, nothing is stored, and the next job runs."""
    connected, closed = threading.Event(), threading.Event()

    def serve(connection: socket) -> None:
        connected.set()
        if not connection.recv(1):  # the other end has closed it
            closed.set()

    with fakes.raw_server(serve) as url:
        (job,) = jobs.add(plan(GenerateOptions({}), store), EngineConfig(local=False, url=url, timeout=60, max_wait=5))
        assert connected.wait(WAIT_S)
        assert [job.state for job in jobs.cancel([job.id])] == ["cancelled"]
        assert closed.wait(10)
    (after,) = ended(jobs, *queue())
    assert after.state == "complete"
    assert len([*store.newest(None)]) == 1


def test_the_jobs_after_a_cancelled_one_run_though_nobody_looks(
    queue: Queue, jobs: Jobs, gate: threading.Event
) -> None:
    """The runner that ends with the connection of a cancelled job starts the next one itself."""
    first, second = [*queue("first"), *queue("second")]
    pid = running(jobs, first).runner_pid
    jobs.request_cancel([first.id])  # `list`, which follows, starts no runner

    def state(job: Job, expected: str) -> Job:
        deadline = time.monotonic() + WAIT_S
        while (found := jobs.find(job.id)).state != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    state(first, "cancelled")
    gate.set()  # not before: the service's answer would make the first one complete
    assert state(second, "complete").runner_pid != pid


@pytest.mark.usefixtures("gate")
def test_a_job_whose_runner_was_killed_has_failed(queue: Queue, jobs: Jobs) -> None:
    """The job that it was running has failed, with the reason."""
    (job,) = queue()
    pid = running(jobs, job).runner_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    (after,) = ended(jobs, job)

    assert after.state == "failed"
    assert after.error is not None
    assert after.error["message"] == f"its runner (process {pid}) ended before the take was made"


def test_reconciling_again_starts_no_second_runner(queue: Queue, jobs: Jobs, gate: threading.Event) -> None:
    """A runner that was started and does not hold its lock yet is waited for."""
    (job,) = queue()
    starts = set()
    deadline = time.monotonic() + WAIT_S
    while {each.id: each.state for each in jobs.reconcile()}[job.id] == "pending":
        assert time.monotonic() < deadline
        with suppress(FileNotFoundError):
            starts.add((jobs.folder / "runner.starting").stat().st_mtime_ns)

    assert len(starts) == 1


def test_a_model_is_loaded_once_for_consecutive_jobs(jobs: Jobs, store: Store) -> None:
    """A job that needs another engine waits until those before it have ended."""
    planned = plan(GenerateOptions({"duration": 0.5}, variations=4), store)
    nano = EngineConfig(local=True, model="nano")
    lost = EngineConfig(local=True, model="/nowhere/at/all")
    queued = [*jobs.add(planned[:2], nano), *jobs.add(planned[2:3], lost), *jobs.add(planned[3:], nano)]
    states = [job.state for job in ended(jobs, *queued)]

    assert states == ["complete", "complete", "failed", "complete"]
    assert len({job.runner_pid for job in jobs.list()}) == 1
    assert jobs.list()[2].outcome == "there is no folder '/nowhere/at/all'"


def test_the_last_variation_is_the_newest_take(jobs: Jobs, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of one set are stored in their order, although the last one is made first."""
    job_files = JobFiles(jobs.folder)
    with job_files.locked():
        for i, planned in enumerate(plan(GenerateOptions({"duration": 0.5, "seed": 0}, variations=4), store)):
            job_files.write(new_job(planned, EngineConfig(local=True, model="nano"), place=i))
    monkeypatch.setattr(runner, "open_engine", lambda *_, **__: Together(4))
    runner.Runner(store, JobQueue(store, settings.state_dir())).run()

    assert [take.variation_index for take in store.newest(None)] == [3, 2, 1, 0]
    assert [job.state for job in jobs.list()] == ["complete"] * 4


def test_after_a_reboot_running_jobs_have_failed_and_pending_ones_run(queue: Queue, jobs: Jobs) -> None:
    """A job whose take was stored before is complete, and the take is not made twice."""
    stored, lost, waiting = ended(jobs, *queue("stored"), *queue("lost"), *queue("waiting"))
    with locked(jobs.folder, "runner.lock", wait_s=30):  # the runner ends when it has been idle for a while
        pass
    blank = {"result": None, "finished": None}
    change(jobs, stored, state="running", **blank)
    change(jobs, lost, state="running", request={**lost.request, "client_job_id": None}, **blank)
    for path in jobs.folder.glob(f"{lost.id}.json"):
        path.rename(jobs.folder / "00000000-0000-4000-8000-000000000000.json")
    change(jobs, waiting, state="pending", **blank)
    (jobs.folder / f"{stored.id}.tmp-1").touch()
    states = {job.prompt: job.state for job in jobs.reconcile()}

    assert not [*jobs.folder.glob("*.tmp-*")]
    assert states == {"stored": "complete", "lost": "failed", "waiting": "pending"}
    assert jobs.find(stored.id).result == stored.result
    assert [job.state for job in ended(jobs, waiting)] == ["complete"]


def test_a_list_changes_nothing_and_shows_what_reconcile_would_write(
    jobs: Jobs, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead runner's jobs are complete, cancelled or failed; no file changes, and no process is started."""
    complete, cancelled, failed = (left_running(jobs, store, prompt) for prompt in ("stored", "stopped", "lost"))
    take = store.put(fakes.tone(0.5), complete.planned.draft)
    (jobs.folder / f"{cancelled.id}.cancel").touch()
    (jobs.folder / f"{failed.id}.tmp-1").touch()
    (jobs.folder / "runner.lock").touch()
    (planned,) = plan(GenerateOptions({"prompt": "waiting", "duration": 0.5}), store)
    waiting = JobFiles(jobs.folder).write(new_job(planned, failed.engine_config, place=time.time_ns()))
    before = contents(jobs.folder)
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **_: started.append(words))

    listed = jobs.list()
    assert [job.id for job in listed] == [complete.id, cancelled.id, failed.id, waiting.id]
    assert [job.state for job in listed] == ["complete", "cancelled", "failed", "pending"]
    assert (listed[0].result or {})["artifact_id"] == take.id
    assert (listed[2].error or {})["code"] == "runner-died"
    assert poll(jobs.list, timeout_ms=0).pending == [waiting.id]
    assert jobs.find(failed.id).state == "failed"
    assert contents(jobs.folder) == before
    assert started == []

    (jobs.folder / f"{waiting.id}.json").unlink()  # so that reconcile starts no process either
    settled = jobs.reconcile()
    assert [(job.id, job.state, job.result, job.error) for job in settled] == [
        (job.id, job.state, job.result, job.error) for job in listed[:3]
    ]
    assert JobFiles(jobs.folder).read() == settled
    assert started == []


def test_a_list_leaves_the_jobs_of_a_living_runner_alone(jobs: Jobs, store: Store) -> None:
    """They are shown as their files say."""
    job = left_running(jobs, store, "x")
    with locked(jobs.folder, "runner.lock", wait_s=0):
        before = contents(jobs.folder)
        assert jobs.list() == [job]
        assert contents(jobs.folder) == before
    assert [each.state for each in jobs.list()] == ["failed"]


def test_a_list_turns_no_starting_runner_away(jobs: Jobs, store: Store) -> None:
    """It looks at the runner's lock only while it holds the folder's, under which runners start."""
    job = left_running(jobs, store, "x")
    done = threading.Event()

    def keep_listing() -> None:
        reader = Jobs(store, settings.state_dir())
        while not done.is_set():
            reader.list()

    threads = [threading.Thread(target=keep_listing, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    job_files = JobFiles(jobs.folder)
    with job_files.locked():
        for _ in range(1000):
            with job_files.runner_lock():
                pass
    with JobQueue(store, settings.state_dir()).as_runner() as resign:
        assert jobs.find(job.id).state == "failed"
        assert resign()
    done.set()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_a_list_of_no_jobs_makes_no_folder(jobs: Jobs) -> None:
    """Neither does reconciling them."""
    assert jobs.list() == jobs.reconcile() == []
    assert not jobs.folder.exists()


def test_a_job_that_ended_a_week_ago_is_removed_and_its_take_is_not(queue: Queue, jobs: Jobs, store: Store) -> None:
    """A younger one stays; `list` hides the old one before it is removed."""
    old, young = ended(jobs, *queue("old"), *queue("young"))
    long_ago, lately = (timestamp(datetime.now(UTC) - timedelta(days=days)) for days in (7.01, 6.99))
    change(jobs, old, finished=long_ago)
    change(jobs, young, finished=lately)

    assert [job.id for job in jobs.list()] == [young.id]
    assert (jobs.folder / f"{old.id}.json").exists()
    assert [job.id for job in jobs.reconcile()] == [young.id]
    assert not (jobs.folder / f"{old.id}.json").exists()
    assert {take.prompt for take in store.newest(None)} == {"old", "young"}


def test_a_damaged_file_is_a_failed_job(jobs: Jobs, queue: Queue, store: Store) -> None:
    """The others are read all the same."""
    damaged, good = ended(jobs, *queue(), *queue())
    for text in ("", "{}", "[]", '{"state":"running"}', "[" * 100_000, '{"means":{"x":1}}'):
        (jobs.folder / f"{damaged.id}.json").write_text(text)
        now = {job.id: job for job in Jobs(store, settings.state_dir()).reconcile()}
        assert now[damaged.id].state == "failed"
        assert "damaged" in str(now[damaged.id].error)
        assert now[good.id].state == "complete"


def test_a_job_is_found_by_the_start_of_its_id(jobs: Jobs, queue: Queue) -> None:
    """Four digits are enough if no other id starts with them; `last` is the job that was queued last."""
    first, second = ended(jobs, *queue(), *queue())

    assert jobs.find(first.id[:8]).id == first.id
    assert jobs.find("last").id == second.id
    for id_ in ("", "abc", "no such job"):
        with pytest.raises(NotFoundError):
            jobs.find(id_)
    twin = first.id[:9] + "0000-4000-8000-000000000000"[:27]
    (jobs.folder / f"{twin}.json").write_bytes((jobs.folder / f"{first.id}.json").read_bytes())
    with pytest.raises(AmbiguousIdError):
        jobs.find(first.id[:8])


def test_two_stores_have_two_runners(queue: Queue, jobs: Jobs, gate: threading.Event, tmp_path: Path) -> None:
    """Neither waits for the other."""
    (job,) = queue()
    other = Store(tmp_path / "other")
    others = Jobs(other, settings.state_dir())
    (second,) = others.add(plan(GenerateOptions({"duration": 0.5}), other), job.engine_config)
    pids = {running(jobs, job).runner_pid, running(others, second).runner_pid}
    gate.set()

    assert len(pids) == 2
    assert ended(jobs, job)[0].state == ended(others, second)[0].state == "complete"


def test_poll_waits_for_any_or_for_all(queue: Queue, jobs: Jobs, gate: threading.Event) -> None:
    """No ids means all that haven't ended; unknown and cancelled jobs count as failed."""
    first, second = [*queue("first"), *queue("second")]
    running(jobs, first)
    late = poll(jobs.list, timeout_ms=200)
    assert (late.reason, late.pending, late.completed) == ("timeout", [first.id, second.id], [])
    assert 200 <= late.elapsed_ms < 5_000

    jobs.cancel([second.id])
    some = poll(jobs.list, [first.id, second.id, "nonsense"], timeout_ms=30_000)
    assert (some.reason, some.pending, some.failed) == ("job_complete", [first.id], [second.id, "nonsense"])
    assert poll(jobs.list, [first.id, second.id], timeout_ms=100, mode="all").reason == "timeout"

    gate.set()
    done = poll(jobs.list, [first.id, second.id], timeout_ms=30_000, mode="all")
    assert (done.reason, done.completed, done.failed, done.pending) == ("job_complete", [first.id], [second.id], [])
    assert done.results[first.id]["status"] == "success"
    assert poll(jobs.list).reason == "job_complete"


@pytest.mark.parametrize("values", [{"timeout_ms": 30_001}, {"timeout_ms": -1}, {"timeout_ms": True}, {"mode": "some"}])
def test_a_poll_out_of_range_is_refused(jobs: Jobs, values: dict[str, Any]) -> None:
    """A call waits for half a minute at most."""
    with pytest.raises(InvalidValueError):
        poll(jobs.list, **values)


def test_whatever_kills_runners_every_job_ends_and_no_take_is_made_twice(
    queue: Queue, jobs: Jobs, store: Store, service: HTTPServer
) -> None:
    """Fifty jobs, and runners that are killed again and again; a job that is queued afterwards runs."""
    chance = random.Random(7)

    def answer(request: Request) -> Response:
        time.sleep(chance.uniform(0, 0.05))
        return fakes.ours(request)

    service.clear()
    service.expect_request("/predict", method="POST").respond_with_handler(answer)
    queued = [job for i in range(25) for job in queue(f"{i}", variations=2)]
    kills = 0
    deadline = time.monotonic() + 100
    while any(not job.has_ended for job in jobs.reconcile()):
        now = jobs.list()
        assert time.monotonic() < deadline, now
        pids = {job.runner_pid for job in now if job.state == "running"}
        if pids and kills < 12 and chance.random() < 0.5:
            with suppress(ProcessLookupError):
                os.kill(pids.pop() or 0, signal.SIGKILL)
            kills += 1
        time.sleep(chance.uniform(0, 0.1))
    (after,) = ended(jobs, *queue("after"))

    states = {job.id: job for job in jobs.reconcile()}
    assert states.keys() == {job.id for job in (*queued, after)}
    assert kills >= 8
    takes = Counter(take.client_job_id for take in store.newest(None))
    for job in states.values():
        assert job.state in {"complete", "failed"}
        assert takes[job.id] == (job.state == "complete"), job
        if job.state == "complete":
            assert job.result is not None
            assert store.get(job.result["artifact_id"]).client_job_id == job.id
        else:
            assert job.error is not None
            assert "ended before the take was made" in job.error["message"]
    assert after.state == "complete"
    assert Counter(job.state for job in states.values())["complete"] >= 51 - kills

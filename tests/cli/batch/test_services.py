"""`musicgen batch` and its services: several of them, one that stops, one that doesn't answer."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli import limits
from musicgen_cli.engine import fleet
from tests.support.batches import RunRows, good, serving, takes_in
from tests.support.command_line import MUSICGEN


def test_services_must_have_the_same_model(batch: RunRows) -> None:
    """At the start it is wrong usage. A service that changes its model later makes no takes under the wrong name."""
    with serving(good, model="nano") as one, serving(good, model="small") as other:
        done = batch("x\n", "--url", one, "--url", other)
        assert done.code == 2
        assert "different models: nano, small" in done.err
        done = batch("x\n", "--url", other)
        assert done.code == 1
        assert "has the model 'nano' now, not 'small'" in done.err


def test_a_502_of_one_service_sends_its_rows_to_another(batch: RunRows, store_path: Path) -> None:
    """It is not waited for, as the other is there."""
    started = time.monotonic()
    with serving(lambda _: (502, b"")) as away, serving(good) as other:
        done = batch("".join(f"{n}\n" for n in range(8)), "--jobs", 4, "--url", away, "--url", other, "--max-wait", 100)

    assert done.code == 0, done.err
    assert len(takes_in(store_path)) == 8
    assert "(502); it is left out" in done.err
    assert time.monotonic() - started < 50


def test_a_service_may_stop_and_come_back(batch: RunRows, store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out with a warning, tried again later, and then used again; no row is lost."""
    monkeypatch.setattr(fleet, "BACKOFF_FIRST_S", 0.1)
    monkeypatch.setattr(fleet, "BACKOFF_MOST_S", 0.2)
    monkeypatch.setattr("musicgen_cli.actions.batch.batch.BACKOFF_FIRST_S", 0.1)  # for a broken connection
    monkeypatch.setattr(limits, "STARTING_S", 0.0)
    served_by: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop, restart, is_back = threading.Event(), threading.Event(), threading.Event()

    def other(body: dict[str, Any]) -> tuple[int, bytes]:
        served_by.append("other")
        if served_by.count("steady") >= 15:
            is_back.set()
        return good(body)

    def steady(body: dict[str, Any]) -> tuple[int, bytes]:
        served_by.append("steady")
        time.sleep(0.03)
        if served_by.count("steady") >= 5:
            stop.set()
        if served_by.count("steady") == 6:
            time.sleep(2)  # so that the other service is tried while it is away
        if served_by.count("steady") >= 15:
            restart.set()
        if served_by.count("steady") > 15:
            is_back.wait(1)  # so that rows are left when the other service is tried again
        return good(body)

    def come_and_go() -> None:
        with serving(other, port=port):
            stop.wait(60)
        restart.wait(60)
        with serving(other, port=port):
            done.wait(60)

    done = threading.Event()
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        with serving(steady) as url:
            result = batch("".join(f"{i}\n" for i in range(60)), "--url", url, "--url", f"http://127.0.0.1:{port}")
    finally:
        for event in (done, stop, restart):
            event.set()
        thread.join(60)

    assert result.code == 0, result.err
    assert len(takes_in(store_path)) == len({take.prompt for take in takes_in(store_path)}) == 60
    assert "it is left out, and tried again later" in result.err
    assert f"http://127.0.0.1:{port} is back" in result.err
    assert "other" in served_by[-10:]


def test_a_batch_without_a_service_ends(batch: RunRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 4: at once if no service is there at the start, after `--max-wait` if the last one stops."""
    monkeypatch.setattr(limits, "STARTING_S", 0.0)
    monkeypatch.setattr(fleet, "BACKOFF_FIRST_S", 0.1)
    done = batch("x\n", "--url", "http://127.0.0.1:9")
    assert (done.code, done.out) == (4, "")

    count = 0
    is_leaving = threading.Event()

    def last_one(body: dict[str, Any]) -> tuple[int, bytes]:
        nonlocal count
        count += 1
        if count == 2:
            is_leaving.set()
            time.sleep(0.1)
        return good(body)

    with ExitStack() as service:
        url = service.enter_context(serving(last_one))

        def stop_service() -> None:
            is_leaving.wait(20)
            service.close()

        thread = threading.Thread(target=stop_service)
        thread.start()
        done = batch("a\nb\nc\nd\n", "--url", url, "--max-wait", "0.3", "-q")
        thread.join(60)
    assert done.code == 4
    assert len(done.lines) == 2
    assert "no musicgen service could be reached for 0.3 s" in done.err


@contextmanager
def waiting_batch(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a batch with a service that never answers; yield it once it has sent three requests, as many as it may."""
    arrived = threading.Semaphore(0)
    leave = threading.Event()

    def never(_: dict[str, Any]) -> None:
        arrived.release()
        leave.wait(30)

    with serving(never) as url:
        line = [*MUSICGEN, "batch", *words, "--url", url, "--jobs", "3"]
        child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert all(arrived.acquire(timeout=20) for _ in range(3))
            yield child
        finally:
            child.kill()
            child.communicate()
            leave.set()


def test_a_batch_runs_only_once_at_a_time(batch: RunRows, tmp_path: Path, url: str, store_path: Path) -> None:
    """A second run is exit 5. With another name or other rows it runs, and also once the first is dead."""
    rows = "a\nb\nc\n"
    (tmp_path / "first").write_text(rows)
    with waiting_batch(str(tmp_path / "first"), "-d", "0.5"):
        done = batch(rows, "--url", url)
        assert done.code == 5
        assert done.err.startswith("error: the same batch is under way in this store")
        assert batch(rows, "--url", url, "--run", "other").code == 0
        assert batch("d\n", "--url", url).code == 0
        assert len(takes_in(store_path)) == 4
    assert batch(rows, "--url", url).code == 0
    assert not [*store_path.glob("batch-*")]


def test_ctrl_c_ends_a_batch_at_once(tmp_path: Path) -> None:
    """The exit code is 130, although three requests are under way."""
    (tmp_path / "rows").write_text("a\nb\nc\nd\n")
    with waiting_batch(str(tmp_path / "rows"), "-q") as child:
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
        assert time.monotonic() - started < 5
        assert child.stdout is not None
        assert child.stderr is not None
        assert (child.stdout.read(), child.stderr.read()) == ("", "error: interrupted\n")

"""A service behind nginx, and nginx itself, that are away for a while: nothing is lost."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.batches import takes_in
from tests.support.command_line import MUSICGEN, Run
from tests.support.nginx import needs_nginx, nginx_before
from tests.support.programs import environment
from tests.support.waiting import wait_until

pytestmark = [
    needs_nginx,
    pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8"),
    pytest.mark.timeout(400),
]

NGINX_HOST = "127.20.0.7"
HOST = "127.20.0.6"  # loopback; no other test takes the port from the service while that is away
DEADLINE_S = 150.0
ROWS = 30


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        free: int = listening.getsockname()[1]
        return free


@pytest.fixture
def behind_nginx(port: int, tmp_path: Path) -> Iterator[str]:
    """Run nginx before a service that isn't there."""
    with nginx_before(f"{HOST}:{port}", tmp_path / "nginx") as url:
        yield url


@pytest.fixture
def start_service(port: int) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Return a function that starts the service; none outlives the test."""
    pytest.importorskip("onnxruntime", reason="needs the extra local")
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    services: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        words = [*MUSICGEN, "serve", "--model", "nano", "--host", HOST, "--port", str(port), "--slots", "2"]
        services.append(subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL))
        return services[-1]

    yield start
    for service in services:
        service.kill()
        service.wait(60)


def start_batch(url: str, folder: Path) -> subprocess.Popen[str]:
    """Start a batch of 30 rows, four requests at once."""
    rows = folder / "rows.txt"
    rows.write_text("".join(f"prompt {number}\n" for number in range(ROWS)))
    return subprocess.Popen(
        [*MUSICGEN, "batch", rows, "-d", "2", "--jobs", "4", "--url", url, "--max-wait", "100"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_service_that_restarts_behind_nginx_loses_no_row(
    by: signal.Signals,
    behind_nginx: str,
    start_service: Callable[[], subprocess.Popen[bytes]],
    store_path: Path,
    tmp_path: Path,
) -> None:
    """30 rows, 30 takes: what was under way when it ended, and what came while it was away or loading."""
    service = start_service()
    batch = start_batch(behind_nginx, tmp_path)
    try:
        wait_until(lambda: store_path.exists() and len(takes_in(store_path)) >= 3, DEADLINE_S)
        service.send_signal(by)
        service.wait(DEADLINE_S)
        assert len(takes_in(store_path)) < ROWS
        time.sleep(1.5)  # longer than the first wait of the batch
        start_service()
        out, err = batch.communicate(timeout=DEADLINE_S)
    finally:
        batch.kill()

    assert batch.returncode == 0, err
    assert len(out.splitlines()) == ROWS
    assert len(takes_in(store_path)) == ROWS
    if by == signal.SIGKILL:  # after SIGTERM, all requests may have been told to wait before the service was away
        assert "can't reach the service behind it (502); it is left out" in err
        assert "is back" in err


def test_a_service_that_stays_away_behind_nginx_is_exit_4(
    musicgen: Run, behind_nginx: str, store_path: Path, tmp_path: Path
) -> None:
    """After `--max-wait`, with a note for each wait; nginx is named, as no service can be."""
    rows = tmp_path / "rows.txt"
    rows.write_text("x\ny\n")
    away = f"the proxy at {behind_nginx.removeprefix('http://')} can't reach the service behind it (502)"
    for words in (["generate", "x"], ["batch", rows]):
        started = time.monotonic()
        done = musicgen(*words, "-d", "0.5", "--url", behind_nginx, "--max-wait", "2.5")
        assert done.code == 4, done.err
        assert time.monotonic() - started > 0.5
        assert f"{away}, trying again" in done.err
        assert f"error: {away}\n" in done.err
        assert "`--max-wait`" in done.err

    done = musicgen("doctor", "--url", behind_nginx)
    assert done.code == 1
    assert away in done.out


def test_a_service_that_comes_back_behind_nginx_is_waited_for_by_one_request(
    musicgen: Run, behind_nginx: str, start_service: Callable[[], subprocess.Popen[bytes]], store_path: Path
) -> None:
    """By `generate`, and by a batch that is begun meanwhile."""
    musicgen("doctor", "--url", behind_nginx)
    start_service()
    done = musicgen("generate", "x", "-d", "0.5", "--url", behind_nginx, "--max-wait", "100")

    assert done.code == 0, done.err
    assert len(takes_in(store_path)) == 1


def test_nginx_that_restarts_loses_no_row(
    port: int, start_service: Callable[[], subprocess.Popen[bytes]], store_path: Path, tmp_path: Path
) -> None:
    """30 rows, 30 takes: those whose connections nginx cut off are asked for again."""
    start_service()
    with socket.create_server((NGINX_HOST, 0)) as listening:
        address = f"{NGINX_HOST}:{listening.getsockname()[1]}"
    with ExitStack() as stack:
        with nginx_before(f"{HOST}:{port}", tmp_path / "first", address=address) as url:
            batch = start_batch(url, tmp_path)
            stack.callback(batch.kill)
            wait_until(lambda: store_path.exists() and len(takes_in(store_path)) >= 3, DEADLINE_S)
        assert len(takes_in(store_path)) < ROWS
        time.sleep(4)  # longer than a refused connection is taken for a service that is starting
        stack.enter_context(nginx_before(f"{HOST}:{port}", tmp_path / "second", address=address))
        out, err = batch.communicate(timeout=DEADLINE_S)

    assert batch.returncode == 0, err
    assert len(out.splitlines()) == ROWS
    assert len(takes_in(store_path)) == ROWS
    assert "is back" in err


def test_a_service_that_hangs_behind_nginx_is_waited_for(
    musicgen: Run,
    port: int,
    start_service: Callable[[], subprocess.Popen[bytes]],
    store_path: Path,
    tmp_path: Path,
) -> None:
    """Nginx answers 504 for a service that is stopped, or whose machine is starting; then it is up again."""
    away = "got no answer in time from the service behind it (504)"
    with nginx_before(f"{HOST}:{port}", tmp_path / "nginx", patience_s=1) as url:
        with socket.create_server((HOST, port)):  # connections are made, and nothing answers
            (tmp_path / "rows.txt").write_text("x\ny\n")
            for words in (["generate", "x"], ["batch", tmp_path / "rows.txt"]):
                done = musicgen(*words, "-d", "0.5", "--url", url, "--max-wait", "2.5")
                assert done.code == 4, done.err
                assert f"{away}, trying again" in done.err
                assert "hint: if the service is up, it is slower than the proxy waits" in done.err
            waiting = subprocess.Popen(
                [*MUSICGEN, "generate", "x", "-d", "0.5", "-q", "--url", url, "--max-wait", "100"],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert waiting.stderr is not None
            noted = waiting.stderr.readline()
        assert away in noted
        start_service()
        out, err = waiting.communicate(timeout=DEADLINE_S)

    assert waiting.returncode == 0, err
    assert out.split() == [take.id for take in takes_in(store_path)]

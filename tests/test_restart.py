"""A service behind nginx that is away for a while: nginx answers 502, and nothing is lost."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_service_that_restarts_behind_nginx_loses_no_row(
    by: signal.Signals,
    behind_nginx: str,
    start_service: Callable[[], subprocess.Popen[bytes]],
    store_path: Path,
    tmp_path: Path,
) -> None:
    """30 rows, 30 takes: what was under way when it ended, and what came while it was away or loading."""
    rows = tmp_path / "rows.txt"
    rows.write_text("".join(f"prompt {number}\n" for number in range(ROWS)))
    service = start_service()
    batch = subprocess.Popen(
        [*MUSICGEN, "batch", rows, "-d", "2", "--jobs", "4", "--url", behind_nginx, "--max-wait", "100"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
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

from __future__ import annotations

import time
from pathlib import Path

from musicgen_cli import settings
from musicgen_cli.actions.jobs.folder import job_folder
from musicgen_cli.actions.jobs.launch import start_runner

WAIT_S = 60


def test_a_runner_appends_to_the_log(tmp_path: Path) -> None:
    """What it says comes after what earlier runners said, and its working directory has nothing to do with it."""
    store = tmp_path / "a störe"
    folder = job_folder(store, settings.state_dir())
    (folder / "runner.lock").mkdir(parents=True, mode=0o700)  # so that the runner fails
    folder.chmod(0o700)
    log = folder / "runner.log"
    log.write_bytes(b"an earlier line\n")
    start_runner(folder, store)
    deadline = time.monotonic() + WAIT_S
    while b"Error" not in log.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert log.read_bytes().startswith(b"an earlier line\n")

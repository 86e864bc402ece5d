"""The command line on whatever platform runs the tests: they need nothing of POSIX."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli.store import Store
from tests.support import fakes
from tests.support.command_line import MUSICGEN
from tests.support.takes import put_take

WAIT_S = 120


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture(autouse=True)
def _address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the fake service by its number: `localhost` may be looked up as another one first, which takes seconds."""
    if "service" in request.fixturenames:
        service: HTTPServer = request.getfixturevalue("service")
        monkeypatch.setenv("MUSICGEN_URL", f"http://127.0.0.1:{service.port}")


def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program with pipes, as a script does, where the locale's encoding is UTF-8 if it is of any account."""
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    environment.pop("PYTHONIOENCODING", None)
    return subprocess.run([*MUSICGEN, *words], input=stdin, capture_output=True, env=environment, timeout=WAIT_S)


def test_what_is_piped_is_utf_8_with_plain_line_ends(store: Store) -> None:
    """The platform's code page may have no arrow."""
    take = put_take(store, "café → 🎹")
    shown = run("show", take.id, "--json")
    listed = run("list")

    assert (shown.returncode, listed.returncode) == (0, 0), shown.stderr + listed.stderr
    assert json.loads(shown.stdout.decode())["prompt"] == "café → 🎹"
    assert "café → 🎹" in listed.stdout.decode()
    assert b"\r" not in shown.stdout + listed.stdout


def test_a_reader_that_leaves_is_no_error(store: Store) -> None:
    """As `head -1` and `Select-Object -First 1` do."""
    for i in range(50):
        put_take(store, "p" * 1900, seed=i)
    with subprocess.Popen(
        [*MUSICGEN, "list", "--all", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.read(10)
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(WAIT_S) == 0


def test_days_of_any_century_are_times(store: Store) -> None:
    """Some systems know the local time of no day before 1970."""
    take = put_take(store)
    done = run("list", "-q", "--since", "1960-01-01", "--until", "9998-12-31")

    assert done.stdout.decode().split() == [take.id], done.stderr


def test_takes_are_exported(store: Store, tmp_path: Path) -> None:
    """To names from prompts, which no system reserves, and never over a file."""
    put_take(store, "con")
    folder = tmp_path / "out"
    for _ in range(2):
        assert run("export", "last", "-o", f"{folder}{os.sep}", "--name", "{prompt_slug}").returncode == 0
    assert run("export", "last", "-o", str(folder / "take-con.wav")).returncode != 0

    assert sorted(path.name for path in folder.iterdir()) == ["take-con-2.wav", "take-con.wav"]
    assert run("export", "last", "--no-metadata", "-o", "-").stdout == fakes.exported(folder / "take-con.wav")


def test_a_prompt_of_standard_input_is_utf_8(store: Store, service: HTTPServer) -> None:
    """A byte order mark and the line ends of Windows programs are no part of it."""
    done = run("generate", "-", "-q", "-d", "1", stdin="\ufeffcafé\r\n".encode())

    assert done.returncode == 0, done.stderr
    assert store.get("last").prompt == "café"


def test_jobs_run_in_the_background(store: Store, service: HTTPServer) -> None:
    """The runner outlives the command that started it, also for a store with a blank in its path."""
    done = run("generate", "in the background", "-d", "1", "--detach", "-q")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + WAIT_S
    while not (takes := [*store.newest(None)]):
        assert time.monotonic() < deadline, run("job", "list").stdout.decode()
        time.sleep(0.2)

    assert takes[0].prompt == "in the background"
    polled = run("job", "poll", "last", "--json")
    assert takes[0].id in json.dumps(json.loads(polled.stdout.decode())["results"]), polled.stderr


def test_a_batch_reads_rows_with_any_line_ends(store: Store, service: HTTPServer, tmp_path: Path) -> None:
    """And exports each take; the same command again has nothing to do."""
    service.expect_request("/health").respond_with_json({"status": "ok", "model": "nano"})
    rows = tmp_path / "rows.csv"
    rows.write_bytes("\ufeffprompt,seed,output\r\ncafé,1,a.wav\r\ntea,2,b.wav\r\n".encode())
    for _ in range(2):
        done = run("batch", str(rows), "-d", "1", "-o", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr

    assert {take.prompt for take in store.newest(None)} == {"café", "tea"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


def test_a_gallery_is_built_twice(store: Store, tmp_path: Path) -> None:
    """The second one replaces the first."""
    put_take(store, "café → 🎹")
    for _ in range(2):
        done = run("gallery", "-o", str(tmp_path / "gallery"))
        assert done.returncode == 0, done.stderr

    assert "café → 🎹" in (tmp_path / "gallery" / "index.html").read_text("utf-8")

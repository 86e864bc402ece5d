"""Users whose home directory doesn't exist or belongs to somebody else, and paths that can't be looked at."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli import settings
from musicgen_cli.store import Store
from tests.support.command_line import Run
from tests.support.privileges import STRANGER, lock_away, needs_setpriv, run_as_nobody, run_with_permissions
from tests.support.takes import put_take

LONG = "x" * 260
ENTERED = "locked/inside"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder of another user, outside of pytest's, which only root may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, STRANGER, STRANGER)
        yield Path(name)


@needs_setpriv
def test_without_a_home_what_needs_none_works(open_folder: Path) -> None:
    """There is no config file and no cache; a store that is named is used, and a service needs no store."""
    store = open_folder / "store"
    done = run_as_nobody("generate", "--local", "piano", "-d", "0.5", "-q", "--store", store)

    assert done.returncode == 0, done.stderr
    listed = run_as_nobody("list", "--store", store, "-q")
    assert (listed.stdout, listed.stderr) == (done.stdout, "")
    assert run_as_nobody("job", "list", "--store", store).returncode == 0
    assert run_as_nobody("model", "list").stdout.startswith("nano")
    assert run_as_nobody("serve", "--model", "./none").stderr.startswith("error: there is no folder './none'")


@needs_setpriv
@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["list"], "the store", "MUSICGEN_STORE"),
        (["generate", "--local", "x"], "the store", "MUSICGEN_STORE"),
        (["generate", "--local", "x", "--detach", "--store", "{}"], "the files of jobs", "XDG_STATE_HOME"),
    ],
)
def test_without_a_home_what_is_missing_is_named(open_folder: Path, words: list[str], message: str, hint: str) -> None:
    """The hint names the variable for that folder, not another one."""
    done = run_as_nobody(*(word.format(open_folder / "store") for word in words))

    assert done.stderr.splitlines()[-2] == f"error: there is no home directory for {message}"
    assert hint in done.stderr.splitlines()[-1]


@needs_setpriv
def test_doctor_works_without_a_home() -> None:
    """It says that the store is what is broken."""
    done = run_as_nobody("doctor", "--json")
    states = {line["name"]: line["state"] for line in map(json.loads, done.stdout.splitlines())}

    assert done.returncode == 1
    assert [name for name, state in states.items() if state == "broken"] == ["store"]


@needs_setpriv
def test_a_state_folder_of_another_user_is_named(tmp_path: Path, store_path: Path) -> None:
    """After one `sudo musicgen … --detach`, the folder of jobs belongs to root; the hint doesn't name the store."""
    put_take(Store(store_path))
    state = tmp_path / "state"
    jobs = state / "musicgen-cli" / "jobs"
    jobs.mkdir(parents=True)
    lock_away(jobs)
    for words in (["job", "list"], ["job", "show", "last"], ["generate", "--local", "x", "--detach"]):
        done = run_with_permissions(*words, XDG_STATE_HOME=str(state))

        assert done.returncode == 1, done.stderr
        assert str(jobs) in done.stderr.splitlines()[-2]
        assert done.stderr.splitlines()[-2].endswith("permission denied")
        assert done.stderr.splitlines()[-1] == "hint: XDG_STATE_HOME names another place for jobs"


@needs_setpriv
def test_an_unreadable_token_is_no_token(tmp_path: Path, httpserver: HTTPServer) -> None:
    """A public model can be pulled although the file of the hub's token belongs to another user."""
    httpserver.expect_request("/api/models/facebook/musicgen-small").respond_with_data("", status=404)
    folder = tmp_path / "huggingface"
    folder.mkdir()
    (folder / "token").write_text("hf_of_somebody_else")
    lock_away(folder)
    done = run_with_permissions("model", "pull", "small", HF_HOME=str(folder), HF_ENDPOINT=httpserver.url_for(""))

    assert "has no model" in done.stderr
    assert [request.headers.get("authorization") for request, _ in httpserver.log] == [None]


@needs_setpriv
def test_an_unreadable_cache_is_an_empty_cache(tmp_path: Path) -> None:
    """Models are listed without what was prepared of them."""
    (tmp_path / "cache").mkdir()
    lock_away(tmp_path / "cache")
    done = run_with_permissions("model", "list", XDG_CACHE_HOME=str(tmp_path / "cache"))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("store_path")
@pytest.mark.parametrize(
    "words",
    [
        ["generate", "x", "-o", LONG],
        ["generate", "x", "-o", f"{LONG}/"],
        ["generate", "x", "--store", LONG],
        ["generate", "x", "--local", "--model", f"./{LONG}"],
        ["generate", "x", "--local", "--model", LONG],
        ["generate", "x", "--local", "--detach", "--store", LONG],
        ["model", "pull", f"./{LONG}"],
        ["model", "show", LONG],
        ["gallery", "-o", LONG],
        ["import", LONG],
        ["batch", LONG],
        ["list", "--store", LONG],
        ["store", "check", "--store", LONG],
    ],
)
def test_a_name_that_is_too_long_is_a_sentence(musicgen: Run, service: HTTPServer, words: list[str]) -> None:
    """It is refused before anything is made."""
    done = musicgen(*words)

    assert done.code in {1, 2}
    assert "file name too long" in done.err.lower()
    assert "Traceback" not in done.err
    assert service.log == []


@needs_setpriv
@pytest.mark.parametrize(
    "words",
    [
        ["generate", "x", "-o", f"{ENTERED}/x.wav"],
        ["generate", "x", "-o", f"{ENTERED}/"],
        ["generate", "x", "--store", ENTERED],
        ["generate", "x", "--local", "--model", ENTERED],
        ["model", "pull", ENTERED],
        ["model", "show", ENTERED],
        ["gallery", "-o", ENTERED],
        ["import", ENTERED],
        ["batch", ENTERED],
        ["list", "--store", ENTERED],
        ["job", "list", "--store", "other", "--json"],
    ],
)
def test_a_folder_that_one_may_not_enter_is_a_sentence(
    tmp_path: Path, store_path: Path, service: HTTPServer, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """It is refused before anything is made."""
    put_take(Store(store_path))
    (tmp_path / ENTERED).mkdir(parents=True)
    lock_away(tmp_path / "locked")
    monkeypatch.chdir(tmp_path)
    done = run_with_permissions(*words, XDG_STATE_HOME=str(tmp_path / ENTERED))

    assert done.returncode in {1, 2}
    assert "permission" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert service.log == []


def test_one_bad_output_is_the_failure_of_one_row(
    musicgen: Run, store_path: Path, service: HTTPServer, tmp_path: Path
) -> None:
    """The other rows of the batch are made."""
    service.expect_request("/health").respond_with_json({"status": "ok", "model": "nano", "version": "1"})
    rows = [{"prompt": "a", "output": f"{tmp_path}/a.wav"}, {"prompt": "b", "output": f"{tmp_path}/{LONG}.wav"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = musicgen("batch", tmp_path / "rows.jsonl")
    done = musicgen("batch", tmp_path / "rows.jsonl", "--skip-invalid")

    assert refused.code == 2
    assert "line 2: can't write" in refused.err
    assert done.code == 0, done.err
    assert [take.prompt for take in Store(store_path).newest(None)] == ["a"]
    assert (tmp_path / "a.wav").is_file()


@pytest.mark.parametrize("host", ["h" * 300, "a..b", "\udce9"])
def test_a_host_that_is_no_name_is_refused(musicgen: Run, host: str) -> None:
    """`serve` says so before it loads the model."""
    done = musicgen("serve", "--model", "nano", "--port", "0", "--host", host)

    assert done.code == 2
    assert done.err.startswith("error: --host must be an address or a host's name, got ")


def test_an_error_of_the_system_is_never_a_traceback(
    musicgen: Run, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever no part of the program expected is a sentence with the path."""

    def fail(*_: object, **__: object) -> Callable[..., None]:
        raise PermissionError(13, "Permission denied", str(store_path))

    monkeypatch.setattr(settings, "load", fail)
    done = musicgen("list")

    assert (done.code, done.err) == (1, f"error: can't use {str(store_path)!r}: permission denied\n")

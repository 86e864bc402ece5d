"""What another user of this machine put where this program keeps its own is not run, not used and not obeyed."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli import settings
from musicgen_cli.actions.jobs.folder import job_folder
from musicgen_cli.settings import cache_dir, models_dir
from tests.support.bounded import Bounded, run_bounded
from tests.support.command_line import MUSICGEN, Run
from tests.support.privileges import STRANGER, needs_setpriv
from tests.support.programs import environment
from tests.support.strangers import give_away, run_as_stranger
from tests.support.waiting import wait_until

pytestmark = needs_setpriv

NANO = Path(__file__).parents[2] / "musicgen_cli" / "models" / "nano"


def musicgen_as_root(*words: object, **more: str) -> Bounded:
    return run_bounded([*MUSICGEN, *map(str, words)], env=environment() | more)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Name a file that appears if foreign code runs."""
    return tmp_path / "it-ran"


def planted_module(folder: Path, marker: Path) -> None:
    (folder / "pydantic.py").write_text(f"open({str(marker)!r}, 'w').close()\nraise ImportError\n")


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("where", ["folder", "jobs", "state"])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_folder_of_jobs_that_was_there_before(store_path: Path, marker: Path, where: str, how: str) -> None:
    """It is refused for whom it belongs to and for who may write there, and no code in it runs."""
    folder = job_folder(store_path, settings.state_dir())
    folder.mkdir(mode=0o700, parents=True)
    planted_module(folder, marker)
    place = {"folder": folder, "jobs": folder.parent, "state": folder.parent.parent}[where]
    if how == "owner":
        os.chown(place, STRANGER, STRANGER)
    else:
        place.chmod(0o777)

    for words in (["generate", "calm", "-d", "0.5", "--detach"], ["job", "list"], ["job", "poll", "--timeout-ms", "0"]):
        done = musicgen_as_root(*words)
        assert done.code == 1, done
        assert "is not used: " in done.err
        assert ("it belongs to user 54321" if how == "owner" else "(mode 0777; ") in done.err
    assert not marker.exists()


@pytest.mark.usefixtures("service")
def test_the_runner_finds_no_module_in_a_current_folder(store_path: Path, tmp_path: Path, marker: Path) -> None:
    """Neither in that of the jobs, even if it is one's own, nor in that of the command."""
    folder = job_folder(store_path, settings.state_dir())
    folder.mkdir(mode=0o700, parents=True)
    for place in (folder.parent.parent, folder.parent):
        place.chmod(0o700)
    planted_module(folder, marker)

    assert musicgen_as_root("generate", "calm", "-d", "0.5", "--detach").code == 0
    polled = musicgen_as_root("job", "poll", "--timeout-ms", "30000", "--mode", "all")

    assert "job_complete" in polled.out, polled
    assert not marker.exists()


def job_for(url: str, id_: str, **more: object) -> dict[str, object]:
    """Return what the file of a pending job holds."""
    return {
        "id": id_, "state": "pending", "place": 1, "created": "2026-11-28T12:00:00.000Z",
        "request": {"prompt": "calm", "duration": 0.5, "client_job_id": id_},
        "known": {
            "tags": [], "creator": "me", "parent_id": None, "variation_set_id": None, "variation_index": None,
        },
        "means": {"local": False, "url": url, "timeout": 30.0, "max_wait": 1.0},
    } | more  # fmt: skip


def headers_of(server: HTTPServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request, _ in server.log]


@pytest.mark.parametrize("owner", ["stranger", "root"])
def test_a_planted_job_doesn_t_get_the_key(httpserver: HTTPServer, store_path: Path, owner: str) -> None:
    """A job of somebody else isn't run, and one's own for another address is run without the key."""
    folder = job_folder(store_path, settings.state_dir())
    folder.mkdir(mode=0o700, parents=True)
    for place in (folder.parent.parent, folder.parent):
        place.chmod(0o700)
    id_ = "01234567-89ab-4cde-8f01-23456789abcd"
    path = folder / f"{id_}.json"
    httpserver.expect_request("/predict").respond_with_json({"detail": "thanks"}, 401)
    path.write_text(json.dumps(job_for(httpserver.url_for("").rstrip("/"), id_)))
    if owner == "stranger":
        os.chown(path, STRANGER, STRANGER)

    polled = musicgen_as_root("job", "poll", id_, "--timeout-ms", "30000", MUSICGEN_API_KEY="s3cret")

    assert id_ in json.loads(polled.out)["failed"], polled
    assert headers_of(httpserver) == ([] if owner == "stranger" else [None])


def test_a_job_that_was_queued_with_a_key_keeps_it(service: HTTPServer, store_path: Path) -> None:
    """Its file has no key, but a proof for this address; a changed address gets nothing."""
    url = service.url_for("").rstrip("/")
    words = ("generate", "calm", "-d", "0.5", "--detach")
    id_ = musicgen_as_root(*words, "--url", url, MUSICGEN_API_KEY="s3cret", MUSICGEN_URL="").out.strip()
    polled = musicgen_as_root("job", "poll", id_, "--timeout-ms", "30000", MUSICGEN_API_KEY="s3cret", MUSICGEN_URL="")
    assert id_ in json.loads(polled.out)["completed"], polled
    keys = {key for key in headers_of(service) if key}
    assert keys == {"Bearer s3cret"}
    folder = job_folder(store_path, settings.state_dir())
    wait_until(lambda: not (folder / "runner.lock").exists(), 60)
    record = json.loads((folder / f"{id_}.json").read_bytes())
    other = "11234567-89ab-4cde-8f01-23456789abcd"
    changed = job_for(url, other, key_proof=record["key_proof"])
    (folder / f"{other}.json").write_text(json.dumps(changed))
    service.clear_log()

    polled = musicgen_as_root("job", "poll", other, "--timeout-ms", "30000", MUSICGEN_API_KEY="s3cret", MUSICGEN_URL="")

    assert "the API key is not sent to" in json.loads(polled.out)["errors"][other]
    assert headers_of(service) == []


def forged(graphs: Path) -> None:
    """Alter a graph, and write the hash of the new bytes into the manifest."""
    import hashlib

    path, manifest = graphs / "sound.onnx", json.loads((graphs / "manifest.json").read_bytes())
    data = path.read_bytes() + b"\0"
    path.write_bytes(data)
    manifest["files"]["sound.onnx"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (graphs / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_dir() / "graphs"


@pytest.mark.parametrize("what", ["file", "folder", "all", "mode"])
def test_graphs_that_another_user_could_have_made(musicgen: Run, own_cache: Path, store_path: Path, what: str) -> None:
    """They are made again, whatever their hashes say."""
    words = ("generate", "calm", "--local", "--model", "nano", "-d", "0.5", "--seed", "7", "--json")
    first = musicgen(*words)
    assert first.code == 0, first.err
    (graphs,) = own_cache.iterdir()
    before = (graphs / "sound.onnx").read_bytes()
    forged(graphs)
    if what == "mode":
        (graphs / "sound.onnx").chmod(0o666)
    elif what == "file":
        os.chown(graphs / "sound.onnx", STRANGER, STRANGER)
    else:
        give_away(graphs if what == "folder" else own_cache)

    again = musicgen(*words)

    assert again.code == 0, again.err
    assert "preparing nano" in again.err
    assert json.loads(again.out)["content_hash"] == json.loads(first.out)["content_hash"]
    if what == "all":  # a folder in which others could replace what is made there
        assert "the prepared model is for this run only" in again.err
    else:
        assert (graphs / "sound.onnx").read_bytes() == before
        assert "preparing" not in musicgen(*words).err


def test_a_pulled_model_whose_graphs_are_another_user_s(musicgen: Run, store_path: Path, tmp_path: Path) -> None:
    """Without its weights they can't be made again, so the command says whose they are."""
    shutil.copytree(NANO, tmp_path / "mine")
    assert musicgen("model", "pull", tmp_path / "mine").code == 0
    words = ("generate", "calm", "--local", "--model", "mine", "-d", "0.5")
    assert musicgen(*words).code == 0
    give_away(models_dir() / "mine")

    done = musicgen(*words)

    assert done.code == 1
    assert "is not used: it belongs to user 54321" in done.err


def test_a_cached_digest_of_another_user_is_not_believed(musicgen: Run, own_cache: Path, tmp_path: Path) -> None:
    """It would name other weights."""
    shutil.copytree(NANO, tmp_path / "mine")
    for path in (tmp_path / "mine").iterdir():
        os.utime(path, (1, 1))
    right = json.loads(musicgen("model", "show", tmp_path / "mine", "--json").out)["checkpoint"]
    (digest,) = (path for path in (cache_dir() / "digests").iterdir() if path.read_text().strip() == right)
    digest.write_text("0" * 64)
    os.chown(digest, STRANGER, STRANGER)

    assert json.loads(musicgen("model", "show", tmp_path / "mine", "--json").out)["checkpoint"] == right


def test_another_user_can_use_the_program_for_themselves(tmp_path: Path) -> None:
    """With a home of their own everything is theirs, and private."""
    home = tmp_path / "stranger"
    tmp_path.chmod(0o755)

    done = run_as_stranger(home, "generate", "calm", "--local", "--model", "nano", "-d", "0.5")
    queued = run_as_stranger(home, "generate", "calm", "--local", "--model", "nano", "-d", "0.5", "--detach")
    polled = run_as_stranger(home, "job", "poll", queued.stdout.strip(), "--timeout-ms", "30000")

    assert done.returncode == 0, done.stderr
    assert queued.stdout.strip() in json.loads(polled.stdout)["completed"], polled.stderr
    for path in home.rglob("*"):
        status = path.lstat()
        assert status.st_uid == STRANGER
        if path.name not in {".cache", ".local", "share", "state"}:
            assert not stat.S_IMODE(status.st_mode) & 0o022, path

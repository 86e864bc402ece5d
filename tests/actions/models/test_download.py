from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import wait_until

pytest.importorskip("onnxruntime", reason="needs the extra local")
constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra local")
pytest.importorskip("safetensors", reason="writes checkpoints")

from musicgen_cli.settings import models_dir
from tests.support.hubs import COMMIT, Hub
from tests.support.models_folder import FILES, SMALL, installed, staged, start_musicgen

Run = Callable[..., Any]
WEIGHTS = "model.safetensors"


def partial_file() -> Path | None:
    """Return the file that holds the first bytes of the weights."""
    return next((models_dir() / ".pulling" / "small").glob(f"{WEIGHTS}.*.part"), None)


def half_has_come() -> bool:
    partial = partial_file()
    return partial is not None and partial.stat().st_size > 1_000_000


def test_a_cut_connection_doesnt_end_a_pull(musicgen: Run, hub: Hub, small: Path) -> None:
    """At 90 % of the weights; only the rest is requested again, and a note says so."""
    size = (small / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [size * 9 // 10]
    done = musicgen("model", "pull", "small")

    assert done.code == 0, done.err
    assert "broke" in done.err
    assert "trying again" in done.err
    assert hub.downloads() == [*FILES, WEIGHTS]
    assert (hub.transfers[-1].start, hub.transfers[-1].sent) == (size * 9 // 10, size - size * 9 // 10)
    assert staged() == []


def test_a_cut_pull_is_continued_by_the_next_one(musicgen: Run, hub: Hub, small: Path) -> None:
    """Exit 6 once several attempts brought nothing; complete files and the first 5 MB of the weights are kept."""
    size = (small / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [5_000_000] * 10
    done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert "pull` again continues" in done.err
    assert installed() == []
    partial = partial_file()
    assert partial is not None
    assert partial.stat().st_size == 5_000_000
    assert staged() == ["config.json", partial.name, "tokenizer.json"]

    hub.cuts.clear()
    hub.transfers.clear()
    done = musicgen("model", "pull", "small")
    assert done.code == 0
    assert re.search(r"; [\d.]+ MB are here already", done.err)
    assert [(transfer.file, transfer.start, transfer.sent) for transfer in hub.transfers] == [
        (WEIGHTS, 5_000_000, size - 5_000_000)
    ]
    assert staged() == []
    assert not list(models_dir().rglob("*.part"))
    assert musicgen("model", "show", "small", "--check").code == 0


def test_a_corrupted_partial_file_is_thrown_away(musicgen: Run, hub: Hub, small: Path) -> None:
    """Its hash is wrong when the rest has come: exit 6, and the next pull begins the file again."""
    hub.cuts[WEIGHTS] = [5_000_000] * 10
    musicgen("model", "pull", "small")
    partial = partial_file()
    assert partial is not None
    content = bytearray(partial.read_bytes())
    content[1234] ^= 1
    partial.write_bytes(content)

    hub.cuts.clear()
    done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert f"{WEIGHTS} of {SMALL} has a wrong checksum and was deleted" in done.err
    assert hub.transfers[-1].start == 5_000_000
    assert staged() == ["config.json", "tokenizer.json"]
    assert musicgen("model", "pull", "small").code == 0
    assert hub.transfers[-1].start == 0


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_wrong_checksum_is_exit_6_and_names_the_file(musicgen: Run, hub: Hub, small: Path, name: str) -> None:
    """One flipped bit, in a file of Git LFS or of Git; the file is deleted."""
    hub.wrong.add(name)
    done = musicgen("model", "pull", "small")
    assert done.code == 6
    assert f"{name} of {SMALL} has a wrong checksum" in done.err
    assert name not in staged()
    assert not list(models_dir().rglob("*.part"))

    hub.wrong.clear()
    assert musicgen("model", "pull", "small").code == 0


def test_files_of_another_revision_are_downloaded_again(musicgen: Run, hub: Hub, small: Path) -> None:
    """A file of an unfinished pull is used only if it has the hash that the hub lists now."""
    hub.cuts[WEIGHTS] = [10] * 10
    musicgen("model", "pull", "small")
    hub.cuts.clear()
    tokenizer = json.loads((small / "tokenizer.json").read_text())
    (small / "tokenizer.json").write_text(json.dumps(tokenizer, indent=3))

    assert musicgen("model", "pull", "small").code == 0
    assert (models_dir() / "small" / "tokenizer.json").read_bytes() == (small / "tokenizer.json").read_bytes()


def test_the_partial_file_of_another_revision_is_removed(musicgen: Run, hub: Hub, small: Path) -> None:
    """The weights that are published now are downloaded from their first byte."""
    hub.cuts[WEIGHTS] = [5_000_000] * 10
    musicgen("model", "pull", "small")
    left = partial_file()
    content = (small / WEIGHTS).read_bytes()
    (small / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    hub.cuts[WEIGHTS] = [1_000_000] * 10
    musicgen("model", "pull", "small")

    assert left is not None
    assert not left.exists()
    partial = partial_file()
    assert partial is not None
    assert partial.read_bytes() == content[:1_000_000]


def test_weights_that_are_installed_meanwhile_leave_no_partial_file(musicgen: Run, hub: Hub, small: Path) -> None:
    """A file that an installed model has is taken from there, and its partial download is removed."""
    assert musicgen("model", "pull", "small", "--keep-weights").code == 0
    shutil.copytree(models_dir() / "small", small.parent / "copy")
    shutil.rmtree(models_dir() / "small")
    hub.cuts[WEIGHTS] = [5_000_000] * 10
    assert musicgen("model", "pull", "small").code == 6
    shutil.copytree(small.parent / "copy", models_dir() / "small")
    shutil.rmtree(models_dir() / "small" / "graphs")

    assert musicgen("model", "pull", "small", "--keep-weights").code == 0
    assert not list(models_dir().rglob("*.part"))


@pytest.mark.parametrize(
    ("status", "error_code", "code", "message"),
    [
        (401, None, 8, "is not public"),
        (403, "GatedRepo", 8, "accept its terms"),
        (401, "RepoNotFound", 3, "has no model"),
        (404, None, 3, "has no model"),
        (429, None, 5, "too many requests"),
        (500, None, 6, "answered 500"),
        (503, None, 6, "answered 503"),
        (200, None, 6, "something that is not a repository"),
    ],
)
def test_an_error_of_the_hub_is_one_of_ours(
    musicgen: Run, hub: Hub, small: Path, status: int, error_code: str | None, code: int, message: str
) -> None:
    """With a hint, the exit code that fits, and none of the hub's HTML."""
    hub.status[SMALL] = (status, error_code)
    done = musicgen("model", "pull", "small")

    assert done.code == code
    assert message in done.err
    assert "<html>" not in done.err


def test_an_unknown_revision_is_exit_3(musicgen: Run, hub: Hub, small: Path) -> None:
    """A known one is pulled."""
    assert musicgen("model", "pull", "small", "--revision", "no/such").code == 3
    assert musicgen("model", "pull", "small", "--revision", COMMIT).code == 0


def test_a_token_that_is_not_ascii_is_exit_2(
    musicgen: Run, hub: Hub, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never shown, and nothing is requested."""
    monkeypatch.setenv("HF_TOKEN", "ключ")
    done = musicgen("model", "pull", "small")

    assert done.code == 2
    assert "ключ" not in done.err
    assert hub.requests == []


def test_an_unreachable_hub_is_exit_4(musicgen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an unreachable service; where another command needs the model, it is absent: exit 8."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert musicgen("model", "pull", "small").code == 4
    done = musicgen("generate", "--local", "--model", "small", "x")
    assert done.code == 8
    assert "can't be downloaded" in done.err


# What only a process of its own shows: what the environment says, what a signal does, what is left in the home.


def test_endpoint_and_token_are_used_and_nothing_else_is_requested(hub: Hub, small: Path) -> None:
    """No telemetry is sent, and the hub's library leaves no cache behind."""
    child = start_musicgen("model", "pull", "small", HF_TOKEN="hf_secret", AI_AGENT="x")
    out, err = child.communicate(timeout=60)

    assert child.returncode == 0, err
    assert [
        path for _, path in hub.requests if not path.startswith(("/facebook/", "/cdn/", "/api/resolve-cache/"))
    ] == [f"/api/models/{SMALL}"]
    assert hub.headers[0]["authorization"] == "Bearer hf_secret"
    assert re.fullmatch(r"musicgen-cli/[\w.]+; hf_hub/[\w.]+; python/[\w.]+", hub.headers[0]["user-agent"])
    assert not any("huggingface" in str(path) for path in Path.home().rglob("*"))
    assert not (Path(os.environ["XDG_CACHE_HOME"]) / "huggingface").exists()
    assert "hf_secret" not in out + err


def test_offline_nothing_is_requested(hub: Hub, small: Path) -> None:
    """HF_HUB_OFFLINE is exit 8."""
    child = start_musicgen("model", "pull", "small", HF_HUB_OFFLINE="1")
    _, err = child.communicate(timeout=60)

    assert child.returncode == 8
    assert "HF_HUB_OFFLINE is set" in err
    assert hub.requests == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_pull_is_continued_by_another_start_musicgen(hub: Hub, small: Path, how: signal.Signals) -> None:
    """Ctrl-C is exit 130 at once; after it, as after a kill, only the rest of the weights is requested."""
    size = (small / WEIGHTS).stat().st_size
    hub.waits[WEIGHTS] = threading.Event()
    child = start_musicgen("model", "pull", "small")
    wait_until(lambda: half_has_come() or child.poll() is not None)
    child.send_signal(how)
    out, err = child.communicate(timeout=20)

    assert out == ""
    assert child.returncode == (130 if how is signal.SIGINT else -how)
    assert how is not signal.SIGINT or err.endswith("error: interrupted\n")
    assert installed() == []
    partial = partial_file()
    assert partial is not None
    there = partial.stat().st_size
    assert 1_000_000 < there < size
    assert staged() == ["config.json", partial.name, "tokenizer.json"]

    hub.waits.pop(WEIGHTS).set()
    wait_until(lambda: hub.transfers[-1].ended)
    hub.transfers.clear()
    child = start_musicgen("model", "pull", "small")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert [(transfer.file, transfer.start, transfer.sent) for transfer in hub.transfers] == [
        (WEIGHTS, there, size - there)
    ]
    assert installed() == ["small"]
    assert staged() == []


def test_of_two_pulls_at_once_the_second_is_exit_5(hub: Hub, small: Path) -> None:
    """It says so at once; the first one is not disturbed."""
    hub.waits[WEIGHTS] = threading.Event()
    first = start_musicgen("model", "pull", "small")
    wait_until(lambda: WEIGHTS in hub.downloads())
    second = start_musicgen("model", "pull", "small")
    _, err = second.communicate(timeout=60)
    hub.waits[WEIGHTS].set()
    first.communicate(timeout=60)

    assert (first.returncode, second.returncode) == (0, 5)
    assert "another process is writing" in err
    assert hub.downloads() == FILES


@pytest.fixture
def little_room(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # lazily, for after a failed test something may be open


def test_too_little_room_is_an_error_before_the_weights_are_downloaded(
    musicgen: Run, hub: Hub, small: Path, little_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how much is needed and how much is free."""
    monkeypatch.setenv("XDG_DATA_HOME", str(little_room))
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert re.search(r"needs [\d.]+ MB of disk while it is prepared, [\d.]+ MB are free", done.err)
    assert WEIGHTS not in hub.downloads()


def test_a_disk_that_fills_up_leaves_only_complete_files(
    musicgen: Run, hub: Hub, small: Path, little_room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room was there before the download, and another program has used it since."""
    monkeypatch.setenv("XDG_DATA_HOME", str(little_room))
    plenty = type(shutil.disk_usage("/"))(10**12, 0, 10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: plenty)
    done = musicgen("model", "pull", "small")

    assert done.code == 1
    assert "No space left on device" in done.err
    assert installed() == []
    assert staged() == ["config.json", "tokenizer.json"]

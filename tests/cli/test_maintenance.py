from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.store import Artifact, Store
from tests.support.index_lines import draft, sound

Run = Callable[..., Any]


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def takes(store: Store) -> list[Artifact]:
    return [store.put(sound(seed), draft(f"take {seed}")) for seed in range(3)]


def spoil(store: Store) -> None:
    with (store.root / "index.jsonl").open("ab") as file:
        file.write(b"\x1b]0;x\x07\n")


def age(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))


def test_check_is_silent_on_stdout_when_all_is_well(musicgen: Run, takes: list[Artifact]) -> None:
    """Exit 0; stderr says so."""
    for words in ([], ["--full"], ["--json"]):
        done = musicgen("store", "check", *words)
        assert (done.code, done.out) == (0, "")
        assert "no problem" in done.err


def test_check_prints_problems_and_exits_1(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """One a line: kind, place, sentence; or as JSON Lines; the hint names what mends."""
    spoil(store)
    store.blob_path(takes[0]).unlink()

    done = musicgen("store", "check")

    assert done.code == 1
    assert [line.split("\t")[:2] for line in done.lines] == [["line", "index.jsonl:5"], ["missing", takes[0].id]]
    assert "error: 2 problems were found" in done.err
    assert "musicgen store repair" in done.err
    done = musicgen("store", "check", "--json")
    assert [json.loads(line)["kind"] for line in done.lines] == ["line", "missing"]
    assert json.loads(done.err)["error"]["code"] == "problems-found"


def test_check_full_finds_what_check_does_not(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Audio of the right size with other bytes."""
    path = store.blob_path(takes[0])
    path.chmod(0o600)
    path.write_bytes(sound(9))
    path.chmod(0o400)

    assert musicgen("store", "check").code == 0
    assert musicgen("store", "check", "--full").code == 1


def test_repair_mends_and_says_what_it_cannot(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Missing audio stays missing; a dry run says the same and does nothing."""
    spoil(store)
    store.blob_path(takes[0]).unlink()
    before = (store.root / "index.jsonl").read_bytes()

    done = musicgen("store", "repair", "--dry-run", "--json")

    assert done.code == 0
    would = json.loads(done.out)
    assert (would["done"], would["bad_lines"], would["missing"]) == (False, 1, 1)
    assert (store.root / "index.jsonl").read_bytes() == before
    done = musicgen("store", "repair")
    assert done.code == 0
    assert "bad_lines\t1" in done.lines
    assert "the audio of 1 take is missing" in done.err
    assert musicgen("store", "check").lines == [f"missing\t{takes[0].id}\tthe audio of {takes[0].id} is missing"]


def test_repair_adopts_only_when_asked(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """A lost index is made again from the audio."""
    (store.root / "index.jsonl").unlink()

    assert "adopted\t0" in musicgen("store", "repair").lines
    assert "adopted\t3" in musicgen("store", "repair", "--adopt").lines
    assert len(musicgen("list", "-q", "--tag", "recovered").lines) == 3


def test_compact_tells_what_it_saved(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """As names and values, or as JSON; `--forget` leaves no old index."""
    store.remove([takes[0].id])

    would = json.loads(musicgen("store", "compact", "--dry-run", "--json").out)
    done = json.loads(musicgen("store", "compact", "--json").out)

    assert (done["lines"], done["kept_lines"]) == (5, 3)
    assert would | {"done": True} == done
    assert (store.root / "index.jsonl.old").exists()
    assert "kept_lines\t3" in musicgen("store", "compact", "--forget").lines
    assert not (store.root / "index.jsonl.old").exists()
    assert musicgen("list", "-q").lines == [takes[2].id, takes[1].id]


@pytest.mark.parametrize("words", [["compact"], ["compact", "--forget"], ["gc"], ["gc", "--yes"]])
def test_a_damaged_index_is_refused(musicgen: Run, store: Store, takes: list[Artifact], words: list[str]) -> None:
    """Exit 7, and the hint names the repair."""
    spoil(store)
    store.remove([takes[0].id])
    age(store.root)

    done = musicgen("store", *words)

    assert (done.code, done.out) == (7, "")
    assert "musicgen store repair" in done.err
    assert store.blob_path(takes[0]).exists()


def test_gc_deletes_only_with_yes(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Without it, it counts; with it, it says first what it is about to do."""
    store.remove([takes[0].id])
    age(store.root)

    for words in ([], ["--dry-run"]):
        done = musicgen("store", "gc", *words)
        assert done.code == 0
        assert {"blobs\t1", f"blob_bytes\t{takes[0].bytes}"} <= set(done.lines)
        assert "nothing was changed" in done.err
        assert store.blob_path(takes[0]).exists()
    assert json.loads(musicgen("store", "gc", "--json").out)["done"] is False
    done = musicgen("store", "gc", "--yes")
    assert (done.code, "blobs\t1" in done.lines) == (0, True)
    assert f"deleting audio files: 1, {takes[0].bytes} bytes; temporary files: 0, 0 bytes" in done.err
    assert not store.blob_path(takes[0]).exists()
    assert json.loads(musicgen("store", "gc", "--yes", "--json").out)["blobs"] == 0


def test_yes_and_dry_run_contradict_each_other(musicgen: Run, takes: list[Artifact]) -> None:
    """That is wrong usage, not a guess."""
    assert musicgen("store", "gc", "--yes", "--dry-run").code == 2


@pytest.mark.parametrize("command", ["check", "repair", "compact", "gc"])
def test_each_takes_another_store(musicgen: Run, takes: list[Artifact], tmp_path: Path, command: str) -> None:
    """One that isn't there yet is right, and isn't made."""
    assert musicgen("store", command, "--store", tmp_path / "other").code == 0
    assert not (tmp_path / "other").exists()


def test_asking_for_the_path_loads_nothing_of_this() -> None:
    """Start-up is paid by every command."""
    code = (
        "import sys; from musicgen_cli.cli.app import run; run(['store', 'path']);"
        "assert not {'filelock', 'hashlib', 'musicgen_cli.store'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")

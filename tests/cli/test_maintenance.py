from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from musicgen_cli.store import Artifact, Store
from tests.support.command_line import Run
from tests.support.index_lines import draft, sound


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def takes(store: Store) -> list[Artifact]:
    return [store.put(sound(seed), draft(f"take {seed}")) for seed in range(3)]


def spoil(store: Store) -> None:
    """Append a damaged line to the index."""
    with (store.root / "index.jsonl").open("ab") as file:
        file.write(b"\x1b]0;x\x07\n")


def age(root: Path) -> None:
    """Make all files of a store old enough to be deleted."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))


def test_check_of_a_sound_store_prints_no_problem(musicgen: Run, takes: list[Artifact]) -> None:
    """It is exit 0, nothing is on stdout, and a note is on stderr."""
    for words in ([], ["--full"], ["--json"]):
        done = musicgen("store", "check", *words)
        assert (done.code, done.out) == (0, "")
        assert "no problem" in done.err


def test_check_prints_problems_and_exits_1(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Each line has kind, place and message, or is a JSON object; the hint names `store repair`."""
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


def test_only_check_full_finds_changed_bytes(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """The audio has the right size, but other bytes."""
    path = store.blob_path(takes[0])
    path.chmod(0o600)
    path.write_bytes(sound(9))
    path.chmod(0o400)

    assert musicgen("store", "check").code == 0
    assert musicgen("store", "check", "--full").code == 1


def test_repair_reports_what_it_cannot_repair(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Missing audio stays missing; a dry run prints the same and changes nothing."""
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


def test_only_repair_adopt_makes_takes_of_audio(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """With it a lost index is rebuilt from the audio files."""
    (store.root / "index.jsonl").unlink()

    assert "adopted\t0" in musicgen("store", "repair").lines
    assert "adopted\t3" in musicgen("store", "repair", "--adopt").lines
    assert len(musicgen("list", "-q", "--tag", "recovered").lines) == 3


def test_compact_prints_what_it_saved(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """It does so as names and values, or as JSON; `--forget` keeps no copy of the old index."""
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
def test_compact_and_gc_refuse_a_damaged_index(
    musicgen: Run, store: Store, takes: list[Artifact], words: list[str]
) -> None:
    """It is exit 7, and the hint names `store repair`."""
    spoil(store)
    store.remove([takes[0].id])
    age(store.root)

    done = musicgen("store", *words)

    assert (done.code, done.out) == (7, "")
    assert "musicgen store repair" in done.err
    assert store.blob_path(takes[0]).exists()


def test_gc_deletes_only_with_yes(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Without `--yes` it only counts; with it, it first prints what it is going to delete."""
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
    """Both together are wrong usage."""
    assert musicgen("store", "gc", "--yes", "--dry-run").code == 2


@pytest.mark.parametrize("command", ["check", "repair", "compact", "gc"])
def test_a_store_that_does_not_exist_is_sound(
    musicgen: Run, takes: list[Artifact], tmp_path: Path, command: str
) -> None:
    """Each command of `store` finds nothing to do in it, and doesn't create it."""
    assert musicgen("store", command, "--store", tmp_path / "other").code == 0
    assert not (tmp_path / "other").exists()


def test_store_path_does_not_import_the_store() -> None:
    """Its start-up time is that of every command."""
    code = (
        "import sys; from musicgen_cli.cli.app import run; run(['store', 'path']);"
        "assert not {'filelock', 'hashlib', 'musicgen_cli.store'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli.store import Artifact, Store
from tests.support.index_lines import delete, draft, head, put, sound

Run = Callable[..., Any]


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def takes(store: Store) -> list[Artifact]:
    return [store.put(sound(seed), draft(f"take {seed}", tags=("type:audio",))) for seed in range(3)]


def index_of(store: Store) -> bytes:
    return (store.root / "index.jsonl").read_bytes()


def test_tags_are_changed_and_the_records_printed(musicgen: Run, takes: list[Artifact]) -> None:
    """As they are now: one a line, as JSON, or the ids alone; `list --tag` finds them."""
    done = musicgen("tag", takes[0].id[9:15], "last", "--add", "calm", "--add", "game:ui", "--rm", "type:audio")

    assert (done.code, done.err) == (0, "")
    assert [line.split("\t")[5] for line in done.lines] == ["calm,game:ui"] * 2
    assert musicgen("list", "-q", "--tag", "calm").lines == [takes[2].id, takes[0].id]
    done = musicgen("tag", "last", takes[2].id, "--rm", "calm", "--json")
    assert [json.loads(line)["tags"] for line in done.lines] == [["game:ui"]]
    assert musicgen("tag", "last", "--rm", "calm", "-q").lines == [takes[2].id]
    assert musicgen("list", "-q", "--tag", "calm").lines == [takes[0].id]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["tag", "last"], 2),
        (["tag", "--add", "x"], 2),
        (["tag", "last", "--add", "x", "--rm", "x"], 2),
        (["tag", "last", "--add", "a,b"], 2),
        (["tag", "last", "--add", "\x1b]0;x\x07\u202e"], 2),
        (["tag", "last", "--add", "-x"], 2),
        (["tag", "last", "nothing", "--add", "x"], 3),
        (["tag", "last", "artifact_000000000000", "--add", "x"], 3),
        (["rm"], 2),
        (["rm", "last"], 2),
        (["rm", "last", "nothing"], 3),
        (["rm", "last", "nothing", "--yes"], 3),
        (["rm", "last", "\x1b[31m\u202e", "--yes"], 3),
        (["rm", "--undo", "last"], 3),
        (["rm", "--undo", "nothing"], 3),
        (["rm", "--undo", "last", "--yes"], 2),
        (["rm", "--undo", "last", "abcd"], 2),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    musicgen: Run, store: Store, takes: list[Artifact], words: list[str], code: int
) -> None:
    """With its exit code, in printable words."""
    before = index_of(store)

    done = musicgen(*words)

    assert done.code == code
    assert done.err.startswith("error: ")
    assert done.err.replace("\n", "").isprintable()
    assert index_of(store) == before


def test_rm_says_what_would_go(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """One record a line, each once; `--yes` is named, and nothing is done."""
    done = musicgen("rm", takes[0].id, "last", takes[0].id[:16])

    assert done.code == 2
    assert [line.split("\t")[0] for line in done.lines] == [takes[0].id, takes[2].id]
    assert "2 takes would be removed" in done.err
    assert "--yes" in done.err
    done = musicgen("rm", "last", "--json")
    assert json.loads(done.out)["id"] == takes[2].id
    assert json.loads(done.err)["error"]["exit_code"] == 2
    assert len(musicgen("list", "-q").lines) == 3


def test_rm_removes_and_undo_brings_back(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """What went is printed; the sound stays; tags that were changed are as they were."""
    musicgen("tag", takes[0].id, "--add", "calm", "--rm", "type:audio")

    done = musicgen("rm", takes[0].id, "last", "--yes", "-q")
    assert (done.code, done.lines, done.err) == (0, [takes[0].id, takes[2].id], "")
    assert musicgen("list", "-q").lines == [takes[1].id]
    assert musicgen("show", takes[0].id).code == 3
    assert store.read_blob(takes[0]) == sound(0)

    done = musicgen("rm", "--undo", takes[0].id[9:], "--json")
    assert (done.code, json.loads(done.out)["tags"]) == (0, ["calm"])
    assert musicgen("list", "-q").lines == [takes[0].id, takes[1].id]
    assert musicgen("rm", "--undo", "last", "-q").lines == [takes[2].id]
    assert musicgen("rm", "--undo", "last").code == 3


def test_undo_without_the_sound_is_exit_7(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """The take stays removed."""
    musicgen("rm", "last", "--yes")
    store.blob_path(takes[2]).unlink()

    assert musicgen("rm", "--undo", "last").code == 7
    assert takes[2].id not in musicgen("list", "-q").lines


def test_hostile_records_are_printed_safely(musicgen: Run, store_path: Path) -> None:
    """What another program wrote as a tag, a prompt or an id reaches no terminal as an instruction."""
    evil = "\x1b]0;x\x07\u202e\u009b [bold]x[/]"
    (store_path / "blobs").mkdir(parents=True)
    index = store_path / "index.jsonl"
    name = "artifact_00000000000a"
    index.write_bytes(head() + put(name, prompt=evil, tags=[evil], creator=evil))

    for words in (["tag", "last", "--add", "x"], ["tag", "last", "--add", "x", "--json"], ["rm", "last"]):
        done = musicgen(*words)
        assert "[bold]x[/]" in done.out
        assert (done.out + done.err).replace("\t", "").replace("\n", "").isprintable()
    index.write_bytes(index.read_bytes() + delete(name))
    assert musicgen("list", "-q").lines == []

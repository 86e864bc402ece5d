from __future__ import annotations

import json
from pathlib import Path

import pytest

from musicgen_cli.store import Artifact, Store
from tests.support.command_line import Run
from tests.support.index_lines import delete, draft, head, put, sound
from tests.support.takes import put_take


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


@pytest.fixture
def takes(store: Store) -> list[Artifact]:
    return [store.put(sound(seed), draft(f"take {seed}", tags=("type:audio",))) for seed in range(3)]


def index_of(store: Store) -> bytes:
    return (store.root / "index.jsonl").read_bytes()


def test_tag_prints_the_changed_records(musicgen: Run, takes: list[Artifact]) -> None:
    """They come as lines, as JSON, or as ids alone; `list --tag` finds them by their new tags."""
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
        (["rm", "last", "nothing"], 3),
        (["rm", "last", "nothing", "--yes"], 3),
        (["rm", "last", "\x1b[31m\u202e", "--yes"], 3),
        (["rm", "--undo", "last"], 3),
        (["rm", "--undo", "nothing"], 3),
        (["rm", "--undo", "last", "--yes"], 2),
        (["undo"], 3),
        (["undo", "set_0"], 3),
    ],
)
def test_wrong_usage_changes_nothing(
    musicgen: Run, store: Store, takes: list[Artifact], words: list[str], code: int
) -> None:
    """It has its exit code and a printable message."""
    before = index_of(store)

    done = musicgen(*words)

    assert done.code == code
    assert done.err.startswith("error: ")
    assert done.err.replace("\n", "").isprintable()
    assert index_of(store) == before


def test_rm_lists_what_would_be_removed(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Without `--yes` each take is listed once, nothing is removed, and a note, which is no error, names `--yes`."""
    done = musicgen("rm", takes[0].id, "last", takes[0].id[:16])

    assert done.code == 0
    assert [line.split("\t")[0] for line in done.lines] == [takes[0].id, takes[2].id]
    assert done.err == "2 takes would be removed: `--yes` removes, and `musicgen undo ID` restores a take\n"
    assert musicgen("rm", "last", "-q").err.startswith("1 take would be removed: `--yes` removes")
    done = musicgen("rm", "last", "--json")
    assert json.loads(done.out)["id"] == takes[2].id
    assert json.loads(done.err)["note"]["message"].startswith("1 take would be removed")
    assert len(musicgen("list", "-q").lines) == 3


def test_rm_removes_and_undo_restores(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Removed takes are printed, their audio stays, and a restored take has the tags it had last."""
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


def test_a_restored_take_is_said_to_be_the_newest(musicgen: Run, takes: list[Artifact]) -> None:
    """`last` stands for it from then on; `undo` without an id restores the take that was removed last."""
    musicgen("rm", takes[1].id, takes[0].id, "--yes")
    done = musicgen("undo")

    assert (done.code, done.lines[0].split("\t")[0]) == (0, takes[0].id)
    assert done.err == f"{takes[0].id} is the newest take now, for which `last` stands\n"
    assert musicgen("show", "-q").lines == [takes[0].id]
    done = musicgen("rm", "--undo", takes[1].id, "-q")
    assert (done.lines, done.err) == ([takes[1].id], "")


def test_a_set_is_edited_as_its_takes(musicgen: Run, store: Store) -> None:
    """`tag`, `rm` and `undo` take the id of a variation set beside ids of takes; each take counts once."""
    variations = [
        put_take(store, seed=seed, variation_set_id="beef", variation_index=index) for seed, index in ((1, 1), (2, 0))
    ]
    other = put_take(store, seed=3)
    in_order = [variations[1].id, variations[0].id]

    assert musicgen("tag", "beef", other.id, variations[0].id, "--add", "x", "-q").lines == [*in_order, other.id]
    assert musicgen("rm", "beef", "-q").lines == in_order
    assert musicgen("rm", "beef", "--yes", "-q").lines == in_order
    assert musicgen("list", "-q").lines == [other.id]
    assert musicgen("rm", "beef", "--yes").code == 3
    assert musicgen("undo", "beef", "-q").lines == in_order
    assert musicgen("list", "-q").lines == [*in_order[::-1], other.id]
    assert musicgen("undo", "beef").code == 3


def test_a_take_can_be_named(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """Its name is one tag, which another name replaces; it survives removal, compaction and an export."""
    done = musicgen("name", takes[0].id, "Boss theme", "--json")
    assert (done.code, json.loads(done.out)["name"]) == (0, "Boss theme")
    assert musicgen("name", takes[0].id, "Thème du boss").code == 0
    for words in (["--search", "DU BOSS"], ["--tag", "name:Thème du boss"]):
        assert musicgen("list", "-q", *words).lines == [takes[0].id]
    assert musicgen("list", "--search", "boss theme").lines == []
    musicgen("rm", takes[0].id, "--yes")
    musicgen("undo")
    musicgen("store", "compact")
    assert store.get("last").tags == ("type:audio", "name:Thème du boss")
    assert musicgen("list", "-q", "--search", "boss").lines == [takes[0].id]

    assert "name" not in json.loads(musicgen("name", "last", "", "--json").out)
    assert store.get("last").tags == ("type:audio",)
    assert index_of(store).count(b'"op":"tag"') == 1  # all that was compacted is in the take's own line


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["last", "Boss", "theme"], 2, "hint: quote the name: musicgen name last 'Boss theme'"),
        (["last", "a,b"], 2, "name 'a,b' contains one of"),
        (["last", " a"], 2, "name ' a' starts or ends with white space"),
        (["last", "é" * 62], 2, "is longer than 123 bytes"),
        (["last", "a\x1b[2J"], 2, "contains a control character"),
        (["nothing", "x"], 3, "no take matches 'nothing'"),
        (["last"], 2, "NAME"),
    ],
)
def test_a_wrong_name_changes_nothing(
    musicgen: Run, store: Store, takes: list[Artifact], words: list[str], code: int, message: str
) -> None:
    """It is refused with a sentence that quotes it."""
    before = index_of(store)
    done = musicgen("name", *words)

    assert done.code == code
    assert message in done.err
    assert index_of(store) == before


def test_undo_without_the_audio_is_exit_7(musicgen: Run, store: Store, takes: list[Artifact]) -> None:
    """The take stays removed."""
    musicgen("rm", "last", "--yes")
    store.blob_path(takes[2]).unlink()

    assert musicgen("rm", "--undo", "last").code == 7
    assert takes[2].id not in musicgen("list", "-q").lines


def test_hostile_records_are_printed_safely(musicgen: Run, store_path: Path) -> None:
    """Tags, prompts and ids that another program wrote are printed without control characters."""
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

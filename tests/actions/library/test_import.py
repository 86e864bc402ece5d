from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from musicgen_cli import __version__
from musicgen_cli.actions.library.import_ import TAGS, Duplicate, Imported, Importer, ImportFailure, Result
from musicgen_cli.errors import InvalidValueError, StoreError, UsageError
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support.index_lines import draft, head, name, put, sound


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "sounds"
    path.mkdir()
    return path


WARNINGS: list[str] = []  # of the current test


@pytest.fixture(autouse=True)
def _no_warnings_yet() -> None:
    WARNINGS.clear()


def import_(store: Store, *paths: Path, **options: Any) -> list[Result]:
    return list(Importer(store, **{"creator": "me", "warn": WARNINGS.append, **options}).run(paths))


def stored(results: list[Result]) -> list[Artifact]:
    """Return the takes of results that are all imported."""
    assert all(isinstance(result, Imported) for result in results), results
    return [result.artifact for result in results if isinstance(result, Imported)]


def write(path: Path, seed: int = 0, sidecar: object = None) -> Path:
    """Write a WAV, and JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound(seed))
    if sidecar is not None:
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def test_a_file_becomes_a_take(store: Store, folder: Path) -> None:
    """It has the file's bytes, the tags of an import and the user's, and an origin that names no model."""
    (take,) = stored(import_(store, write(folder / "a.wav"), tags=["found"]))

    assert store.read_blob(take) == sound()
    assert take.tags == (*TAGS, "name:a", "found")
    assert (take.prompt, take.params, take.creator, take.seed) == ("", {}, "me", None)
    assert take.origin == {"kind": "import", "version": __version__}
    assert store.get("last") == take
    assert not WARNINGS


@pytest.mark.parametrize(
    ("stem", "title"),
    [
        ("Kick 01", "Kick 01"),
        ('a,b"c\\d', "a_b_c_d"),
        ("- x", "x"),
        ("e\u0301\u202e\x07", "é__"),
        ("é" * 100, "é" * 61),
        (os.fsdecode(b"\xff"), "_"),
        ("- -", ""),
    ],
)
def test_an_imported_sound_is_named_after_its_file(store: Store, folder: Path, stem: str, title: str) -> None:
    """What a tag can't hold is replaced; a name that the record has, or a prompt, takes precedence."""
    (take,) = stored(import_(store, write(folder / f"{stem}.wav")))
    (prompted,) = stored(import_(store, write(folder / "p" / "b.wav", 2, {"prompt": "wind"})))
    (named,) = stored(import_(store, write(folder / "n" / "c.wav", 3, {"tags": ["name:Rain"]})))

    assert take.title == title
    assert (prompted.title, named.title) == ("wind", "Rain")
    (full,) = stored(import_(store, write(folder / "d.wav", 4), tags=[str(i) for i in range(61)]))
    assert full.title == ""


def test_a_sidecar_is_the_record_of_the_take(store: Store, folder: Path) -> None:
    """The take has all that `export --sidecar` wrote, except the id, the phase and the origin's kind and version."""
    exported = store.put(
        sound(), ArtifactDraft(
            tags=("type:audio", "phase:generation", "calm"), prompt="rain", params={"top_k": 250}, creator="anna",
            origin={"kind": "http", "model": "small", "engine": "onnx", "version": "9", "url": "http://x"}, seed=7,
            license="MIT", requested_duration=1.0, elapsed_s=0.5, extra={"a": 1}, parent_id=name(1),
            variation_set_id="s", variation_index=3, client_job_id="j", created="2020-01-01T00:00:00.000Z",
        ),
    )  # fmt: skip

    (take,) = stored(import_(Store(folder / "new"), write(folder / "a.wav", sidecar=exported.record), tags=["found"]))

    changed = {"tags", "origin"}
    assert {k: v for k, v in take.record.items() if k not in changed} == {
        k: v for k, v in exported.record.items() if k not in changed
    }
    assert take.tags == (*TAGS, "calm", "found")
    assert take.origin == {"kind": "import", "model": "small", "engine": "onnx", "version": __version__}
    (duplicate,) = import_(store, folder / "a.wav")
    assert duplicate == Duplicate(str(folder / "a.wav"), exported.id)


def test_part_of_a_sidecar_is_enough(store: Store, folder: Path) -> None:
    """A person may write one; a creator that the command names takes precedence over the sidecar's."""
    write(folder / "a.wav", 1, {"prompt": "rain", "creator": "anna", "origin": {"model": 5}, "unheard": "of"})
    write(folder / "b.wav", 2, {"prompt": "wind", "creator": "anna", "tags": ["x"]})

    (first,) = stored(import_(store, folder / "a.wav"))
    (second,) = stored(import_(store, folder / "b.wav", overrides_creator=True))

    assert (first.prompt, first.creator, first.origin.get("model"), first.unknown) == ("rain", "anna", None, {})
    assert (second.creator, second.tags) == ("me", (*TAGS, "x"))


@pytest.mark.parametrize(
    "sidecar",
    [
        b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b'{"foo":1}', b'{"prompt":5}', b'{"tags":"x"}', b'{"tags":[5]}',
        b'{"tags":["a,b"]}', b'{"seed":1.5}', b'{"seed":true}', b'{"params":[]}', b'{"origin":"x"}',
        b'{"prompt":"x","params":{"t":NaN}}', b'{"prompt":"\\ud800"}', b'{"created":"yesterday"}',
        b'{"created":"2020-01-01T00:00:00Z"}', b'{"prompt":"' + b"x" * 70_000 + b'"}', b"[" * 100_000,
        b'{"extra":{"x":"' + b"y" * 9000 + b'"}}', b'{"seed":' + b"9" * 5000 + b"}",
        b" " * (1 << 20) + b'{"prompt":"x"}', b'{"tags":' + json.dumps([str(i) for i in range(62)]).encode() + b"}",
    ],
)  # fmt: skip
def test_an_unusable_sidecar_is_ignored(store: Store, folder: Path, sidecar: bytes) -> None:
    """A warning names it, and the file is imported without it."""
    write(folder / "a.wav")
    (folder / "a.json").write_bytes(sidecar)

    (take,) = stored(import_(store, folder / "a.wav"))

    tags = (*TAGS, "name:a")
    assert (take.prompt, take.params, take.seed, take.tags, take.extra) == ("", {}, None, tags, None)
    assert len(WARNINGS) == 1
    assert str(folder / "a.json") in WARNINGS[0]


def test_the_same_file_twice_is_one_take(store: Store, folder: Path) -> None:
    """In one import or two, under any name, and after its tags changed; with another record it is another take."""
    write(folder / "a.wav")
    write(folder / "b.wav")
    first, second = import_(store, folder)
    assert isinstance(first, Imported)
    assert second == Duplicate(str(folder / "b.wav"), first.artifact.id)
    store.tag([first.artifact.id], add=["x"])

    assert [result.id for result in import_(store, folder) if isinstance(result, Duplicate)] == [first.artifact.id] * 2
    assert stored(import_(store, write(folder / "a.wav", sidecar={"prompt": "rain"})))[0].id == first.artifact.id + "-2"
    store.remove([first.artifact.id])
    assert len(stored(import_(store, folder / "b.wav"))) == 1


def test_folders_are_read_recursively(store: Store, folder: Path) -> None:
    """Files come in the order of their names; those without the suffix of a WAV are ignored."""
    for seed, path in enumerate(["b.wav", "a/x.WAV", "a/deep/y.wav", "z/z.txt"]):
        write(folder / path, seed)
    (folder / "a" / "loop").symlink_to(folder)

    results = import_(store, folder)

    assert [result.source for result in results] == [
        str(folder / path) for path in ("b.wav", "a/x.WAV", "a/deep/y.wav")
    ]
    assert len(stored(results)) == 3


def test_a_sound_file_of_another_format_is_never_passed_over_in_silence(store: Store, folder: Path) -> None:
    """It is named with a way to convert it, in a folder once for all such files."""
    for file in ("a.aiff", "b.M4A", "deep/c.m4a", "notes.txt"):
        write(folder / file).write_bytes(b"FORM")
    convert = "`ffmpeg -i FILE FILE.wav` converts one"
    (failed,) = import_(store, folder)
    assert isinstance(failed, ImportFailure)
    assert str(failed.error) == f"3 sound files left out, whose format is not read (.aiff, .m4a); {convert}"

    write(folder / "d.wav", 5)
    assert [type(each) for each in import_(store, folder)] == [Imported, ImportFailure]
    (failed,) = import_(store, folder / "a.aiff")
    assert isinstance(failed, ImportFailure)
    assert str(failed.error) == f"1 sound file left out, whose format is not read (.aiff); {convert}"


def test_a_path_that_is_no_sound_fails_alone(store: Store, folder: Path) -> None:
    """Not a WAV, cut short, absent, a pipe, an empty folder: each has a message, and the others are imported."""
    write(folder / "1.wav").write_bytes(b"RIFF")
    write(folder / "2.wav").write_bytes(sound()[:-1])
    os.mkfifo(folder / "3.wav")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "4.wav").symlink_to(folder / "nowhere")
    write(folder / "5.wav", 5)
    (folder / "empty").mkdir()

    results = import_(store, folder, folder / "absent.wav", folder / "empty", folder / "loop", folder / ("x" * 300))

    errors = {Path(result.source).name: str(result.error) for result in results if isinstance(result, ImportFailure)}
    assert [*errors] == ["1.wav", "2.wav", "3.wav", "4.wav", "absent.wav", "empty", "loop", "x" * 300]
    assert "not a WAV" in errors["1.wav"]
    assert "chunk says 128 bytes" in errors["2.wav"]
    assert errors["3.wav"] == "not a file"
    assert errors["absent.wav"] == errors["4.wav"] == "can't be read: no such file or directory"
    assert [take.content_hash for take in store.newest(None)] == [stored(results[4:5])[0].content_hash]


@pytest.mark.parametrize("tags", [["a,b"], [f"t{i}" for i in range(62)]])
def test_wrong_tags_are_refused_before_anything_is_read(store: Store, folder: Path, tags: list[str]) -> None:
    """They would be wrong for every take."""
    with pytest.raises(InvalidValueError):
        import_(store, write(folder / "a.wav"), tags=tags)
    assert not store.root.exists()


def test_another_store_is_merged_whole(store: Store, there: Store) -> None:
    """With order, times, creators, current tags and members of later versions; removed takes are not imported."""
    old = there.put(sound(1), draft("one", creator="anna", created="2020-01-01T00:00:00.000Z", unknown={"later": 1}))
    (old,) = there.tag([old.id], add=["x"], rm=["type:audio"])
    there.remove([there.put(sound(2), draft("gone")).id])
    new = there.put(sound(3), draft("three"))

    assert stored(import_(store, there.root, overrides_creator=True)) == [old, new]

    assert list(store.newest(None)) == [new, old]
    assert store.read_blob(old) == sound(1)


def test_the_tags_of_an_import_are_appended_to_those_of_a_merged_take(store: Store, there: Store) -> None:
    """A take that would have too many fails alone."""
    there.put(sound(1), draft(tags=("a",)))
    there.put(sound(2), draft(tags=tuple(f"t{i}" for i in range(64))))

    first, second = import_(store, there.root, tags=["x"])

    assert stored([first])[0].tags == ("a", "x")
    assert isinstance(second, ImportFailure)
    assert "at most 64 tags" in str(second.error)


def test_merging_again_brings_only_what_is_new(store: Store, there: Store) -> None:
    """Tags that changed on either side don't matter; neither does a merge in the other direction."""
    first = there.put(sound(1), draft("one"))
    import_(store, there.root)
    store.tag([first.id], add=["here"])
    there.tag([first.id], add=["there"])
    second = there.put(sound(2), draft("two"))

    assert import_(store, there.root)[0] == Duplicate(f"{there.root}: {first.id}", first.id)
    assert [take.id for take in store.newest(None)] == [second.id, first.id]
    assert all(isinstance(result, Duplicate) for result in import_(there, store.root))
    assert store.get(first.id).tags == ("type:audio", "here")


def test_takes_that_differ_only_in_their_time_are_two(store: Store, there: Store) -> None:
    """The same seed twice gives the same sound twice, and each take was stored."""
    for day in "12":
        there.put(sound(), draft(created=f"2020-01-0{day}T00:00:00.000Z"))

    assert [take.created[9] for take in stored(import_(store, there.root))] == ["1", "2"]
    assert [type(result) for result in import_(store, there.root)] == [Duplicate, Duplicate]


def test_a_take_whose_id_is_taken_gets_another_and_its_children_follow(store: Store, there: Store) -> None:
    """The parents are the same takes as before."""
    mine = store.put(sound(), draft("mine"))
    parent = there.put(sound(), draft("theirs"))
    extra = {"continue": {"id": parent.id, "content_hash": parent.content_hash, "duration": 0.5}, "melody": "text"}
    child = there.put(sound(1), draft("child", parent_id=parent.id, extra=extra))
    orphan = there.put(sound(2), draft("orphan", parent_id=name(9)))
    assert parent.id == mine.id

    results = import_(store, there.root)

    by_old = {result.old_id: result.artifact for result in results if isinstance(result, Imported)}
    assert by_old[parent.id].id == mine.id + "-2"
    assert by_old[child.id].parent_id == mine.id + "-2"
    assert by_old[child.id].extra == extra | {"continue": {**extra["continue"], "id": mine.id + "-2"}}  # type: ignore[dict-item]
    assert by_old[orphan.id].parent_id == name(9)
    assert store.get(mine.id) == mine
    third = there.put(sound(3), draft("late", parent_id=parent.id))
    (again,) = stored(import_(store, there.root)[-1:])
    assert store.get(again.id).parent_id == mine.id + "-2"
    assert third.parent_id == mine.id


def test_a_parent_that_stands_after_its_child_is_mapped_too(store: Store, there: Store) -> None:
    """So it stands after it was removed and restored."""
    mine = store.put(sound(), draft("mine"))
    parent = there.put(sound(), draft("theirs"))
    child = there.put(sound(1), draft("child", parent_id=parent.id))
    there.remove([parent.id])
    there.restore(parent.id)

    import_(store, there.root)

    assert store.get(child.id).parent_id == mine.id + "-2"


def test_a_cycle_of_parents_is_imported(store: Store, there: Store) -> None:
    """Only another program can write one; each take is stored once."""
    first, second = there.put(sound(1), draft()), there.put(sound(2), draft())
    lines = [put(**{**take.record, "name": take.id, "parent_id": other.id} | {"id": take.id})
             for take, other in ((first, second), (second, first))]  # fmt: skip
    (there.root / "index.jsonl").write_bytes(head() + b"".join(lines))

    assert {take.id for take in stored(import_(store, there.root))} == {first.id, second.id}


def test_a_set_keeps_its_name_unless_another_has_it(store: Store, there: Store) -> None:
    """Two sets never become one; a take that joined a set after a merge joins the same set here."""
    store.put(sound(9), draft("mine", variation_set_id="drums", variation_index=0))
    for i in range(2):
        there.put(sound(i), draft("theirs", variation_set_id="drums", variation_index=i))
    there.put(sound(5), draft("theirs", variation_set_id="bass", variation_index=0))

    assert [take.variation_set_id for take in stored(import_(store, there.root))] == ["drums-2", "drums-2", "bass"]
    there.put(sound(7), draft("theirs", variation_set_id="drums", variation_index=2))
    there.put(sound(8), draft("theirs", variation_set_id="bass", variation_index=1))
    again = stored([result for result in import_(store, there.root) if not isinstance(result, Duplicate)])
    assert [(take.variation_set_id, take.variation_index) for take in again] == [("drums-2", 2), ("bass", 1)]


def test_a_take_without_its_sound_fails_alone(store: Store, there: Store) -> None:
    """Its blob is missing or damaged; the others are imported."""
    takes = [there.put(sound(i), draft()) for i in range(3)]
    there.blob_path(takes[0]).unlink()
    blob = there.blob_path(takes[1])
    blob.chmod(0o600)
    blob.write_bytes(sound(7))

    results = import_(store, there.root)

    assert [result.source for result in results[:2]] == [f"{there.root}: {take.id}" for take in takes[:2]]
    assert [type(result) for result in results] == [ImportFailure, ImportFailure, Imported]
    assert list(store.newest(None)) == [takes[2]]


def test_a_damaged_line_of_the_other_store_is_a_warning(store: Store, there: Store) -> None:
    """The other takes are imported."""
    take = there.put(sound(), draft())
    with (there.root / "index.jsonl").open("ab") as file:
        file.write(put(name(5))[:-9] + b"\n")

    assert stored(import_(store, there.root)) == [take]
    assert "1 damaged line" in WARNINGS[0]


def test_a_store_of_a_later_version_fails_alone(store: Store, there: Store, folder: Path) -> None:
    """Other paths are imported."""
    there.put(sound(), draft())
    (there.root / "index.jsonl").write_bytes(head(version=2))

    results = import_(store, there.root, write(folder / "a.wav"))

    assert [type(result) for result in results] == [ImportFailure, Imported]


def test_a_store_in_a_folder_is_merged_as_one(store: Store, folder: Path) -> None:
    """Its blobs are not imported as files, even if it is the store into which is imported."""
    other = Store(folder / "old")
    take = other.put(sound(1), draft("rain"))
    mine = Store(folder / "mine")
    mine.put(sound(2), draft("wind"))

    assert {take.prompt for take in stored(import_(store, folder))} == {"rain", "wind"}
    assert stored(import_(mine, folder)) == [take]
    assert len(list(mine.newest(None))) == 2


@pytest.mark.parametrize("where", ["", "blobs", "index.jsonl", "a link"])
def test_a_store_is_not_imported_into_itself(store: Store, folder: Path, where: str) -> None:
    """Nor is any part of it, under whatever name; then no other path is imported either."""
    store.put(sound(), draft())
    (folder / "a link").symlink_to(store.root)
    path = folder / where if where == "a link" else store.root / where

    with pytest.raises(UsageError):
        import_(store, write(folder / "a.wav", 1), path)

    assert len(list(store.newest(None))) == 1


def test_a_store_that_cannot_be_written_ends_the_import(store: Store, folder: Path) -> None:
    """No other file could be stored either."""
    store.root.write_text("mine")

    with pytest.raises(StoreError):
        import_(store, write(folder / "a.wav"))

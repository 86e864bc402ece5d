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


WARNED: list[str] = []


@pytest.fixture(autouse=True)
def _no_warnings_yet() -> None:
    WARNED.clear()


def bring(store: Store, *paths: Path, **options: Any) -> list[Result]:
    return list(Importer(store, **{"creator": "me", "warn": WARNED.append, **options}).run(paths))


def stored(results: list[Result]) -> list[Artifact]:
    assert all(isinstance(result, Imported) for result in results), results
    return [result.artifact for result in results if isinstance(result, Imported)]


def write(path: Path, seed: int = 0, said: object = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound(seed))
    if said is not None:
        path.with_suffix(".json").write_text(json.dumps(said))
    return path


def test_a_file_becomes_a_take(store: Store, folder: Path) -> None:
    """Its very bytes, the tags of an import and the user's, and no claim of where it was made."""
    (take,) = stored(bring(store, write(folder / "a.wav"), tags=["found"]))

    assert store.read_blob(take) == sound()
    assert take.tags == (*TAGS, "found")
    assert (take.prompt, take.params, take.creator, take.seed) == ("", {}, "me", None)
    assert take.origin == {"kind": "import", "version": __version__}
    assert store.get("last") == take
    assert not WARNED


def test_a_sidecar_says_the_rest(store: Store, folder: Path) -> None:
    """All that `export --sidecar` wrote is kept, but for the id, the phase and who stored it."""
    made = store.put(
        sound(), ArtifactDraft(
            tags=("type:audio", "phase:generation", "calm"), prompt="rain", params={"top_k": 250}, creator="anna",
            origin={"kind": "http", "model": "small", "engine": "onnx", "version": "9", "url": "http://x"}, seed=7,
            license="MIT", requested_duration=1.0, elapsed_s=0.5, extra={"a": 1}, parent_id=name(1),
            variation_set_id="s", variation_index=3, client_job_id="j", created="2020-01-01T00:00:00.000Z",
        ),
    )  # fmt: skip

    (take,) = stored(bring(Store(folder / "new"), write(folder / "a.wav", said=made.record), tags=["found"]))

    same = {"tags", "origin"}
    assert {k: v for k, v in take.record.items() if k not in same} == {
        k: v for k, v in made.record.items() if k not in same
    }
    assert take.tags == (*TAGS, "calm", "found")
    assert take.origin == {"kind": "import", "model": "small", "engine": "onnx", "version": __version__}
    (known,) = bring(store, folder / "a.wav")
    assert known == Duplicate(str(folder / "a.wav"), made.id)


def test_part_of_a_sidecar_is_enough(store: Store, folder: Path) -> None:
    """One that a person wrote; a creator given with the command goes before its."""
    write(folder / "a.wav", 1, {"prompt": "rain", "creator": "anna", "origin": {"model": 5}, "unheard": "of"})
    write(folder / "b.wav", 2, {"prompt": "wind", "creator": "anna", "tags": ["x"]})

    (first,) = stored(bring(store, folder / "a.wav"))
    (second,) = stored(bring(store, folder / "b.wav", is_creator_sure=True))

    assert (first.prompt, first.creator, first.origin.get("model"), first.unknown) == ("rain", "anna", None, {})
    assert (second.creator, second.tags) == ("me", (*TAGS, "x"))


@pytest.mark.parametrize(
    "said",
    [
        b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b'{"foo":1}', b'{"prompt":5}', b'{"tags":"x"}', b'{"tags":[5]}',
        b'{"tags":["a,b"]}', b'{"seed":1.5}', b'{"seed":true}', b'{"params":[]}', b'{"origin":"x"}',
        b'{"prompt":"x","params":{"t":NaN}}', b'{"prompt":"\\ud800"}', b'{"created":"yesterday"}',
        b'{"created":"2020-01-01T00:00:00Z"}', b'{"prompt":"' + b"x" * 70_000 + b'"}', b"[" * 100_000,
        b'{"extra":{"x":"' + b"y" * 9000 + b'"}}', b'{"seed":' + b"9" * 5000 + b"}",
        b" " * (1 << 20) + b'{"prompt":"x"}', b'{"tags":' + json.dumps([str(i) for i in range(62)]).encode() + b"}",
    ],
)  # fmt: skip
def test_a_sidecar_that_says_nothing_usable_costs_no_sound(store: Store, folder: Path, said: bytes) -> None:
    """It is left out with a warning that names it; the file is imported without."""
    write(folder / "a.wav")
    (folder / "a.json").write_bytes(said)

    (take,) = stored(bring(store, folder / "a.wav"))

    assert (take.prompt, take.params, take.seed, take.tags, take.extra) == ("", {}, None, TAGS, None)
    assert len(WARNED) == 1
    assert str(folder / "a.json") in WARNED[0]


def test_the_same_file_twice_is_one_take(store: Store, folder: Path) -> None:
    """In one command or two, under any name, whatever became of its tags; with another record it is another take."""
    write(folder / "a.wav")
    write(folder / "b.wav")
    first, second = bring(store, folder)
    assert isinstance(first, Imported)
    assert second == Duplicate(str(folder / "b.wav"), first.artifact.id)
    store.tag([first.artifact.id], add=["x"])

    assert [result.id for result in bring(store, folder) if isinstance(result, Duplicate)] == [first.artifact.id] * 2
    assert stored(bring(store, write(folder / "a.wav", said={"prompt": "rain"})))[0].id == first.artifact.id + "-2"
    store.remove([first.artifact.id])
    assert len(stored(bring(store, folder / "b.wav"))) == 1


def test_folders_are_read_to_their_depth(store: Store, folder: Path) -> None:
    """In the order of their names; what isn't named as a WAV is not looked at."""
    for seed, path in enumerate(["b.wav", "a/x.WAV", "a/deep/y.wav", "z/z.txt"]):
        write(folder / path, seed)
    (folder / "a" / "loop").symlink_to(folder)

    results = bring(store, folder)

    assert [result.source for result in results] == [
        str(folder / path) for path in ("b.wav", "a/x.WAV", "a/deep/y.wav")
    ]
    assert len(stored(results)) == 3


def test_what_is_no_sound_fails_alone(store: Store, folder: Path) -> None:
    """Not a WAV, cut short, absent, a pipe, an empty folder: a sentence for each, and the others go on."""
    write(folder / "1.wav").write_bytes(b"RIFF")
    write(folder / "2.wav").write_bytes(sound()[:-1])
    os.mkfifo(folder / "3.wav")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "4.wav").symlink_to(folder / "nowhere")
    write(folder / "5.wav", 5)
    (folder / "empty").mkdir()

    results = bring(store, folder, folder / "absent.wav", folder / "empty", folder / "loop", folder / ("x" * 300))

    said = {Path(result.source).name: str(result.error) for result in results if isinstance(result, ImportFailure)}
    assert [*said] == ["1.wav", "2.wav", "3.wav", "4.wav", "absent.wav", "empty", "loop", "x" * 300]
    assert "not a WAV" in said["1.wav"]
    assert "promises" in said["2.wav"]
    assert said["3.wav"] == "not a file"
    assert said["absent.wav"] == said["4.wav"] == "can't be read: no such file or directory"
    assert [take.content_hash for take in store.newest(None)] == [stored(results[4:5])[0].content_hash]


@pytest.mark.parametrize("tags", [["a,b"], [f"t{i}" for i in range(62)]])
def test_wrong_tags_are_refused_before_anything_is_read(store: Store, folder: Path, tags: list[str]) -> None:
    """They would spoil every take alike."""
    with pytest.raises(InvalidValueError):
        bring(store, write(folder / "a.wav"), tags=tags)
    assert not store.root.exists()


def test_another_store_is_merged_whole(store: Store, there: Store) -> None:
    """Order, times, creators, tags as they are now, members of later versions; what was removed there stays away."""
    old = there.put(sound(1), draft("one", creator="anna", created="2020-01-01T00:00:00.000Z", unknown={"later": 1}))
    (old,) = there.tag([old.id], add=["x"], rm=["type:audio"])
    there.remove([there.put(sound(2), draft("gone")).id])
    new = there.put(sound(3), draft("three"))

    assert stored(bring(store, there.root, is_creator_sure=True)) == [old, new]

    assert list(store.newest(None)) == [new, old]
    assert store.read_blob(old) == sound(1)


def test_tags_given_with_a_merge_come_after_those_that_are_there(store: Store, there: Store) -> None:
    """Takes that would have too many are named, and stay where they are."""
    there.put(sound(1), draft(tags=("a",)))
    there.put(sound(2), draft(tags=tuple(f"t{i}" for i in range(64))))

    first, second = bring(store, there.root, tags=["x"])

    assert stored([first])[0].tags == ("a", "x")
    assert isinstance(second, ImportFailure)
    assert "at most 64 tags" in str(second.error)


def test_merging_again_brings_only_what_is_new(store: Store, there: Store) -> None:
    """Whatever became of the tags on either side, and also after the takes went the other way."""
    first = there.put(sound(1), draft("one"))
    bring(store, there.root)
    store.tag([first.id], add=["here"])
    there.tag([first.id], add=["there"])
    second = there.put(sound(2), draft("two"))

    assert bring(store, there.root)[0] == Duplicate(f"{there.root}: {first.id}", first.id)
    assert [take.id for take in store.newest(None)] == [second.id, first.id]
    assert all(isinstance(result, Duplicate) for result in bring(there, store.root))
    assert store.get(first.id).tags == ("type:audio", "here")


def test_takes_that_differ_in_their_time_alone_are_two(store: Store, there: Store) -> None:
    """The same seed twice gives the same sound twice, and each was kept."""
    for day in "12":
        there.put(sound(), draft(created=f"2020-01-0{day}T00:00:00.000Z"))

    assert [take.created[9] for take in stored(bring(store, there.root))] == ["1", "2"]
    assert [type(result) for result in bring(store, there.root)] == [Duplicate, Duplicate]


def test_a_take_whose_id_is_taken_gets_another_and_its_children_follow(store: Store, there: Store) -> None:
    """Lineage means the same takes as before."""
    mine = store.put(sound(), draft("mine"))
    parent = there.put(sound(), draft("theirs"))
    child = there.put(sound(1), draft("child", parent_id=parent.id))
    orphan = there.put(sound(2), draft("orphan", parent_id=name(9)))
    assert parent.id == mine.id

    results = bring(store, there.root)

    by_old = {result.old_id: result.artifact for result in results if isinstance(result, Imported)}
    assert by_old[parent.id].id == mine.id + "-2"
    assert by_old[child.id].parent_id == mine.id + "-2"
    assert by_old[orphan.id].parent_id == name(9)
    assert store.get(mine.id) == mine
    third = there.put(sound(3), draft("late", parent_id=parent.id))
    assert store.get(bring(store, there.root)[-1].artifact.id).parent_id == mine.id + "-2"  # type: ignore[union-attr]
    assert third.parent_id == mine.id


def test_a_parent_that_stands_after_its_child_is_mapped_too(store: Store, there: Store) -> None:
    """It was removed and brought back; a circle, which only a foreign program can write, ends."""
    mine = store.put(sound(), draft("mine"))
    parent = there.put(sound(), draft("theirs"))
    child = there.put(sound(1), draft("child", parent_id=parent.id))
    there.remove([parent.id])
    there.restore(parent.id)

    bring(store, there.root)

    assert store.get(child.id).parent_id == mine.id + "-2"


def test_lineage_in_a_circle_ends(store: Store, there: Store) -> None:
    """Only a foreign program can write one; each take is stored once."""
    first, second = there.put(sound(1), draft()), there.put(sound(2), draft())
    lines = [put(**{**take.record, "name": take.id, "parent_id": other.id} | {"id": take.id})
             for take, other in ((first, second), (second, first))]  # fmt: skip
    (there.root / "index.jsonl").write_bytes(head() + b"".join(lines))

    assert {take.id for take in stored(bring(store, there.root))} == {first.id, second.id}


def test_a_set_keeps_its_name_unless_another_has_it(store: Store, there: Store) -> None:
    """Two sets don't become one; and what joined a set after a merge joins it here, too."""
    store.put(sound(9), draft("mine", variation_set_id="drums", variation_index=0))
    for i in range(2):
        there.put(sound(i), draft("theirs", variation_set_id="drums", variation_index=i))
    there.put(sound(5), draft("theirs", variation_set_id="bass", variation_index=0))

    assert [take.variation_set_id for take in stored(bring(store, there.root))] == ["drums-2", "drums-2", "bass"]
    there.put(sound(7), draft("theirs", variation_set_id="drums", variation_index=2))
    there.put(sound(8), draft("theirs", variation_set_id="bass", variation_index=1))
    again = stored([result for result in bring(store, there.root) if not isinstance(result, Duplicate)])
    assert [(take.variation_set_id, take.variation_index) for take in again] == [("drums-2", 2), ("bass", 1)]


def test_a_take_without_its_sound_fails_alone(store: Store, there: Store) -> None:
    """Missing, or not what was stored: it is named, and the others come."""
    takes = [there.put(sound(i), draft()) for i in range(3)]
    there.blob_path(takes[0]).unlink()
    blob = there.blob_path(takes[1])
    blob.chmod(0o600)
    blob.write_bytes(sound(7))

    results = bring(store, there.root)

    assert [result.source for result in results[:2]] == [f"{there.root}: {take.id}" for take in takes[:2]]
    assert [type(result) for result in results] == [ImportFailure, ImportFailure, Imported]
    assert list(store.newest(None)) == [takes[2]]


def test_a_damaged_line_there_is_told(store: Store, there: Store) -> None:
    """The other takes come."""
    take = there.put(sound(), draft())
    with (there.root / "index.jsonl").open("ab") as file:
        file.write(put(name(5))[:-9] + b"\n")

    assert stored(bring(store, there.root)) == [take]
    assert "1 damaged line" in WARNED[0]


def test_a_store_of_a_later_version_fails_alone(store: Store, there: Store, folder: Path) -> None:
    """Nothing of it is guessed."""
    there.put(sound(), draft())
    (there.root / "index.jsonl").write_bytes(head(version=2))

    results = bring(store, there.root, write(folder / "a.wav"))

    assert [type(result) for result in results] == [ImportFailure, Imported]


def test_a_store_in_a_folder_is_merged_as_one(store: Store, folder: Path) -> None:
    """Its blobs are no loose files, also where it is the very store that is written to."""
    other = Store(folder / "old")
    take = other.put(sound(1), draft("rain"))
    mine = Store(folder / "mine")
    mine.put(sound(2), draft("wind"))

    assert {take.prompt for take in stored(bring(store, folder))} == {"rain", "wind"}
    assert stored(bring(mine, folder)) == [take]
    assert len(list(mine.newest(None))) == 2


@pytest.mark.parametrize("where", ["", "blobs", "index.jsonl", "a link"])
def test_a_store_is_not_imported_into_itself(store: Store, folder: Path, where: str) -> None:
    """Nor any part of it, by whatever name; nothing else is imported either."""
    store.put(sound(), draft())
    (folder / "a link").symlink_to(store.root)
    path = folder / where if where == "a link" else store.root / where

    with pytest.raises(UsageError):
        bring(store, write(folder / "a.wav", 1), path)

    assert len(list(store.newest(None))) == 1


def test_a_store_that_cannot_be_written_ends_it(store: Store, folder: Path) -> None:
    """What is wrong with the store is wrong for every file."""
    store.root.write_text("mine")

    with pytest.raises(StoreError):
        bring(store, write(folder / "a.wav"))

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from musicgen_cli.errors import DamagedError, NewerStoreError, NotFoundError, StoreError
from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.maintenance import Compaction, Garbage, Repair, compact, gc, repair
from tests.store.test_store import PUT_SOUNDS, at_the_lock, finished, python
from tests.support.index_lines import delete, draft, head, name, put, put_record, sealed, sound, tag

A, B = name(0xA), name(0xB)
TWO_HOURS_S = 7200.0
FLAWS = {
    "bad line": [head(), b"hello\n", put(A)],
    "bad head": [head()[1:], put(A)],
    "no head": [put(A)],
    "torn tail": [head(), put(A)[:60]],
    "whole line without its LF": [head(), put(A)[:-1]],
    "an id twice": [head(), put(A), put(A, prompt="other")],
    "a second head": [head(), put(A), head(gen="f" * 16)],
}


def lines_of(root: Path) -> list[bytes]:
    return (root / "index.jsonl").read_bytes().splitlines(keepends=True)


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all there is to see of a directory."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [root, *root.rglob("*")]
    }


def age(root: Path, seconds: float = TWO_HOURS_S) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)


def names_like(root: Path, start: str) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(start)]


def test_compaction_keeps_what_is_live_with_its_tags(index, root, store):
    """In order, with unknown members and `x-` lines where they were; nothing dead is left."""
    path = index(
        head(),
        put(A, prompt="ä", later={"a": [1.5]}),
        sealed({"op": "x-one", "id": A}),
        put(B),
        tag(A, add=("x", "y"), rm=("type:audio",)),
        sealed({"op": "x-two"}),
        put(name(1)),
        delete(name(1)),
        tag(A, rm=("x",)),
        tag(name(9), add=("x",)),
    )
    path.chmod(0o600)
    before, listed = path.read_bytes(), list(store.newest(None))

    done = compact(root)

    first, *rest = lines_of(root)
    assert rest == [
        put(A, prompt="ä", later={"a": [1.5]}, tags=["y"]),
        sealed({"op": "x-one", "id": A}),
        put(B),
        sealed({"op": "x-two"}),
    ]
    assert b'"gen":"0123456789abcdef"' not in first
    assert list(store.newest(None)) == listed
    assert (root / "index.jsonl.old").read_bytes() == before
    assert done == Compaction(True, 10, 5, len(before), path.stat().st_size)
    assert {stat.S_IMODE((root / each).stat().st_mode) for each in ("index.jsonl", "index.jsonl.old")} == {0o600}
    assert names_like(root, "index.jsonl.tmp-") == []


def test_a_restored_take_is_kept_once(store, root):
    """Removed and stored again under its id: it is live, with the tags it came back with, as the newest."""
    first, second = (store.put(sound(seed), draft()) for seed in range(2))
    store.tag([first.id], add=["calm"])
    store.remove([first.id])
    store.restore(first.id)
    store.tag([first.id], add=["again"])

    compact(root)

    assert [(take.id, take.tags) for take in store.newest(None)] == [
        (first.id, ("type:audio", "calm", "again")),
        (second.id, second.tags),
    ]
    assert len(lines_of(root)) == 3


def test_compacting_twice_changes_only_the_head(store, root):
    """And the generation is a new one each time."""
    store.put(sound(), draft())
    compact(root)
    once = lines_of(root)

    compact(root)

    assert lines_of(root)[1:] == once[1:]
    assert lines_of(root)[0] != once[0]


def test_forgetting_leaves_no_trace_of_a_removed_prompt(store, root):
    """Neither an old index nor what a compaction that was killed left behind."""
    store.put(sound(1), draft("kept"))
    secret = store.put(sound(), draft("a secret"))
    (root / "index.jsonl.tmp-1-00").write_bytes((root / "index.jsonl").read_bytes())
    compact(root)
    store.remove([secret.id])

    compact(root, forget=True)

    assert names_like(root, "index.jsonl") == ["index.jsonl"]
    assert [path for path in root.rglob("*") if path.is_file() and b"a secret" in path.read_bytes()] == []


@pytest.mark.parametrize("make", [compact, gc, repair])
def test_where_there_is_no_store_nothing_is_made(root, make):
    """There is nothing to care for."""
    make(root)

    assert not root.exists()


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_index_is_neither_compacted_nor_trusted_to_name_garbage(index, root, flaw):
    """Repair comes first; nothing is changed before."""
    index(*FLAWS[flaw])
    (root / "lock").touch()
    age(root)
    before = everything(root)

    for refused in (lambda: compact(root), lambda: compact(root, forget=True), lambda: gc(root, yes=True)):
        with pytest.raises(DamagedError, match="nothing was changed") as caught:
            refused()
        assert "musicgen store repair" in (caught.value.hint or "")

    assert {k: v[2] for k, v in everything(root).items()} == {k: v[2] for k, v in before.items()}
    repair(root)
    compact(root)
    gc(root, yes=True)


@pytest.mark.parametrize("make", [compact, lambda root: gc(root, yes=True), repair, lambda root: list(check(root))])
def test_what_a_newer_version_wrote_stops_everything(index, root, make):
    """It is not ours to rewrite."""
    path = index(head(), put(A), sealed({"op": "link"}))
    before = path.read_bytes()

    with pytest.raises(NewerStoreError):
        make(root)

    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_index_as_it_was(store, root, monkeypatch):
    """Whatever step fails, and no temporary stays."""
    store.put(sound(), draft())
    before = (root / "index.jsonl").read_bytes()
    for call in ("fsync", "link", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            with pytest.raises(StoreError, match="full"):
                compact(root)
        assert (root / "index.jsonl").read_bytes() == before
        assert names_like(root, "index.jsonl.tmp-") == []


def test_without_links_the_old_index_is_a_copy(store, root, monkeypatch):
    """Some file systems have none."""
    store.put(sound(), draft())
    before = (root / "index.jsonl").read_bytes()

    def fail(*args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", fail)
    compact(root)

    assert (root / "index.jsonl.old").read_bytes() == before
    assert list(check(root)) == []


def test_a_compaction_that_was_killed_is_made_good_by_the_next(store, root):
    """It may have died when the old index had both its names, before the new one took its place."""
    store.put(sound(), draft())
    before = (root / "index.jsonl").read_bytes()
    (root / "index.jsonl.old").hardlink_to(root / "index.jsonl")

    compact(root)

    assert sorted(names_like(root, "index.jsonl")) == ["index.jsonl", "index.jsonl.old"]
    assert (root / "index.jsonl.old").read_bytes() == before
    assert lines_of(root)[1:] == before.splitlines(keepends=True)[1:]
    assert lines_of(root)[0] != before.splitlines(keepends=True)[0]


def test_a_reader_keeps_the_file_it_opened(store, index):
    """A listing that is under way goes on as if nothing had happened."""
    root = index(head(), *(put(name(i), prompt="x" * 1000) for i in range(300))).parent
    takes = store.newest(None)
    first = next(takes)

    compact(root, forget=True)

    assert [first.id, *(take.id for take in takes)] == [name(i) for i in reversed(range(300))]


def test_a_writer_who_waited_writes_to_the_new_file(store, root, monkeypatch):
    """It opens the index after it has the lock, and searches its ids anew."""
    first = store.put(sound(), draft("first"))
    second = store.put(sound(), draft("second"))
    store.remove([first.id])
    at_the_lock(monkeypatch, lambda: compact(root))

    third = store.put(sound(), draft("third"))

    assert third.id not in {first.id, second.id}
    assert [take.prompt for take in store.newest(None)] == ["third", second.prompt]
    assert list(check(root)) == []


def test_an_edit_who_waited_is_made_in_the_new_file(store, root, monkeypatch):
    """With the place of the artifact there."""
    gone, kept = (store.put(sound(seed), draft()) for seed in range(2))
    store.remove([gone.id])
    at_the_lock(monkeypatch, lambda: compact(root))

    store.tag([kept.id], add=["calm"])

    assert store.get(kept.id).tags == ("type:audio", "calm")
    assert len(lines_of(root)) == 3


def test_writers_and_compactions_together_lose_nothing(store, root):
    """Two processes store while this one compacts again and again."""
    store.put(sound(99), draft())
    writers = [python(PUT_SOUNDS, root, *range(start, start + 8)) for start in (0, 100)]
    while any(writer.poll() is None for writer in writers):
        compact(root)
    told = [finished(writer) for writer in writers]

    ids = [line for _, out, _ in told for line in out.split()]
    assert [code for code, _, _ in told] == [0, 0]
    assert len(ids) == 16
    assert set(ids) <= {take.id for take in store.newest(None)}
    assert list(check(root, full=True)) == []


def test_garbage_is_what_no_live_take_has_and_is_old(store, root):
    """Removed takes' audio, if no other take shares it, and unfinished writes; all else stays."""
    kept, shared, removed = (store.put(sound(seed), draft()) for seed in range(3))
    twin = store.put(sound(1), draft("twin"))
    store.remove([shared.id, removed.id])
    folder = store.blob_path(kept).parent
    (folder / ".tmp-1-aa").write_bytes(b"12345")
    (folder / "notes.txt").write_bytes(b"")
    (root / "index.jsonl.tmp-1-aa").write_bytes(b"123")
    age(root)
    fresh = store.put(sound(4), draft())
    store.remove([fresh.id])
    (folder / ".tmp-1-bb").write_bytes(b"")
    before = everything(root)

    found = gc(root)

    assert found == Garbage(False, 1, len(sound()), 2, 8)
    assert everything(root) == before
    assert gc(root, yes=True) == Garbage(True, 1, len(sound()), 2, 8)
    gone = set(before) - set(everything(root))
    paths = (store.blob_path(removed), folder / ".tmp-1-aa", root / "index.jsonl.tmp-1-aa")
    assert gone == {str(path.relative_to(root)) for path in paths}
    assert store.read_blob(kept) == sound(0)
    assert store.read_blob(twin) == sound(1)
    assert gc(root, yes=True) == Garbage(True)


def test_audio_without_an_index_is_no_garbage(store, root):
    """A lost index must not cost the audio too."""
    take = store.put(sound(), draft())
    (root / "index.jsonl").unlink()
    age(root)

    with pytest.raises(DamagedError, match="no index") as caught:
        gc(root, yes=True)

    assert "--adopt" in (caught.value.hint or "")
    assert store.blob_path(take).exists()


def test_a_writer_between_audio_and_line_writes_its_audio_again(store, root, monkeypatch):
    """It found the audio of a removed take, as old as can be, and a collection takes it just before the line."""
    removed = store.put(sound(), draft())
    store.remove([removed.id])
    age(root)
    taken = []
    at_the_lock(monkeypatch, lambda: taken.append(gc(root, yes=True).blobs))

    take = store.put(sound(), draft("again"))

    assert taken == [1]
    assert store.read_blob(take) == sound()
    assert list(check(root, full=True)) == []


@pytest.mark.parametrize("part", ["blobs", "blobs/xx"])
def test_nothing_is_written_or_deleted_through_a_link(store, root, tmp_path, part):
    """A directory of audio that leads elsewhere is refused, and what is there stays as it is."""
    take = store.put(sound(), draft())
    store.remove([take.id])
    age(root)
    inside = root / part.replace("xx", take.content_hash[:2])
    inside.rename(tmp_path / "aside")
    inside.symlink_to(tmp_path / "aside")
    before = everything(tmp_path / "aside")

    with pytest.raises(StoreError, match="symbolic link"):
        store.put(sound(), draft())
    try:
        gc(root, yes=True)
    except StoreError as err:
        assert "symbolic link" in str(err)  # noqa: PT017  # the one who leads to all audio

    assert everything(tmp_path / "aside") == before


def glued(*lines: bytes, by: bytes = b"") -> bytes:
    return by.join(line.removesuffix(b"\n") for line in lines) + b"\n"


@pytest.mark.parametrize("by", [b"", b" ", b"\0\0", b"}", b"\t", b'{"op":"put"', b'"crc":"00000000"}'])
def test_glued_lines_are_cut_apart(index, root, store, by):
    """A lost LF between lines costs none of them, be they edits or not, and whatever stands in its place."""
    path = index(head(), glued(put(A)[20:], put(A), put(B), tag(A, add=("x",)), delete(B), put(name(1)), by=by))
    before = path.read_bytes()

    done = repair(root)

    assert (done.bad_lines, done.salvaged, done.index_rewritten) == (1, 5, True)
    assert [take.id for take in store.newest(None)] == [name(1), A]
    assert store.get(A).tags == ("type:audio", "x")
    assert lines_of(root)[1:] == [put(A, tags=["type:audio", "x"]), put(name(1))]
    (kept,) = (root / "quarantine").iterdir()
    assert kept.read_bytes() == before.splitlines(keepends=True)[1]
    assert (root / "index.jsonl.old").read_bytes() == before


def test_a_line_with_another_inside_is_salvaged_whole(index, root, store):
    """The `{"op":"` of a member is not where a line starts."""
    index(head(), b"junk" + put(A, extra={"a": {"op": "put", "id": B}}))

    repair(root)

    assert lines_of(root)[1:] == [put(A, extra={"a": {"op": "put", "id": B}})]


def test_a_whole_last_line_without_its_lf_is_kept(index, root, store):
    """Only what is torn is taken out."""
    index(head(), put(A), put(B)[:-1])

    done = repair(root)

    assert [take.id for take in store.newest(None)] == [B, A]
    assert (done.bad_lines, done.index_rewritten) == (0, True)
    assert not (root / "quarantine").exists()


def test_of_two_artifacts_with_one_id_the_last_is_kept(index, root, store):
    """As `show` has always read them; the other's line is in quarantine."""
    index(head(), put(A, prompt="first"), tag(A, add=("x",)), put(A, prompt="last"))

    assert repair(root).repeated_ids == 1

    assert [(take.prompt, take.tags) for take in store.newest(None)] == [("last", ("type:audio",))]
    (kept,) = (root / "quarantine").iterdir()
    assert kept.read_bytes() == put(A, prompt="first")


def test_a_repair_of_what_is_right_changes_nothing(store, root):
    """Not one byte."""
    store.put(sound(), draft())
    lock = (root / "lock").stat().st_mtime_ns
    before = everything(root)

    assert repair(root, adopt=True) == Repair(True)

    os.utime(root / "lock", ns=(lock, lock))
    assert everything(root) == before


def test_quarantine_keeps_what_was_there(store, root):
    """The same audio and the same line, damaged again and again, each time get names of their own."""
    take = store.put(sound(), draft())
    wanted = set()
    for number in range(3):
        path = store.blob_path(take)
        path.chmod(0o600)
        path.write_bytes(b"%d" % number)
        with (root / "index.jsonl").open("ab") as file:
            file.write(b"bad %d\n" % number)
        wanted |= {b"%d" % number, b"bad %d\n" % number}

        done = repair(root)

        assert (done.quarantined, done.bad_lines, done.missing) == (1, 1, number + 1)
        assert {problem.kind for problem in check(root)} == {"missing"}
        store.put(sound(), draft())
        assert {path.read_bytes() for path in (root / "quarantine").iterdir()} == wanted
    assert stat.S_IMODE((root / "quarantine").stat().st_mode) == 0o700


def test_audio_that_was_healed_meanwhile_is_left_alone(store, root, monkeypatch):
    """It is hashed once more under the lock."""
    take = store.put(sound(), draft())
    path = store.blob_path(take)
    path.chmod(0o600)
    path.write_bytes(b"rotten")

    def heal() -> None:
        path.write_bytes(sound())
        path.chmod(0o400)

    at_the_lock(monkeypatch, heal)

    assert repair(root).quarantined == 0
    assert store.read_blob(take) == sound()


def test_a_write_under_way_is_no_damage(store, root, monkeypatch):
    """What is unfinished without the lock is looked at again under it."""
    take = store.put(sound(), draft())
    path = root / "index.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    at_the_lock(monkeypatch, lambda: path.write_bytes(whole))

    assert not repair(root).index_rewritten
    assert store.get("last") == take


def test_unknown_audio_becomes_takes_only_when_asked(store, root):
    """Tagged, without a prompt, each once; what is no WAV, or was removed, is not brought back."""
    lost, removed = store.put(sound(0), draft()), store.put(sound(1), draft())
    store.remove([removed.id])
    digest = Digest.of(b"no WAV").hex
    (root / "blobs" / digest[:2]).mkdir(exist_ok=True, mode=0o700)
    (root / "blobs" / digest[:2] / f"{digest}.wav").write_bytes(b"no WAV")
    index = root / "index.jsonl"
    index.write_bytes(index.read_bytes().replace(b'"prompt":"rain', b'"prompt":"rein', 1))

    assert (repair(root, dry_run=True, adopt=True).adopted, repair(root, dry_run=True).adopted) == (1, 0)
    assert repair(root, adopt=True).adopted == 1

    (take,) = store.newest(None)
    assert (take.id, take.content_hash, take.bytes) == (lost.id, lost.content_hash, lost.bytes)
    assert (take.tags, take.prompt, take.params, take.creator) == (("recovered",), "", {}, "agent_musicgen")
    assert (take.origin, take.frames, take.duration) == ({"kind": "import"}, lost.frames, lost.duration)
    assert list(check(root, full=True)) == []
    assert repair(root, adopt=True).adopted == 1  # the rewriting forgot that it was removed
    assert repair(root, adopt=True).adopted == 0


def test_a_store_that_lost_its_index_is_adopted_whole(store, root):
    """All audio is there again, under the ids it had first."""
    ids = {store.put(sound(seed), draft()).id for seed in range(20)}
    (root / "index.jsonl").unlink()

    assert repair(root, adopt=True).adopted == 20

    assert {take.id for take in store.newest(None)} == ids
    assert list(check(root, full=True)) == []


def test_an_adopted_take_gets_an_id_that_nobody_has(store, root):
    """Other audio may have the same twelve digits."""
    take = store.put(sound(), draft())
    lines = [head(), put(take.id), sealed(put_record(take.id + "-2")), delete(take.id + "-2")]
    (root / "index.jsonl").write_bytes(b"".join(lines))

    repair(root, adopt=True)

    assert store.get("last").id == take.id + "-3"


@pytest.mark.parametrize("flaw", FLAWS)
def test_dry_runs_change_not_one_byte(store, index, root, flaw):
    """And tell what would be done, as far as that can be known."""
    take = store.put(sound(), draft())
    index(*FLAWS[flaw])
    path = store.blob_path(take)
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    age(root)
    (root / "lock").unlink()
    before = everything(root)

    would = repair(root, adopt=True, dry_run=True)
    with pytest.raises(DamagedError):
        compact(root, dry_run=True)
    with pytest.raises(DamagedError):
        gc(root)

    assert everything(root) == before
    done = repair(root, adopt=True)
    assert (would.done, done.done) == (False, True)
    assert [getattr(would, each) for each in would.__slots__[1:]] == [
        getattr(done, each) for each in done.__slots__[1:]
    ]
    before = everything(root)
    would_keep = compact(root, dry_run=True)
    gc(root)
    assert everything(root) == before
    assert would_keep.kept_bytes == compact(root).kept_bytes


class Machine(RuleBasedStateMachine):
    """A store against a dictionary: whatever care it gets, it holds what was put and not removed."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name) / "store"
        self.store = Store(self.root, warn=lambda _: None)
        self.live: dict[str, tuple[bytes, str, tuple[str, ...]]] = {}
        self.gone: dict[str, tuple[bytes, str, tuple[str, ...]]] = {}
        self.torn = False

    @rule(seed=st.integers(0, 3), prompt=st.text(st.characters(codec="utf-8"), max_size=5))
    def put(self, seed: int, prompt: str) -> None:
        take = self.store.put(sound(seed), draft(prompt))
        assert take.id not in self.live.keys() | self.gone.keys()
        self.live[take.id] = (sound(seed), prompt, take.tags)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), add=st.sets(st.sampled_from("ab")), rm=st.sets(st.sampled_from(["b", "c", "type:audio"])))
    def tag(self, data: st.DataObject, add: set[str], rm: set[str]) -> None:
        each = data.draw(st.sampled_from([*self.live]))
        (take,) = self.store.tag([each], add=sorted(add), rm=sorted(rm))
        wav, prompt, tags = self.live[each]
        kept = [tag for tag in tags if tag not in rm]
        self.live[each] = (wav, prompt, (*kept, *(tag for tag in sorted(add) if tag not in kept)))
        assert take.tags == self.live[each][2]

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from([*self.live]))
        self.store.remove([each])
        self.gone[each] = self.live.pop(each)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from([*self.gone]))
        wav = self.gone[each][0]
        if self.store.blob_path(take_of(each, wav)).exists():
            self.store.restore(each)
            self.live[each] = self.gone.pop(each)
        else:
            with pytest.raises(DamagedError):
                self.store.restore(each)

    @rule(forget=st.booleans(), dry_run=st.booleans())
    def compact(self, forget: bool, dry_run: bool) -> None:
        if self.torn:
            with pytest.raises(DamagedError):
                compact(self.root, forget=forget, dry_run=dry_run)
            return
        compact(self.root, forget=forget, dry_run=dry_run)
        if not dry_run:
            for each in self.gone:
                with pytest.raises(NotFoundError):
                    self.store.restore(each)
            self.gone.clear()
            assert not (forget and (self.root / "index.jsonl.old").exists())

    @rule()
    def gc(self) -> None:
        age(self.root)
        if self.torn:
            with pytest.raises(DamagedError):
                gc(self.root, yes=True)
            return
        gc(self.root, yes=True)
        kept = {path.stem for path in self.root.rglob("*.wav")}
        assert kept == {Digest.of(wav).hex for wav, _, _ in self.live.values()}

    @precondition(lambda self: self.live)
    @rule(size=st.integers(1, 60))
    def tear(self, size: int) -> None:
        with (self.root / "index.jsonl").open("ab") as file:
            file.write(put(name(0xF))[:size])
        self.torn = True

    @rule(adopt=st.booleans())
    def repair(self, adopt: bool) -> None:
        known = {Digest.of(wav).hex for wav, _, _ in [*self.live.values(), *self.gone.values()]}
        unknown = {path.stem for path in self.root.glob("blobs/*/*.wav")} - known
        done = repair(self.root, adopt=adopt)
        assert done.missing == 0
        assert done.index_rewritten == self.torn
        assert done.adopted == (len(unknown) if adopt else 0)
        for take in self.store.newest(done.adopted):
            self.live[take.id] = (self.store.read_blob(take), "", ("recovered",))
        if adopt and done.adopted:  # those were listed from the newest
            added = [self.live.popitem() for _ in range(done.adopted)]
            self.live |= dict(added)
        if self.torn:
            self.gone.clear()
        self.torn = False

    @rule()
    def reopen(self) -> None:
        self.store = Store(self.root, warn=lambda _: None)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        listed = [(take.id, (self.store.read_blob(take), take.prompt, take.tags)) for take in self.store.newest(None)]
        assert listed == [*reversed(self.live.items())]
        (self.root / "lock").unlink(missing_ok=True)  # trying it takes a process each time
        problems = [problem.kind for problem in check(self.root, full=True)]
        assert bool(problems) == self.torn
        assert set(problems) <= {"tail", "line"}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


def take_of(each: str, wav: bytes):
    class Take:
        id = each
        digest = Digest.of(wav)

    return Take()


TestAStoreAgainstADict = Machine.TestCase
TestAStoreAgainstADict.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
)

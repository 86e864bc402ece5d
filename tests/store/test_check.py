from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.errors import NewerStoreError, StoreError
from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.maintenance import repair
from tests.support.index_lines import delete, draft, head, name, put, sealed, sound, tag


def kinds(root: Path, *, full: bool = False) -> list[str]:
    return [problem.kind for problem in check(root, full=full)]


@pytest.fixture
def take(store, root):
    return store.put(sound(), draft())


@pytest.fixture
def by_hand(index, root):
    """Write an index by hand whose files are as they should be, without a lock."""

    def write(*lines: bytes) -> Path:
        path = index(*lines)
        for each, mode in ((path, 0o600), (root, 0o700), (root / "blobs", 0o700)):
            each.chmod(mode)
        return path

    return write


def test_what_the_store_writes_is_clean(store, root):
    """After each kind of command; the lock keeps a second process out."""
    first, second = (store.put(sound(seed), draft()) for seed in range(2))
    store.tag([first.id], add=["calm"])
    store.remove([second.id])
    store.restore(second.id)

    assert list(check(root, full=True)) == []


def test_a_store_that_is_not_there_is_clean(root):
    """An absent index is an empty store."""
    assert list(check(root)) == []
    assert not root.exists()


def test_a_store_that_is_a_file_is_said(root):
    """Exactly as by every other command."""
    root.write_bytes(b"")

    with pytest.raises(StoreError, match="not a directory"):
        list(check(root))


def test_a_lock_that_keeps_nobody_out_is_found(take, root, monkeypatch):
    """As on some network file systems: here our own hold of it is made to fail silently."""
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: None)

    assert kinds(root) == ["lock"]


def test_a_lock_that_cannot_be_tried_is_said(take, root, monkeypatch):
    """What isn't known isn't called right."""

    def fail(*args, **kwargs):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "run", fail)

    assert kinds(root) == ["lock"]


def test_a_file_system_without_locks_is_a_problem_and_the_rest_is_still_checked(take, root, store, monkeypatch):
    """A check goes as far as it can."""

    def fail(fd, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    store.blob_path(take).unlink()

    assert kinds(root) == ["lock", "missing"]


@pytest.mark.parametrize(
    ("part", "mode"),
    [
        ("", 0o755),
        ("lock", 0o644),
        ("index.jsonl", 0o640),
        ("blobs", 0o770),
        ("blobs/xx", 0o711),
        ("blobs/xx/h.wav", 0o600),
    ],
)
def test_a_mode_that_differs_is_found_and_mended(store, take, root, part, mode):
    """A store is for its owner alone, and audio is read-only."""
    digest = take.content_hash
    path = root / part.replace("xx", digest[:2]).replace("h.wav", digest + ".wav")
    path.chmod(mode)

    (problem,) = check(root)

    assert (problem.kind, problem.where) == ("mode", path.relative_to(root).as_posix())
    assert f"{mode:04o}" in problem.message
    assert repair(root).modes == 1
    assert list(check(root)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_owner_that_differs_is_found(take, root):
    """Somebody else's file in the store may vanish or change."""
    os.chown(root / "index.jsonl", 12345, -1)

    assert kinds(root) == ["owner"]


@pytest.mark.parametrize("part", ["lock", "blobs", "blobs/xx", "blobs/xx/h.wav", "index.jsonl.old", "quarantine"])
def test_a_symbolic_link_is_found_and_nothing_behind_it_changed(take, root, tmp_path, part):
    """Wherever it stands; a repair takes it out, or leaves it to the user where that would hide the store."""
    digest = take.content_hash
    path = root / part.replace("xx", digest[:2]).replace("h.wav", digest + ".wav")
    aside = tmp_path / "aside"
    if path.exists():
        path.rename(aside)
    else:
        aside.write_bytes(b"canary")
    before = aside.lstat()
    path.symlink_to(aside)

    assert "link" in kinds(root)
    if part in {"lock", "blobs", "quarantine"}:
        with pytest.raises(StoreError, match="symbolic link"):
            repair(root)
    else:
        assert repair(root).quarantined == 1
        assert set(kinds(root, full=True)) <= {"missing"}
    assert aside.lstat() == before


def test_an_index_that_is_a_symbolic_link_is_said(take, root, tmp_path):
    """It is told of, and then not followed."""
    (root / "index.jsonl").rename(tmp_path / "aside")
    (root / "index.jsonl").symlink_to(tmp_path / "aside")
    problems = check(root)

    assert next(problems).kind == "link"
    with pytest.raises(StoreError, match="symbolic link"):
        list(problems)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([head(), sealed({"op": "x-note"})[:-1]], ["tail"]),
        ([head(), put(name(1))[:50]], ["tail"]),
        ([b"\0" * 99], ["tail"]),
        ([sealed({"op": "x-first"})], ["head"]),
        ([head()[1:]], ["line"]),
        ([head(), b"\n", b"hello\n", sealed({"op": "x-note"})], ["line", "line"]),
        ([head(), head(gen="f" * 16)], ["head"]),
        ([head(), put(name(1)), put(name(1)), delete(name(1))], ["duplicate"]),
        ([head(), put(name(1)), tag(name(1), add=("a",)), put(name(1)), delete(name(1))], ["duplicate"]),
        ([head(), put(name(1)), delete(name(1)), put(name(1)), delete(name(1))], []),
        ([head(), tag(name(9), add=("a",)), delete(name(9)), sealed({"op": "x-new", "id": 7})], []),
    ],
)
def test_each_line_is_looked_at(by_hand, root, lines, found):
    """A flaw is told once; what is legal is not told."""
    by_hand(*lines)

    assert kinds(root) == found
    repair(root)
    assert kinds(root) == []


def test_a_problem_names_its_line(by_hand, root):
    """So that an editor can go there."""
    by_hand(head(), sealed({"op": "x-note"}), b"bad\n")

    (problem,) = check(root)

    assert (problem.where, problem.message) == ("index.jsonl:3", "line 3 is damaged")


def test_what_a_newer_version_wrote_stops_the_check(by_hand, root):
    """Its lines may mean that what looks wrong is right."""
    by_hand(head(), sealed({"op": "link"}))

    with pytest.raises(NewerStoreError):
        list(check(root))


def test_audio_that_is_missing_or_of_another_size_is_found(store, root):
    """Without reading any of it."""
    first, second, third = (store.put(sound(seed), draft()) for seed in range(3))
    store.blob_path(first).unlink()
    store.blob_path(second).chmod(0o600)
    store.blob_path(second).write_bytes(b"RIFF")
    store.blob_path(second).chmod(0o400)
    store.blob_path(third).unlink()
    store.remove([third.id])

    assert [(each.kind, each.where) for each in check(root)] == [("missing", first.id), ("size", second.id)]


def test_full_hashes_everything_again(store, take, root):
    """Audio that no take names included."""
    store.remove([take.id])
    path = store.blob_path(take)
    path.chmod(0o600)
    path.write_bytes(sound(1))
    path.chmod(0o400)

    assert kinds(root) == []
    (problem,) = check(root, full=True)
    assert (problem.kind, problem.where) == ("audio", path.relative_to(root).as_posix())


def test_a_sector_that_cannot_be_read_does_not_stop_the_check(store, root, monkeypatch):
    """The others are still looked at."""
    first, second = (store.put(sound(seed), draft()) for seed in range(2))
    broken = {store.blob_path(first), store.blob_path(second)}
    real = os.open

    def fail(path, *args, **kwargs):
        if path in broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", fail)

    assert kinds(root, full=True) == ["audio", "audio"]


def test_it_changes_nothing(store, take, root):
    """Not one byte, name or mode, whatever it finds."""
    with (root / "index.jsonl").open("ab") as file:
        file.write(b"torn")
    before = {path: (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in root.rglob("*")}

    assert kinds(root, full=True) == ["tail"]
    assert {path: (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in root.rglob("*")} == before


# A small store in which everything occurs, as bytes; each example damages a copy of it.
A, B, C = ("artifact_" + Digest.of(sound(seed)).short for seed in range(3))
HASHES = [Digest.of(sound(seed)).hex for seed in range(3)]
BLOBS = {digest: sound(seed) for seed, digest in enumerate(HASHES)}
LINES = [
    head(),
    put(A, content_hash=HASHES[0], bytes=len(sound()), prompt="é { [verse] }", later={"op": "put"}),
    put(B, content_hash=HASHES[1], bytes=len(sound())),
    tag(A, add=("calm", "ü"), rm=("type:audio",)),
    sealed({"op": "x-note", "id": A}),
    delete(B),
    put(B, content_hash=HASHES[1], bytes=len(sound()), tags=["back"]),
    put(A + "-2", content_hash=HASHES[0], bytes=len(sound()), parent_id=A),
    put(C, content_hash=HASHES[2], bytes=len(sound())),
    delete(C),
    tag(A + "-2", add=("calm",)),
]
INDEX = b"".join(LINES)
PROMPTS = {A: "é { [verse] }", **{each: f"the prompt of {each}" for each in (B, A + "-2", C)}}


def spoiled(draw_at: float, how: str, size: int, junk: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return damaged bytes, and those of the original that were hit."""
    at = int(draw_at * (len(data) - 1))
    hit = data[at : at + size]
    match how:
        case "flip":
            hit = hit[:1]
            new = bytes([hit[0] ^ (1 + junk[0] % 255)])
        case "zero":
            new = bytes(len(hit))
        case "cut":
            new = b""
        case "end":
            hit, new = data[at:], b""
        case "insert":
            hit, new = b"", junk
        case _:
            new = hit + hit
            return data[:at] + new + data[at + len(hit) :], b""
    return data[:at] + new + data[at + len(hit) :], hit


def fold_by_search(data: bytes) -> dict[str, tuple[str, ...]]:
    """Say what is live, with its tags, after those lines of the store above that stand anywhere in `data`."""
    found = []
    for line in LINES[1:]:
        at = data.find(line[:-1])
        while at >= 0:
            found.append((at, line))
            at = data.find(line[:-1], at + 1)
    live: dict[str, tuple[str, ...]] = {}
    for _, line in sorted(found):
        each = line.split(b'"')[7].decode()
        if line.startswith(b"{") and b'"put"' in line[:12]:
            live.pop(each, None)
            live[each] = ("back",) if b'["back"]' in line else ("type:audio",)
        elif line.startswith(b'\t{"op":"del"'):
            live.pop(each, None)
        elif each in live and line.startswith(b"\t"):
            live[each] = ("calm", "ü") if each == A else ("type:audio", "calm")
    return live


def write_store(root: Path, index: bytes, blobs: dict[str, bytes]) -> None:
    (root / "blobs").mkdir(mode=0o700)
    for digest, data in blobs.items():
        (root / "blobs" / digest[:2]).mkdir(mode=0o700, exist_ok=True)
        path = root / "blobs" / digest[:2] / f"{digest}.wav"
        path.write_bytes(data)
        path.chmod(0o400)
    (root / "index.jsonl").write_bytes(index)
    (root / "index.jsonl").chmod(0o600)


@settings(deadline=None, max_examples=400)
@given(
    where=st.floats(0, 1),
    how=st.sampled_from(["flip", "flip", "zero", "cut", "end", "insert", "double"]),
    size=st.integers(1, 700),
    junk=st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"\n", b"\t", b'"}', b'{"op":"', LINES[2]])),
)
def test_a_rotten_index_never_gives_wrong_data_and_is_repaired(where, how, size, junk):
    """Flipped, zeroed, cut, doubled or with junk: lines are lost only where it was hit, and every change is found."""
    data, hit = spoiled(where, how, size, junk, INDEX)
    whole = set(data.split(b"\n")[:-1])
    assert sum(line[:-1] not in whole for line in LINES) <= 1 + hit.count(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, data, BLOBS)

        listed = list(Store(root, warn=lambda _: None).newest(None))
        for take in listed:
            assert take.prompt == PROMPTS[take.id]
            assert set(take.tags) <= {"type:audio", "calm", "ü", "back"}
            assert Store(root).read_blob(take) == BLOBS[take.content_hash]

        problems = list(check(root))
        is_strange = not data.endswith(b"\n") or not whole <= {line[:-1] for line in LINES}
        if data and is_strange:
            assert problems

        done = repair(root)
        (root / "lock").unlink(missing_ok=True)
        assert list(check(root, full=True)) == []
        now = {take.id: take.tags for take in Store(root).newest(None)}
        assert now == fold_by_search(data)
        assert done.index_rewritten == bool(problems)
        if problems:
            assert (root / "index.jsonl.old").read_bytes() == data


@settings(deadline=None, max_examples=100)
@given(
    which=st.sampled_from(HASHES),
    where=st.floats(0, 1),
    how=st.sampled_from(["flip", "flip", "zero", "cut", "end", "insert", "double"]),
    size=st.integers(1, 200),
    junk=st.binary(min_size=1, max_size=40),
)
def test_rotten_audio_is_never_given_and_every_change_is_found(which, where, how, size, junk):
    """It goes to quarantine as it is, and only the same audio stored again heals its takes."""
    data, _ = spoiled(where, how, size, junk, BLOBS[which])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_store(root, INDEX, BLOBS | {which: data})
        named = {A, A + "-2", B} & {take.id for take in Store(root).newest(None) if take.content_hash == which}

        found = [problem.kind for problem in check(root, full=True)]
        assert found == (["audio"] if data != BLOBS[which] else [])
        done = repair(root)
        (root / "lock").unlink(missing_ok=True)

        assert (done.quarantined, done.missing) == ((1, len(named)) if found else (0, 0))
        problems = list(check(root, full=True))
        assert {problem.where for problem in problems} == (named if found else set())
        assert {problem.kind for problem in problems} <= {"missing"}
        if found:
            assert [path.read_bytes() for path in (root / "quarantine").iterdir()] == [data]
            Store(root).put(BLOBS[which], draft())
            (root / "lock").unlink()
            assert list(check(root, full=True)) == []

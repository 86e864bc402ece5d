from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from musicgen_cli.store import Store
from musicgen_cli.store.check import check
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.maintenance import Repair, repair
from tests.support.index_lines import (
    WriteIndex,
    delete,
    draft,
    head,
    lines_of,
    name,
    put,
    put_record,
    sealed,
    sound,
    tag,
)
from tests.support.other_processes import before_next_lock
from tests.support.store_files import contents

A, B = name(0xA), name(0xB)


def joined_without_lf(*lines: bytes, by: bytes = b"") -> bytes:
    return by.join(line.removesuffix(b"\n") for line in lines) + b"\n"


@pytest.mark.parametrize("by", [b"", b" ", b"\0\0", b"}", b"\t", b'{"op":"put"', b'"crc":"00000000"}'])
def test_lines_joined_without_an_lf_are_separated(index: WriteIndex, root: Path, store: Store, by: bytes) -> None:
    """No line is lost, whether it is an edit or not, and whatever bytes are in the place of the LF."""
    path = index(
        head(), joined_without_lf(put(A)[20:], put(A), put(B), tag(A, add=("x",)), delete(B), put(name(1)), by=by)
    )
    before = path.read_bytes()

    result = repair(root)

    assert (result.bad_lines, result.salvaged, result.index_rewritten) == (1, 5, True)
    assert [take.id for take in store.newest(None)] == [name(1), A]
    assert store.get(A).tags == ("type:audio", "x")
    assert lines_of(root)[1:] == [put(A, tags=["type:audio", "x"]), put(name(1))]
    (quarantined,) = (root / "quarantine").iterdir()
    assert quarantined.read_bytes() == before.splitlines(keepends=True)[1]
    assert (root / "index.jsonl.old").read_bytes() == before


def test_a_line_that_contains_the_start_of_another_is_salvaged_whole(
    index: WriteIndex, root: Path, store: Store
) -> None:
    """The `{"op":"` of a value is not the start of a line."""
    index(head(), b"junk" + put(A, extra={"a": {"op": "put", "id": B}}))

    repair(root)

    assert lines_of(root)[1:] == [put(A, extra={"a": {"op": "put", "id": B}})]


def test_a_complete_last_line_without_its_lf_is_kept(index: WriteIndex, root: Path, store: Store) -> None:
    """Only a torn line is moved to quarantine."""
    index(head(), put(A), put(B)[:-1])

    result = repair(root)

    assert [take.id for take in store.newest(None)] == [B, A]
    assert (result.bad_lines, result.index_rewritten) == (0, True)
    assert not (root / "quarantine").exists()


def test_of_two_artifacts_with_one_id_the_last_is_kept(index: WriteIndex, root: Path, store: Store) -> None:
    """It is the one that `show` has displayed; the line of the other one is moved to quarantine."""
    index(head(), put(A, prompt="first"), tag(A, add=("x",)), put(A, prompt="last"))

    assert repair(root).repeated_ids == 1

    assert [(take.prompt, take.tags) for take in store.newest(None)] == [("last", ("type:audio",))]
    (quarantined,) = (root / "quarantine").iterdir()
    assert quarantined.read_bytes() == put(A, prompt="first")


def test_a_repair_of_an_intact_store_changes_nothing(store: Store, root: Path) -> None:
    """All bytes, modes and times stay the same."""
    store.put(sound(), draft())
    lock = (root / "lock").stat().st_mtime_ns
    before = contents(root)

    assert repair(root, adopt=True) == Repair(True)

    os.utime(root / "lock", ns=(lock, lock))
    assert contents(root) == before


def test_quarantine_never_overwrites_a_file(store: Store, root: Path) -> None:
    """The same audio and the same line, damaged again and again, get another name each time."""
    take = store.put(sound(), draft())
    expected: set[bytes] = set()
    for number in range(3):
        path = store.blob_path(take)
        path.chmod(0o600)
        path.write_bytes(b"%d" % number)
        with (root / "index.jsonl").open("ab") as file:
            file.write(b"bad %d\n" % number)
        expected |= {b"%d" % number, b"bad %d\n" % number}

        result = repair(root)

        assert (result.quarantined, result.bad_lines, result.missing) == (1, 1, number + 1)
        assert {problem.kind for problem in check(root)} == {"missing"}
        store.put(sound(), draft())
        assert {path.read_bytes() for path in (root / "quarantine").iterdir()} == expected
    assert stat.S_IMODE((root / "quarantine").stat().st_mode) == 0o700


def test_audio_repaired_while_waiting_for_the_lock_is_not_moved(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hashed again under the lock."""
    take = store.put(sound(), draft())
    path = store.blob_path(take)
    path.chmod(0o600)
    path.write_bytes(b"rotten")

    def store_again() -> None:
        path.write_bytes(sound())
        path.chmod(0o400)

    before_next_lock(monkeypatch, store_again)

    assert repair(root).quarantined == 0
    assert store.read_blob(take) == sound()


def test_a_write_in_progress_is_not_damage(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete last line is read again under the lock."""
    take = store.put(sound(), draft())
    path = root / "index.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    before_next_lock(monkeypatch, lambda: path.write_bytes(whole))

    assert not repair(root).index_rewritten
    assert store.get("last") == take


def test_audio_without_a_take_is_adopted_on_request(store: Store, root: Path) -> None:
    """The take is tagged and has no prompt; a blob that is no WAV, or whose take was removed, is not adopted."""
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
    assert repair(root, adopt=True).adopted == 1  # its removal is no longer in the rewritten index
    assert repair(root, adopt=True).adopted == 0


def test_a_store_that_lost_its_index_is_adopted_completely(store: Store, root: Path) -> None:
    """All audio is listed again, with its first ids."""
    ids = {store.put(sound(seed), draft()).id for seed in range(20)}
    (root / "index.jsonl").unlink()

    assert repair(root, adopt=True).adopted == 20

    assert {take.id for take in store.newest(None)} == ids
    assert list(check(root, full=True)) == []


def test_an_adopted_take_gets_an_unused_id(store: Store, root: Path) -> None:
    """Other ids may have the same twelve digits."""
    take = store.put(sound(), draft())
    lines = [head(), put(take.id), sealed(put_record(take.id + "-2")), delete(take.id + "-2")]
    (root / "index.jsonl").write_bytes(b"".join(lines))

    repair(root, adopt=True)

    assert store.get("last").id == take.id + "-3"

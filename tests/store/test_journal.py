from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import zlib
from datetime import UTC, datetime, timedelta, timezone

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.errors import NewerStoreError, StoreBusyError, StoreError
from musicgen_cli.store import lines, lock
from musicgen_cli.store.journal import BACKWARD, FORWARD, Journal
from musicgen_cli.store.lines import decode, encode, timestamp
from tests.support.index_lines import T, delete, draft, head, name, put, put_record, sealed, sound, tag

LINES = {"head": head(), "put": put(), "tag": tag(name(10), add=("é",)), "del": delete(name(10))}
SETTINGS = settings(deadline=None, max_examples=300)


def nothing(kind: str, line: str) -> None:
    raise AssertionError(line)


def test_lines_have_these_very_bytes():
    """The format is compact JSON in UTF-8, the checksum last; a line that changes another starts with a TAB."""
    assert encode({"op": "x-note", "text": 'é "\n'}) == b'{"op":"x-note","text":"\xc3\xa9 \\"\\n","crc":"d40e0029"}\n'
    assert encode({"op": "del", "id": name(10), "at": 7, "t": T}) == delete(name(10), at=7)
    assert delete(name(10)).startswith(b'\t{"op":"del","id":"artifact_00000000000a","at":0,')


def test_the_checksum_is_the_crc_of_all_before_it():
    """Anybody can check a line with nothing but CRC-32."""
    line = encode(put_record(prompt="ü"))

    assert line.endswith(b',"crc":"%08x"}\n' % zlib.crc32(line[:-19]))


@pytest.mark.parametrize("op", LINES)
def test_a_line_made_by_hand_reads_as_ours_do(op):
    """What we write and what the format says are the same bytes."""
    line = LINES[op]
    record = decode(line[:-1])

    assert record is not None
    assert encode({key: value for key, value in record.items() if key != "crc"}) == line


def test_times_are_utc_with_milliseconds():
    """Microseconds are cut, other zones converted."""
    moment = datetime(2026, 11, 22, 1, 2, 3, 456_999, timezone(timedelta(hours=2)))

    assert timestamp(moment) == "2026-11-21T23:02:03.456Z"
    assert timestamp(datetime(2026, 11, 22, tzinfo=UTC)) == "2026-11-22T00:00:00.000Z"


def test_a_new_index_starts_with_a_head(store, root):
    """The first line names the format and its version, and a random generation."""
    store.put(sound(), draft())

    first = (root / "index.jsonl").read_bytes().splitlines(keepends=True)[0]
    members = json.loads(first)

    assert first == head(gen=members["gen"], created=members["created"])
    assert len(members["gen"]) == 16
    assert members["gen"] != "0123456789abcdef"


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not on this machine")
def test_jq_reads_every_line(store, root, index):
    """The index is plain JSON Lines to other tools, edits with their TAB included."""
    store.put(sound(), draft("é\u2028 \x00 \x7f 🎵 [verse]"))
    with (root / "index.jsonl").open("ab") as file:
        file.write(tag(name(1), add=("é",)) + delete(name(1)) + sealed({"op": "x-later"}))

    done = subprocess.run(["jq", "-c", ".op", root / "index.jsonl"], capture_output=True, check=True)

    assert done.stdout.split() == [b'"head"', b'"put"', b'"tag"', b'"del"', b'"x-later"']


def without(member: str, **changes: object) -> bytes:
    record = put_record(**changes)
    del record[member]
    return sealed(record)


NOT_UTF8 = put()[:-19].replace(b"the prompt", b"\xff\xfe")

BAD = {
    "empty": b"\n",
    "not JSON": b"hello\n",
    "no checksum": json.dumps(put_record()).encode() + b"\n",
    "checksum in upper case": put()[:-11] + put()[-11:-3].upper() + b'"}\n',
    "wrong checksum": put()[:-11] + b"00000000" + b'"}\n',
    "blank at the end": put()[:-1] + b" \n",
    "CR before LF": put()[:-1] + b"\r\n",
    "cut at the start": put()[1:],
    "cut at the end": put()[:-2] + b"\n",
    "two in one": put()[:-1] + put("artifact_00000000000b"),
    "array": b'[1,"crc":"%08x"}\n' % zlib.crc32(b"[1"),
    "no op": sealed({"id": name(10)}),
    "op is a number": sealed({"op": 1}),
    "put with a TAB": sealed(put_record(), "\t"),
    "tag without a TAB": sealed({"op": "tag", "id": name(10), "at": 0, "t": T, "add": ["bad"], "rm": []}),
    "too long": put(prompt="x" * 65_536),
    "not UTF-8": NOT_UTF8 + b',"crc":"%08x"}\n' % zlib.crc32(NOT_UTF8),
    "NaN": sealed(put_record(duration=float("nan"))),
    "head of another format": head(format="other"),
    "head without a generation": head(gen="xyz"),
    "id of another form": put("artifact_XYZ"),
    "id that is a path": put("../../../etc/passwd"),
    "hash that is a path": put(content_hash="../" * 20 + "etc/"),
    "tags of numbers": put(tags=[1]),
    "bytes as text": put(bytes="172"),
    "bytes as truth": put(bytes=True),
    "frames as a fraction": put(frames=64.0),
    "prompt that is null": put(prompt=None),
    "seed as text": put(seed="7"),
    "parent as a number": put(parent_id=7),
    "extra as a list": put(extra=[]),
    **{f"without {member}": without(member) for member in put_record() if member != "op"},
    "tag without rm": sealed({"op": "tag", "id": name(10), "at": 0, "t": T, "add": []}, "\t"),
    "tag of numbers": sealed({"op": "tag", "id": name(10), "at": 0, "t": T, "add": [1], "rm": []}, "\t"),
    "del without at": sealed({"op": "del", "id": name(10), "t": T}, "\t"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_skipped_counted_and_mentioned_once(kind, store, index, warnings, root):
    """Its neighbours are read as if it weren't there."""
    path = index(head(), put(name(1)), BAD[kind], put(name(2)))

    assert decode(BAD[kind][:-1]) is None
    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(1)).id == name(1)
    assert store.stats().bad_lines == 1
    assert store.stats().lines == 4
    assert warnings == [f"skipped 1 damaged line in {str(path)!r}"]


def test_nesting_beyond_the_readers_limit_is_bad():
    """A bomb of brackets is a bad line, not a crash."""
    record = json.dumps(put_record(params={"x": 0}), separators=(",", ":"))
    body = record.replace('{"x":0}', '{"x":' * 10_000 + "0" + "}" * 10_000).encode()[:-1]

    assert decode(body + b',"crc":"%08x"}' % zlib.crc32(body)) is None


@pytest.mark.parametrize("op", LINES)
def test_no_flipped_bit_goes_unseen(op):
    """Every bit of every kind of line is covered by the checksum."""
    line = bytearray(LINES[op][:-1])
    for at in range(len(line)):
        for bit in range(8):
            line[at] ^= 1 << bit
            assert decode(bytes(line)) is None
            line[at] ^= 1 << bit


@SETTINGS
@given(data=st.data())
def test_damage_never_makes_another_record(data):
    """Whatever bytes are replaced, inserted or removed: a record comes out as it went in, or not at all."""
    whole = [head(), *(put(name(i), tags=[f"t{i}"]) for i in range(4)), tag(name(1), add=("new",)), delete(name(3))]
    text = b"".join(whole)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    damaged = text[:start] + data.draw(st.binary(max_size=40)) + text[stop:]

    good = [line for line in damaged.split(b"\n") if decode(line) is not None]

    assert all(line + b"\n" in whole for line in good)
    touched = text[start:stop].count(b"\n") + 1
    assert len(good) >= len(whole) - touched - 1


def test_a_bad_first_line_is_one_more_bad_line(store, index, warnings):
    """Version 1 is assumed; reading and writing go on."""
    index(head()[:-5] + b"\n", put(name(1)))

    added = store.put(sound(), draft())

    assert [artifact.id for artifact in store.newest(None)] == [added.id, name(1)]
    assert store.stats().bad_lines == 1
    assert len(warnings) == 1


def test_an_index_without_a_head_loses_no_line(store, index, warnings):
    """A first line that is a good put is read like any other."""
    index(put(name(1)), put(name(2)))

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(1)).id == name(1)
    assert store.stats().lines == 2
    assert not warnings


@pytest.mark.parametrize(
    "line",
    [head(version=2), head(version=2, more="x"), sealed({"op": "link", "id": name(1)}), sealed({"op": "zap"}, "\t")],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_a_newer_version_wrote_stops_reading_and_writing(line, first, store, index, root):
    """An unknown op or a higher version is an error, and nothing is written."""
    path = index(*([line] if first else [head(), put(name(1)), line]), put(name(2)))
    before = path.read_bytes()

    for doing in (
        lambda: list(store.newest(None)),
        lambda: store.put(sound(), draft()),
        store.stats,
    ):
        with pytest.raises(NewerStoreError) as caught:
            doing()
        assert "newer version" in str(caught.value)
        assert caught.value.hint

    assert path.read_bytes() == before
    assert not list((root / "blobs").iterdir())


def test_a_newer_version_that_comes_while_we_wait_stops_us(root, index):
    """The head is looked at again under the lock."""
    index(head(version=2))

    with pytest.raises(NewerStoreError), Journal(root, nothing).appending():
        pass


def test_an_unknown_op_deep_in_the_index_stops_writing(store, index):
    """All that was there is looked at, also between thousands of puts and edits."""
    many = [put(name(i)) for i in range(3000)] + [tag(name(3), add=("t",)) for _ in range(50)]
    path = index(head(), *many, sealed({"op": "link"}), *many)
    before = path.stat().st_size
    assert before > 2 * FORWARD

    with pytest.raises(NewerStoreError):
        store.put(sound(), draft())

    assert path.stat().st_size == before


def test_an_op_that_starts_with_x_is_ignored(store, index, warnings):
    """Such lines may hold anything, with or without a TAB."""
    index(
        head(),
        put(name(1)),
        sealed({"op": "x-a", "id": name(1)}, "\t"),
        sealed({"op": "x-b", "id": [1], "tags": 7}),
        sealed({"op": "x-"}),
    )

    assert store.get(name(1)).id == name(1)
    assert [artifact.id for artifact in store.newest(None)] == [name(1)]
    assert store.put(sound(), draft()) == store.get("last")
    assert store.stats().bad_lines == 0
    assert not warnings


def test_a_later_head_changes_nothing(store, index):
    """Only the first line is the head; another one is read and passed over."""
    index(head(), put(name(1)), head(gen="f" * 16), put(name(2)))

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.stats().bad_lines == 0


@pytest.mark.parametrize(
    "tail", [put(name(3))[:-1], put(name(3))[:50], b"{", b"\0" * 100, tag(name(2), add=("t",))[:-1]]
)
def test_a_torn_tail_is_silent_to_readers_and_sealed_by_the_next_writer(tail, store, index, warnings):
    """Bytes after the last LF may be a write under way; nothing of them is cut away."""
    path = index(head(), put(name(1)), put(name(2)), tail)
    before = path.read_bytes()

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(2)).tags == ("type:audio",)
    assert store.stats().bad_lines == 0
    assert not warnings
    assert path.read_bytes() == before

    added = store.put(sound(), draft())

    after = path.read_bytes()
    assert after.startswith(before + b"\n{")
    assert after.count(b"\n") == before.count(b"\n") + 2
    assert store.newest(None).__next__() == added


def test_a_torn_first_line_is_sealed_too(store, index):
    """An index that holds nothing but half a head takes artifacts, and counts one bad line."""
    index(head()[:40])

    added = store.put(sound(), draft())

    assert [artifact.id for artifact in store.newest(None)] == [added.id]
    assert store.stats().bad_lines == 1


@pytest.mark.parametrize("length", [65_536, 200_000, 3 * FORWARD])
def test_a_monster_of_a_line_costs_only_itself(length, store, index):
    """A run of NULs, as a crash can leave it, hides no neighbour from any reader."""
    index(head(), put(name(1)), tag(name(1), add=("t",)), b"\0" * length + b"\n", put(name(2)))

    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(1)).tags == ("type:audio", "t")
    assert store.put(sound(), draft()) == store.get("last")
    assert store.stats().bad_lines == 1


def test_the_end_of_a_monster_is_no_line_of_its_own(store, index):
    """A line that is too long stays bad, even if its last block alone would pass for a good line."""
    longest = put(name(2), prompt="x" * (BACKWARD - len(put(name(2), prompt=""))))
    index(head(), put(name(1)), b"x" * BACKWARD + longest)
    assert len(longest) == BACKWARD == 65_536
    assert decode(longest[:-1]) is not None

    assert [artifact.id for artifact in store.newest(None)] == [name(1)]
    assert store.stats().bad_lines == 1


@pytest.mark.parametrize("block", [FORWARD, BACKWARD])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_lines_that_meet_the_edge_of_a_block_are_whole(block, off, store, index):
    """A block boundary before, on or after an LF makes no difference, from either side."""
    first, last = put(name(1)), put(name(3))
    room = block + off - len(first) - len(head()) if block == FORWARD else block + off - len(last)
    filler = b"".join(put(name(i + 100)) for i in range(room // len(first) - 1))
    rest = room - len(filler) - len(put(name(2), prompt=""))
    index(head(), first, filler, put(name(2), prompt="x" * rest), last)

    names = [artifact.id for artifact in store.newest(None)]

    assert names[0] == name(3)
    assert names[1] == name(2)
    assert names[-1] == name(1)
    assert len(names) == 3 + filler.count(b"\n")
    assert [store.get(name(i)).id for i in (1, 2, 3)] == [name(1), name(2), name(3)]


def test_readers_see_no_further_than_the_index_went_when_they_opened_it(store, index):
    """What is appended in the middle of a listing waits for the next one."""
    path = index(head(), *(put(name(i)) for i in range(1, 1000)))
    listing = store.newest(None)
    next(listing)

    with path.open("ab") as file:
        file.write(delete(name(1)) + put(name(2000)))

    assert len(list(listing)) == 998


def test_a_write_that_comes_short_is_taken_back(store, index, root, monkeypatch):
    """Half a line is cut away again, and the command fails."""
    path = index(head(), put(name(1)))
    before = path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:30] if data[:5] == b'{"op"' else data))

    with pytest.raises(StoreError, match="only 30 of") as caught:
        store.put(sound(), draft())

    assert path.read_bytes() == before
    assert caught.value.hint


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_line_that_does_not_reach_the_disk_is_taken_back(code, store, index, root, monkeypatch):
    """A failed fsync is not tried again, and leaves no artifact."""
    path = index(head(), put(name(1)))
    before = path.read_bytes()
    fsync, calls = os.fsync, []

    def fail(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), path.stat()):
            calls.append(fd)
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreError, match=os.strerror(code).lower()):
        store.put(sound(), draft())

    assert len(calls) == 1
    assert path.read_bytes() == before


def test_what_another_writer_added_is_never_cut_away(store, index, root, monkeypatch):
    """If somebody got past the lock behind our failed write, our bytes stay and his are safe."""
    path = index(head(), put(name(1)))
    theirs = put(name(2))
    fsync = os.fsync

    def fail(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), path.stat()):
            with path.open("ab") as file:
                file.write(theirs)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreError):
        store.put(sound(), draft())

    assert path.read_bytes().endswith(theirs)
    assert store.get(name(2)).id == name(2)


def test_a_lock_that_locks_nobody_out_is_noticed(store, index, root, warnings, monkeypatch):
    """A line that lands behind somebody else's is good, and the user is told once."""
    path = index(head(), put(name(1)))
    write = os.write

    def intrude(fd: int, data: bytes) -> int:
        if os.path.samestat(os.fstat(fd), path.stat()):
            with path.open("ab") as file:
                file.write(put(name(path.stat().st_size)))
        return write(fd, data)

    monkeypatch.setattr(os, "write", intrude)

    added = [store.put(sound(i), draft()).id for i in range(2)]

    assert set(added) <= {artifact.id for artifact in store.newest(None)}
    assert len(warnings) == 1
    assert "in spite of its lock" in warnings[0]


def test_several_lines_go_in_with_one_write(root, index, monkeypatch):
    """What is appended together is one write under one lock."""
    path = index(head(), put(name(1)))
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (writes.append(bytes(data)), write(fd, data))[1])

    with Journal(root, nothing).appending() as tail:
        tail.append([put(name(2)), tag(name(1), add=("t",))])

    assert writes == [put(name(2)) + tag(name(1), add=("t",))]
    assert path.read_bytes().endswith(writes[0])


def test_a_store_locked_for_too_long_is_busy(store, index, root, monkeypatch):
    """The error invites to try again; nothing is appended."""
    path = index(head())
    before = path.read_bytes()
    monkeypatch.setattr(lock, "LOCK_S", 0.05)

    with filelock.FileLock(root / "lock"), pytest.raises(StoreBusyError) as caught:
        store.put(sound(), draft())

    assert caught.value.exit_code == 5
    assert caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(code, store, index, monkeypatch):
    """There is no soft lock to fall back on: the error names another place for the store."""
    path = index(head())

    def refuse(fd: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(StoreError, match="has no locks") as caught:
        store.put(sound(), draft())

    assert "--store" in str(caught.value.hint)
    assert path.read_bytes() == head()


def test_the_lock_file_is_made_once_and_stays(store, root):
    """It is empty, ours alone, and the same file for every writer."""
    store.put(sound(), draft())
    before = (root / "lock").stat()

    store.put(sound(1), draft())

    after = (root / "lock").stat()
    assert (before.st_ino, 0, 0o100600) == (after.st_ino, after.st_size, after.st_mode)


DEEP = '{"a":' * 500 + "1" + "}" * 500


@pytest.mark.parametrize("parsed_before", [0, 10**6])
@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '"\\u0041"', "NaN", "-Infinity", "1e999", DEEP, "[" * 99 + "]" * 99, '"\ufeff"', "9" * 30, "0.1"],
)
def test_both_readers_accept_the_same(monkeypatch, parsed_before, text):
    """Whether a line is one of the first that a process reads makes no difference to what it says."""
    body = put()[:-19] + f',"new":{text}'.encode()
    line = body + b',"crc":"%08x"}' % zlib.crc32(body)
    monkeypatch.setattr(lines, "_lines_parsed", parsed_before)
    here = decode(line)
    monkeypatch.setattr(lines, "_lines_parsed", 10**6)

    assert here == decode(line)
    assert (here is None) == (text in {'"\\ud800"', "NaN", "-Infinity", DEEP})

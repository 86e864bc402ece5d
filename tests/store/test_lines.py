from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicgen_cli.store import Store
from musicgen_cli.store.lines import decode, encode, timestamp
from tests.support.index_lines import TIME, WriteIndex, delete, head, name, put, put_record, sealed, tag
from tests.support.other_processes import finish, start_python

LINES = {"head": head(), "put": put(), "tag": tag(name(10), add=("é",)), "del": delete(name(10))}


def test_lines_are_encoded_to_exactly_these_bytes() -> None:
    """A line is compact JSON in UTF-8, the checksum last; one that changes another line starts with a TAB."""
    assert encode({"op": "x-note", "text": 'é "\n'}) == b'{"op":"x-note","text":"\xc3\xa9 \\"\\n","crc":"d40e0029"}\n'
    assert encode({"op": "del", "id": name(10), "at": 7, "t": TIME}) == delete(name(10), at=7)
    assert delete(name(10)).startswith(b'\t{"op":"del","id":"artifact_00000000000a","at":0,')


def test_the_checksum_is_the_crc_of_all_bytes_before_it() -> None:
    """Any program can check a line with CRC-32."""
    line = encode(put_record(prompt="ü"))

    assert line.endswith(b',"crc":"%08x"}\n' % zlib.crc32(line[:-19]))


@pytest.mark.parametrize("op", LINES)
def test_a_line_made_by_hand_is_decoded_and_encoded_to_the_same_bytes(op: str) -> None:
    """The lines that the package writes are those that the format defines."""
    line = LINES[op]
    record = decode(line[:-1])

    assert record is not None
    assert encode({key: value for key, value in record.items() if key != "crc"}) == line


def test_times_are_utc_with_milliseconds() -> None:
    """Microseconds are cut, and other time zones are converted."""
    moment = datetime(2026, 11, 22, 1, 2, 3, 456_999, timezone(timedelta(hours=2)))

    assert timestamp(moment) == "2026-11-21T23:02:03.456Z"
    assert timestamp(datetime(2026, 11, 22, tzinfo=UTC)) == "2026-11-22T00:00:00.000Z"


def without(member: str) -> bytes:
    record = put_record()
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
    "tag without a TAB": sealed({"op": "tag", "id": name(10), "at": 0, "t": TIME, "add": ["bad"], "rm": []}),
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
    "bytes as a boolean": put(bytes=True),
    "frames as a fraction": put(frames=64.0),
    "prompt that is null": put(prompt=None),
    "seed as text": put(seed="7"),
    "parent as a number": put(parent_id=7),
    "extra as a list": put(extra=[]),
    **{f"without {member}": without(member) for member in put_record() if member != "op"},
    "tag without rm": sealed({"op": "tag", "id": name(10), "at": 0, "t": TIME, "add": []}, "\t"),
    "tag of numbers": sealed({"op": "tag", "id": name(10), "at": 0, "t": TIME, "add": [1], "rm": []}, "\t"),
    "del without at": sealed({"op": "del", "id": name(10), "t": TIME}, "\t"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_skipped_counted_and_warned_of_once(
    kind: str, store: Store, index: WriteIndex, warnings: list[str]
) -> None:
    """The lines before and after it are read as if it were absent."""
    path = index(head(), put(name(1)), BAD[kind], put(name(2)))

    assert decode(BAD[kind][:-1]) is None
    assert [artifact.id for artifact in store.newest(None)] == [name(2), name(1)]
    assert store.get(name(1)).id == name(1)
    assert store.stats().bad_lines == 1
    assert store.stats().lines == 4
    assert warnings == [f"skipped 1 damaged line in {str(path)!r}"]


def test_a_line_nested_too_deep_is_bad() -> None:
    """Ten thousand nested objects don't crash the reader."""
    record = json.dumps(put_record(params={"x": 0}), separators=(",", ":"))
    body = record.replace('{"x":0}', '{"x":' * 10_000 + "0" + "}" * 10_000).encode()[:-1]

    assert decode(body + b',"crc":"%08x"}' % zlib.crc32(body)) is None


@pytest.mark.parametrize("op", LINES)
def test_a_line_with_any_bit_flipped_is_bad(op: str) -> None:
    """The checksum covers every bit of every kind of line."""
    line = bytearray(LINES[op][:-1])
    for at in range(len(line)):
        for bit in range(8):
            line[at] ^= 1 << bit
            assert decode(bytes(line)) is None
            line[at] ^= 1 << bit


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damage_never_makes_another_record(data: st.DataObject) -> None:
    """When bytes are replaced, inserted or removed, each record is decoded as it was written, or not at all."""
    complete = [head(), *(put(name(i), tags=[f"t{i}"]) for i in range(4)), tag(name(1), add=("new",)), delete(name(3))]
    text = b"".join(complete)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 40)))
    damaged = text[:start] + data.draw(st.binary(max_size=40)) + text[stop:]

    good = [line for line in damaged.split(b"\n") if decode(line) is not None]

    assert all(line + b"\n" in complete for line in good)
    touched = text[start:stop].count(b"\n") + 1
    assert len(good) >= len(complete) - touched - 1


# Decodes lines, each with one JSON value of its argument, by each of the two parsers; prints for each value whether the
# parsers agree and whether the line is good.
BOTH_PARSERS = """
import json, sys, zlib
from musicgen_cli.store.lines import STDLIB_LINES, decode
from tests.support.index_lines import put
bodies = [put()[:-19] + f',"new":{text}'.encode() for text in json.loads(sys.argv[1])]
lines = [body + b',"crc":"%08x"}' % zlib.crc32(body) for body in bodies]
assert len(lines) < STDLIB_LINES
first = [decode(line) for line in lines]
for _ in range(STDLIB_LINES):
    assert decode(put()[:-1]) is not None
for line, record in zip(lines, first):
    print(decode(line) == record, record is not None)
"""
DEEP = '{"a":' * 500 + "1" + "}" * 500
REFUSED_JSON = ['"\\ud800"', "NaN", "-Infinity", DEEP]
ACCEPTED_JSON = ['"\\u0041"', "1e999", "[" * 99 + "]" * 99, '"\ufeff"', "9" * 30, "0.1"]


def test_both_json_parsers_accept_the_same_lines() -> None:
    """A line is decoded to the same record whether it is among the first that a process reads or not."""
    code, out, err = finish(start_python(BOTH_PARSERS, json.dumps(REFUSED_JSON + ACCEPTED_JSON)))

    assert (code, err) == (0, "")
    assert out.splitlines() == ["True False"] * len(REFUSED_JSON) + ["True True"] * len(ACCEPTED_JSON)

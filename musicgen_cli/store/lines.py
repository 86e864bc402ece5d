"""
The lines of the index: JSON objects with a checksum, as bytes and as records.

This module checks each line by itself; `index` and `fold` compute the state that all lines together describe.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from musicgen_cli.errors import InvalidValueError, NewerStoreError
from musicgen_cli.limits import LINE_BYTES, WAV_BYTES
from musicgen_cli.store.digest import is_id, is_sha256

Record = dict[str, Any]  # the JSON object of one line

FORMAT = "musicgen-index"
VERSION = 1
STDLIB_LINES = 4000  # the first lines that a process decodes, which it parses with the standard library

_CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_CRC_BYTES = 18
_SAFE_BRACKETS = 64  # a line with fewer opening brackets can't be nested too deep
_lines_parsed = 0
_GEN = re.compile(r"[0-9a-f]{16}")
_EDIT_OPS = ("tag", "del")  # their lines start with a TAB, so that a search for one byte finds all of them

_MEMBER_TYPES: dict[str, dict[str, tuple[type, ...]]] = {  # by op
    "head": dict.fromkeys(("format", "gen", "created"), (str,)) | {"version": (int,)},
    "put": dict.fromkeys(("id", "created", "content_hash", "mime", "prompt", "creator"), (str,))
    | dict.fromkeys(("bytes", "sample_rate", "channels", "frames"), (int,))
    | dict.fromkeys(("params", "origin"), (dict,))
    | {"tags": (list,), "duration": (int, float)},
    "tag": {"id": (str,), "at": (int,), "t": (str,), "add": (list,), "rm": (list,)},
    "del": {"id": (str,), "at": (int,), "t": (str,)},
}
_REQUIRED = {op: frozenset(types) for op, types in _MEMBER_TYPES.items()}
_MEMBER_TYPES["put"] |= (  # the optional members
    dict.fromkeys(("parent_id", "variation_set_id", "license", "fingerprint", "client_job_id"), (str, type(None)))
    | dict.fromkeys(("variation_index", "seed"), (int, type(None)))
    | dict.fromkeys(("requested_duration", "elapsed_s"), (int, float, type(None)))
    | {"extra": (dict, type(None))}
)

# Nearly all lines begin in one of these ways. The pattern for all others begins with the LF before the line, which is
# found many times faster than the start of a line is.
_USUAL_STARTS = (b'{"op":"put",', b'\t{"op":"tag",', b'\t{"op":"del",')
_UNUSUAL_START = re.compile(rb'\n(?!\{"op":"put",|\t\{"op":"(?:tag|del)",|\Z)')


def timestamp(moment: datetime) -> str:
    """Format an aware `datetime` as the index does: RFC 3339 in UTC, cut to milliseconds, with `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def encode(record: Record) -> bytes:
    """
    Encode one record as a line, with its checksum and LF.

    Raises:
        InvalidValueError: Readers would not accept the line: it is too long, or its values don't fit UTF-8, JSON or
            the types of the members.
    """
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = ("\t" * (record["op"] in _EDIT_OPS) + text[:-1]).encode()
    except (TypeError, ValueError, RecursionError) as err:
        raise InvalidValueError(f"the record can't be written as JSON: {_reason(err)}") from err
    line = body + b',"crc":"%08x"}\n' % zlib.crc32(body)
    if len(line) > LINE_BYTES:
        raise InvalidValueError(
            f"the record takes {len(line)} bytes, at most {LINE_BYTES} can be stored",
            hint="use a shorter prompt, or fewer tags and parameters",
        )
    if decode(line[:-1]) is None:
        raise InvalidValueError("the record has members of a wrong type, or is nested too deep")
    return line


def decode(line: bytes) -> Record | None:
    """
    Decode one line, given without its LF; return None if the line is bad.

    Raises:
        NewerStoreError: The line is good, but only a newer version knows what it means.
    """
    if len(line) >= LINE_BYTES:
        return None
    crc = _CRC.fullmatch(line, len(line) - _CRC_BYTES) if len(line) > _CRC_BYTES else None
    if crc is None or int(crc[1], 16) != zlib.crc32(memoryview(line)[:-_CRC_BYTES]):
        return None
    try:
        record = _parse(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(op := record.get("op"), str):
        return None
    if op.startswith("x-"):
        return record
    if op not in _MEMBER_TYPES or (op == "head" and _is_newer(record)):
        raise NewerStoreError(
            "the store was made by a newer version of musicgen", hint="update musicgen, or name another with --store"
        )
    is_edit = line.startswith(b"\t")
    return record if is_edit == (op in _EDIT_OPS) and _has_members(op, record) else None


def is_head(record: Record) -> bool:
    """Tell whether a decoded line is a good head line."""
    return bool(record["op"] == "head")


def new_head() -> bytes:
    """Encode the first line of an index, with a new random `gen`."""
    gen = os.urandom(8).hex()
    now = timestamp(datetime.now(UTC))
    return encode({"op": "head", "format": FORMAT, "version": VERSION, "gen": gen, "created": now})


def lines_holding(needle: bytes, block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a block that contain `needle` (an LF: all lines), without their LF, with their offsets."""
    index = block.find(needle)
    while index >= 0:
        start, stop = block.rfind(b"\n", 0, index) + 1, block.find(b"\n", index)
        if stop < 0:
            stop = len(block)
        yield start, block[start:stop]
        index = block.find(needle, stop + 1)


def refuse_unknown(block: bytes) -> None:
    """
    Check that this version knows the op of each good line in a block of whole lines.

    Lines that begin like a put, tag or del are not decoded.

    Raises:
        NewerStoreError: Only a newer version knows what a line means.
    """
    starts = [match.end() for match in _UNUSUAL_START.finditer(block)]
    for start in starts if block.startswith(_USUAL_STARTS) else [0, *starts]:
        stop = block.find(b"\n", start)
        decode(block[start : len(block) if stop < 0 else stop])


def _is_newer(head: Record) -> bool:
    version = head.get("version")
    return head.get("format") == FORMAT and type(version) is int and version > VERSION


def _has_members(op: str, record: Record) -> bool:
    if not _has_types(op, tuple(record), tuple(map(type, record.values()))):
        return False
    if op == "head":
        return record["format"] == FORMAT and record["version"] == VERSION and bool(_GEN.fullmatch(record["gen"]))
    if not is_id(record["id"]):
        return False
    if op == "put":
        return is_sha256(record["content_hash"]) and _are_strings(record["tags"]) and _are_in_range(record)
    return op == "del" or (_are_strings(record["add"]) and _are_strings(record["rm"]))


@lru_cache(maxsize=256)  # nearly all lines of an index have one of a few combinations
def _has_types(op: str, names: tuple[str, ...], types: tuple[type, ...]) -> bool:
    allowed = _MEMBER_TYPES[op]
    is_complete = _REQUIRED[op].issubset(names)
    return is_complete and all(  # compared exactly, so that a bool is not an int
        type_ in allowed[name] for name, type_ in zip(names, types, strict=True) if name in allowed
    )


def _are_in_range(put: Record) -> bool:
    """Tell whether the numbers that describe the sound can be numbers of a sound: 1e999 and 10**400 can't."""
    is_sound: bool = (
        0 <= put["bytes"] <= WAV_BYTES
        and 0 <= put["frames"] <= WAV_BYTES
        and 0 <= put["duration"] <= WAV_BYTES
        and 0 <= put["sample_rate"] <= WAV_BYTES
        and 0 <= put["channels"] <= WAV_BYTES
    )
    return is_sound


def _are_strings(values: list[Any]) -> bool:
    return all(type(value) is str for value in values)


def _reason(err: Exception) -> str:
    if isinstance(err, UnicodeEncodeError):
        return f"{err.object[err.start : err.end]!r} is not valid Unicode"
    return "it is nested too deep" if isinstance(err, RecursionError) else str(err).lower()


def _parse(line: bytes) -> Any:
    """
    Parse JSON with one of two parsers that accept the same.

    pydantic_core is nearly twice as fast as the standard library, but importing it takes as long as parsing many
    thousand lines, so the first lines of a process are parsed without it. It also rejects lone surrogates and deep
    nesting, so it always parses the lines that may contain either.
    """
    global _lines_parsed
    _lines_parsed += 1
    if _lines_parsed <= STDLIB_LINES and b"\\u" not in line and line.count(b"{") + line.count(b"[") < _SAFE_BRACKETS:
        return json.loads(line.decode(), parse_constant=_refuse)
    from pydantic_core import from_json

    return from_json(line, allow_inf_nan=False, cache_strings="keys")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")

"""Index lines made without the package's code, so that tests check the format itself; and WAVs to go with them."""

from __future__ import annotations

import binascii
import hashlib
import json
import struct
from pathlib import Path
from typing import Any, Protocol

from musicgen_cli.store import ArtifactDraft

TIME = "2026-11-22T10:00:00.000Z"


class WriteIndex(Protocol):
    """The fixture `index`: writes an index from lines, and returns its path."""

    def __call__(self, *lines: bytes) -> Path: ...


def sound(seed: int = 0, frames: int = 64) -> bytes:
    """Make a small WAV: mono, 16 bits, 32 kHz, other samples for each seed."""
    samples = struct.pack("<i", seed).ljust(2 * frames, b"\x01")
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 32000, 64000, 2, 16)
    data = b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(header) + len(data)) + header + data


def draft(prompt: str = "rain on a tin roof", tags: tuple[str, ...] = ("type:audio",), **more: Any) -> ArtifactDraft:
    """Make a draft; `more` are further members, or other values."""
    return ArtifactDraft(
        **{
            "tags": tags,
            "prompt": prompt,
            "params": {"duration": 1.0, "top_k": 250},
            "creator": "agent_musicgen",
            "origin": {"kind": "local", "model": "nano"},
        }
        | more
    )


def sealed(record: dict[str, Any], tab: str = "") -> bytes:
    """Make a line with checksum and LF, as the format defines it."""
    body = tab.encode() + json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    return body + f',"crc":"{binascii.crc32(body):08x}"}}\n'.encode()


def head(**changes: Any) -> bytes:
    """Make a head line."""
    return sealed(
        {"op": "head", "format": "musicgen-index", "version": 1, "gen": "0123456789abcdef", "created": TIME} | changes
    )


def put_record(name: str = "artifact_00000000000a", **changes: Any) -> dict[str, Any]:
    """Make the members of a `put` line, except for its checksum."""
    return {
        "op": "put",
        "id": name,
        "tags": ["type:audio"],
        "created": TIME,
        "content_hash": hashlib.sha256(name.encode()).hexdigest(),
        "bytes": 172,
        "mime": "audio/wav",
        "sample_rate": 32000,
        "channels": 1,
        "frames": 64,
        "duration": 0.002,
        "prompt": f"the prompt of {name}",
        "params": {"top_k": 250},
        "creator": "me",
        "origin": {"kind": "local", "model": "nano"},
    } | changes


def put(name: str = "artifact_00000000000a", **changes: Any) -> bytes:
    """Make a `put` line."""
    return sealed(put_record(name, **changes))


def tag(name: str, add: tuple[str, ...] = (), rm: tuple[str, ...] = (), at: int = 0) -> bytes:
    """Make a `tag` line."""
    return sealed({"op": "tag", "id": name, "at": at, "t": TIME, "add": [*add], "rm": [*rm]}, "\t")


def delete(name: str, at: int = 0) -> bytes:
    """Make a `del` line."""
    return sealed({"op": "del", "id": name, "at": at, "t": TIME}, "\t")


def name(number: int) -> str:
    """Make an artifact id."""
    return f"artifact_{number:012x}"


def lines_of(root: Path) -> list[bytes]:
    """Read the lines of a store's index, with their LF."""
    return (root / "index.jsonl").read_bytes().splitlines(keepends=True)


FLAWED_INDEXES = {
    "bad line": [head(), b"hello\n", put(name(0xA))],
    "bad head": [head()[1:], put(name(0xA))],
    "no head": [put(name(0xA))],
    "torn tail": [head(), put(name(0xA))[:60]],
    "complete line without its LF": [head(), put(name(0xA))[:-1]],
    "an id twice": [head(), put(name(0xA)), put(name(0xA), prompt="other")],
    "a second head": [head(), put(name(0xA)), head(gen="f" * 16)],
}

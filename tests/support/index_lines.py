"""Index lines made by hand, so that the format is stated twice, and sounds to go with them."""

from __future__ import annotations

import binascii
import hashlib
import json
import struct
from typing import Any

from musicgen_cli.store import ArtifactDraft

T = "2026-11-22T10:00:00.000Z"


def sound(seed: int = 0, frames: int = 64) -> bytes:
    """Make a small WAV: mono, 16 bit, 32 kHz, different for each seed."""
    samples = struct.pack("<i", seed).ljust(2 * frames, b"\x01")
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 32000, 64000, 2, 16)
    data = b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(header) + len(data)) + header + data


def draft(prompt: str = "rain on a tin roof", tags: tuple[str, ...] = ("type:audio",), **more: Any) -> ArtifactDraft:
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
    """Write a line as the format says, byte by byte."""
    body = tab.encode() + json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    return body + f',"crc":"{binascii.crc32(body):08x}"}}\n'.encode()


def head(**changes: Any) -> bytes:
    return sealed(
        {"op": "head", "format": "musicgen-index", "version": 1, "gen": "0123456789abcdef", "created": T} | changes
    )


def put_record(name: str = "artifact_00000000000a", **changes: Any) -> dict[str, Any]:
    return {
        "op": "put",
        "id": name,
        "tags": ["type:audio"],
        "created": T,
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
    return sealed(put_record(name, **changes))


def tag(name: str, add: tuple[str, ...] = (), rm: tuple[str, ...] = (), at: int = 0) -> bytes:
    return sealed({"op": "tag", "id": name, "at": at, "t": T, "add": [*add], "rm": [*rm]}, "\t")


def delete(name: str, at: int = 0) -> bytes:
    return sealed({"op": "del", "id": name, "at": at, "t": T}, "\t")


def name(number: int) -> str:
    return f"artifact_{number:012x}"

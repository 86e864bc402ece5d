"""What an exported copy says of itself, and what an imported one said: its record, as a comment in JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from musicgen_cli._version import __version__
from musicgen_cli.audio.wav import read_info, with_info, without_last_info
from musicgen_cli.store import Artifact
from musicgen_cli.text import one_line

_TITLE_CHARS = 200
_RECORD_BYTES = 1 << 20
_CHUNKS = {  # of RIFF INFO
    "title": "INAM",
    "artist": "IART",
    "date": "ICRD",
    "comment": "ICMT",
    "copyright": "ICOP",
    "software": "ISFT",
}


def metadata_of(artifact: Artifact) -> dict[str, str]:
    """
    Tell of a take in the words that audio formats have for it; members without a value are left out.

    The comment is the whole record but for the service's address, in ASCII.
    """
    record = artifact.record
    record["origin"] = {name: value for name, value in artifact.origin.items() if name != "url"}
    known = {
        "title": one_line(artifact.prompt)[:_TITLE_CHARS].strip() or artifact.id,
        "artist": one_line(artifact.creator),
        "date": one_line(artifact.created)[:10],
        "comment": json.dumps(record, separators=(",", ":")),
        "copyright": one_line(artifact.license or ""),
        "software": f"musicgen-cli {__version__}",
    }
    return {name: text for name, text in known.items() if text}


def with_metadata(wav: bytes, artifact: Artifact) -> bytes:
    """Add to a WAV what it is; its samples stay where they are."""
    return with_info(wav, {_CHUNKS[name]: text for name, text in metadata_of(artifact).items()})


def embedded_record(wav: bytes) -> dict[str, Any] | None:
    """Return the record that a WAV's comment is, or part of one; None where it is anything else."""
    comment = read_info(wav).get(_CHUNKS["comment"], "")
    if not comment.startswith("{") or len(comment) > _RECORD_BYTES:
        return None
    try:
        record = json.loads(comment)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def without_metadata(wav: bytes, record: dict[str, Any]) -> bytes:
    """Return the very bytes that were exported, if `wav` is they with metadata, which their hash tells; else `wav`."""
    bare = without_last_info(wav)
    return bare if hashlib.sha256(bare).hexdigest() == record.get("content_hash") else wav

"""Metadata in audio files: export writes title, licence and the whole record, import reads the record back."""

from __future__ import annotations

import hashlib
import json
from mmap import mmap
from typing import Any

from musicgen_cli._version import __version__
from musicgen_cli.audio.wav import inspect, read_info, rebuilt, with_info, without_last_info
from musicgen_cli.errors import InvalidWavError
from musicgen_cli.limits import CREATOR
from musicgen_cli.store import Artifact
from musicgen_cli.text import one_line

_TITLE_CHARS = 200
_RECORD_BYTES = 1 << 20
_CHUNKS = {  # of a RIFF INFO list
    "title": "INAM",
    "artist": "IART",
    "date": "ICRD",
    "comment": "ICMT",
    "copyright": "ICOP",
    "software": "ISFT",
}


def metadata_of(artifact: Artifact) -> dict[str, str]:
    """
    Return a take's metadata under the names that audio formats share; members without a value are left out.

    The artist is the creator if the user has set one. The comment is the whole record as ASCII JSON, without the
    service's address.
    """
    record = artifact.record
    record["origin"] = {name: value for name, value in artifact.origin.items() if name != "url"}
    texts = {
        "title": one_line(artifact.name or artifact.prompt)[:_TITLE_CHARS].strip() or artifact.id,
        "artist": one_line(artifact.creator) if artifact.creator != CREATOR else "",
        "date": one_line(artifact.created)[:10],
        "comment": json.dumps(record, separators=(",", ":")),
        "copyright": one_line(artifact.license or ""),
        "software": f"musicgen-cli {__version__}",
    }
    return {name: text for name, text in texts.items() if text}


def with_metadata(wav: bytes, artifact: Artifact) -> bytes:
    """Append a take's metadata to its WAV as a LIST INFO chunk; the samples stay where they are."""
    return with_info(wav, {_CHUNKS[name]: text for name, text in metadata_of(artifact).items()})


def embedded_record(wav: bytes | mmap) -> dict[str, Any] | None:
    """Return the record, whole or in part, that a WAV has as its comment; None if the comment is anything else."""
    return record_in(read_info(wav).get(_CHUNKS["comment"], ""))


def record_in(comment: str) -> dict[str, Any] | None:
    """Return the record, whole or in part, that a comment is; None if it is anything else."""
    if not comment.startswith("{") or len(comment) > _RECORD_BYTES:
        return None
    try:
        record = json.loads(comment)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def without_metadata(wav: bytes, record: dict[str, Any]) -> bytes:
    """
    Return the bytes of the take before `with_metadata`, if `wav` is an unchanged export; else `wav` itself.

    Args:
        wav: With metadata at its end.
        record: From that metadata; its hash tells whether the WAV is unchanged.
    """
    stripped = without_last_info(wav)
    return stripped if hashlib.sha256(stripped).hexdigest() == record.get("content_hash") else wav


def sound_in(data: bytes, *, longest_s: float | None = None) -> tuple[bytes, dict[str, Any] | None]:
    """
    Return the WAV that a file's sound is stored as, and the record in its metadata.

    Args:
        longest_s: A longer FLAC, Ogg or MP3 is refused, before it is decoded to its end.

    Raises:
        InvalidWavError: The file holds no sound that can be read.
        MissingExtraError: It is a FLAC, an Ogg or an MP3, and nothing here can decode it.
    """
    from musicgen_cli.audio.decode import decode, kind_of

    if kind := kind_of(data):
        wav, comment = decode(data, kind, longest_s=longest_s)
        return wav, record_in(comment)
    record = embedded_record(data)
    try:
        inspect(data)
    except InvalidWavError:
        return rebuilt(data), record
    return data if record is None else without_metadata(data, record), record

"""One stored take: what is known about it before and after it is stored, and its tags."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from musicgen_cli.audio.wav import MIME, WavInfo
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.limits import EXTRA_BYTES, TAG_BYTES, TAGS_EACH
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.lines import Record, encode, timestamp

_BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OPS = {"op", "crc"}  # members of a line that are not the artifact's


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """What a take's maker knows; the store finds out the rest from the audio."""

    tags: tuple[str, ...]
    prompt: str
    params: dict[str, Any]
    creator: str
    origin: dict[str, Any]
    parent_id: str | None = None
    variation_set_id: str | None = None
    variation_index: int | None = None
    seed: int | None = None
    requested_duration: float | None = None  # s
    license: str | None = None
    fingerprint: str | None = None
    client_job_id: str | None = None
    elapsed_s: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    created: str | None = None  # now, unless the take was made elsewhere
    unknown: dict[str, Any] = field(default_factory=dict)  # as in Artifact


@dataclass(frozen=True, slots=True)
class Artifact:
    """One stored take, its tags as they are now."""

    id: str
    tags: tuple[str, ...]
    created: str  # RFC 3339 UTC with milliseconds
    content_hash: str
    bytes: int
    mime: str
    sample_rate: int  # Hz
    channels: int
    frames: int
    duration: float  # s
    prompt: str
    params: dict[str, Any]
    creator: str
    origin: dict[str, Any]
    parent_id: str | None = None
    variation_set_id: str | None = None
    variation_index: int | None = None
    seed: int | None = None
    requested_duration: float | None = None  # s
    license: str | None = None
    fingerprint: str | None = None
    client_job_id: str | None = None
    elapsed_s: float | None = None
    extra: dict[str, Any] | None = None
    unknown: dict[str, Any] = field(default_factory=dict)  # members that a later version added

    @property
    def digest(self) -> Digest:
        """The audio's SHA-256."""
        return Digest(self.content_hash)

    @property
    def record(self) -> Record:
        """The members as they are stored, absent ones left out."""
        known = {name: getattr(self, name) for name in _KNOWN}
        return (
            {name: value for name, value in known.items() if value is not None} | {"tags": [*self.tags]} | self.unknown
        )


_KNOWN = dict.fromkeys(each.name for each in fields(Artifact) if each.name != "unknown")  # in order
_DRAFTED = [each.name for each in fields(ArtifactDraft) if each.name != "unknown"]
_BLANK: Record = {  # what a line needs
    **dict.fromkeys(("bytes", "sample_rate", "channels", "frames", "duration"), 0),
    **dict.fromkeys(("created", "mime", "prompt", "creator"), ""),
    "id": "artifact_000000000000",
    "content_hash": "0" * 64,
    "tags": [],
    "params": {},
    "origin": {},
}


def as_draft(record: Record) -> ArtifactDraft:
    """
    Make a draft of what a record from elsewhere says, or a part of one; what the audio itself says is left out.

    Raises:
        InvalidValueError: It says something in a way that can't be stored.
    """
    said = {name: record[name] for name in _DRAFTED if record.get(name) is not None}
    encode({"op": "put", **_BLANK, **said})
    blank = {"prompt": "", "params": {}, "creator": "", "origin": {}}
    return ArtifactDraft(**{**blank, **said, "tags": tuple(said.get("tags", ()))})


def from_draft(
    draft: ArtifactDraft, *, artifact_id: str, created: str, digest: Digest, size: int, info: WavInfo
) -> Artifact:
    """
    Join what the maker knows with what the audio says.

    Raises:
        InvalidValueError: A tag is not one, or there is too much of something.
    """
    tags = tuple(dict.fromkeys(check_tag(tag) for tag in draft.tags))
    if len(tags) > TAGS_EACH:
        raise InvalidValueError(f"an artifact has at most {TAGS_EACH} tags, got {len(tags)}")
    _check_extra(draft.extra)
    if draft.created is not None:
        _check_time(draft.created)
    members = {each.name: getattr(draft, each.name) for each in fields(draft)}
    return Artifact(
        **{**members, "tags": tags, "extra": draft.extra or None, "created": draft.created or created},
        id=artifact_id,
        content_hash=digest.hex,
        bytes=size,
        mime=MIME,
        sample_rate=info.sample_rate,
        channels=info.channels,
        frames=info.frames,
        duration=info.duration,
    )


def from_record(record: Record) -> Artifact:
    """Make the artifact of a good `put` line whose tags were brought up to date."""
    known = {name: record[name] for name in record.keys() & _KNOWN}
    unknown = {name: value for name, value in record.items() if name not in known and name not in _OPS}
    return Artifact(**{**known, "tags": tuple(known["tags"])}, unknown=unknown)


def retagged(tags: Iterable[str], add: Iterable[str], rm: Iterable[str]) -> list[str]:
    """Apply one `tag` line: the tags without `rm`, then each of `add` that is not there yet."""
    removed = set(rm)
    return list(dict.fromkeys([*(tag for tag in tags if tag not in removed), *add]))


def check_tag(tag: str) -> str:
    """
    Return a tag in the one form in which it is stored, which is NFC.

    Raises:
        InvalidValueError: It can't be a tag; the message tells why.
    """
    tag = unicodedata.normalize("NFC", tag)
    if why := _flaw(tag):
        raise InvalidValueError(f"tag {tag!r} {why}")
    return tag


def _flaw(tag: str) -> str | None:
    kinds = {unicodedata.category(char) for char in tag}
    if not tag:
        return "is empty"
    if "Cs" in kinds:
        return "is not text"
    if len(tag.encode()) > TAG_BYTES:
        return f"is longer than {TAG_BYTES} bytes"
    if "Cc" in kinds or not _BIDI.isdisjoint(tag):
        return "holds a control character"
    if not set('"\\,').isdisjoint(tag):
        return 'holds one of " \\ ,'
    if tag != tag.strip():
        return "starts or ends with a blank"
    return "starts with -" if tag.startswith("-") else None


def _check_time(text: str) -> None:
    try:
        is_exact = timestamp(datetime.fromisoformat(text)) == text
    except (ValueError, OverflowError):
        is_exact = False
    if not is_exact:  # listing compares times as text
        raise InvalidValueError(f"created must be like 2026-11-22T10:00:00.000Z, got {text[:40]!r}")


def _check_extra(extra: dict[str, Any]) -> None:
    try:
        size = len(json.dumps(extra, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError):
        return  # writing the whole line will fail in the same way, and say why
    if size > EXTRA_BYTES:
        raise InvalidValueError(f"extra takes {size} bytes, at most {EXTRA_BYTES} can be stored")

"""The record of one take, before and after it is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from musicgen_cli.audio.wav import MIME, WavInfo
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.limits import EXTRA_BYTES, MAX_TAGS
from musicgen_cli.store.digest import Digest
from musicgen_cli.store.lines import Record, encode, timestamp
from musicgen_cli.store.names import name_in
from musicgen_cli.store.tags import check_tag

_LINE_MEMBERS = {"op", "crc"}  # members of a line that are not part of the artifact


@dataclass(frozen=True, slots=True)
class ArtifactDraft:
    """A take's record before it is stored; the store adds the id and what it reads from the audio."""

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
    created: str | None = None  # None: now; set for an imported take
    unknown: dict[str, Any] = field(default_factory=dict)  # as in Artifact


@dataclass(frozen=True, slots=True)
class Artifact:
    """The record of one stored take, with its current tags."""

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
    def name(self) -> str | None:
        """What a person, or the file that was imported, calls the take."""
        return name_in(self.tags)

    @property
    def title(self) -> str:
        """The name and the prompt, as far as there are any, in one text."""
        return ": ".join(filter(None, [self.name, self.prompt]))

    @property
    def record(self) -> Record:
        """The members as they are stored, without those that are None."""
        members = {name: getattr(self, name) for name in _MEMBERS}
        return (
            {name: value for name, value in members.items() if value is not None}
            | {"tags": [*self.tags]}
            | self.unknown
        )


# In the order of a line.
_MEMBERS = dict.fromkeys(member.name for member in fields(Artifact) if member.name != "unknown")
_DRAFT_MEMBERS = [member.name for member in fields(ArtifactDraft) if member.name != "unknown"]
_BLANK: Record = {  # all members that a `put` line requires
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
    Make a draft from a record, or part of one, that comes from elsewhere; members about the audio are left out.

    Raises:
        InvalidValueError: A member can't be stored.
    """
    members = {name: record[name] for name in _DRAFT_MEMBERS if record.get(name) is not None}
    encode({"op": "put", **_BLANK, **members})  # checks the members
    blank = {"prompt": "", "params": {}, "creator": "", "origin": {}}
    return ArtifactDraft(**{**blank, **members, "tags": tuple(members.get("tags", ()))})


def from_draft(
    draft: ArtifactDraft, *, artifact_id: str, created: str, digest: Digest, size: int, info: WavInfo
) -> Artifact:
    """
    Complete a draft with an id and the members that the audio determines.

    Raises:
        InvalidValueError: A tag or the time is invalid, or there are too many tags or too much in `extra`.
    """
    tags = tuple(dict.fromkeys(check_tag(tag) for tag in draft.tags))
    if len(tags) > MAX_TAGS:
        raise InvalidValueError(f"a take can have at most {MAX_TAGS} tags, got {len(tags)}")
    _check_extra(draft.extra)
    if draft.created is not None:
        _check_time(draft.created)
    members = {member.name: getattr(draft, member.name) for member in fields(draft)}
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
    """Make an artifact from a good `put` line in whose tags all edits were applied."""
    members = {name: record[name] for name in record.keys() & _MEMBERS}
    unknown = {name: value for name, value in record.items() if name not in members and name not in _LINE_MEMBERS}
    return Artifact(**{**members, "tags": tuple(members["tags"])}, unknown=unknown)


def _check_time(text: str) -> None:
    try:
        is_exact = timestamp(datetime.fromisoformat(text)) == text
    except (ValueError, OverflowError):
        is_exact = False
    if not is_exact:  # filters compare times as text
        raise InvalidValueError(f"created must be like 2026-11-22T10:00:00.000Z, got {text[:40]!r}")


def _check_extra(extra: dict[str, Any]) -> None:
    try:
        size = len(json.dumps(extra, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError):
        return  # encoding the whole record will fail in the same way, with a message
    if size > EXTRA_BYTES:
        raise InvalidValueError(f"extra takes {size} bytes, at most {EXTRA_BYTES} can be stored")

"""The rules for tags: which text can be one, and what an edit makes of a take's tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from musicgen_cli.errors import InvalidValueError
from musicgen_cli.limits import TAG_BYTES
from musicgen_cli.text import undecoded

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def edit_tags(tags: Iterable[str], add: Iterable[str], rm: Iterable[str]) -> list[str]:
    """Apply one `tag` line: return the tags without those in `rm`, then each in `add` that is not there yet."""
    removed = set(rm)
    return list(dict.fromkeys([*(tag for tag in tags if tag not in removed), *add]))


def check_tag(tag: str) -> str:
    """
    Validate a tag and return it in NFC, the form in which tags are stored.

    Raises:
        InvalidValueError: The tag breaks a rule, which the message names.
    """
    if not isinstance(tag, str):  # from a program without types
        raise InvalidValueError(f"a tag must be text, got {tag!r:.40}")
    tag = unicodedata.normalize("NFC", tag)
    if problem := problem_of(tag):
        raise InvalidValueError(f"tag {tag!r} {problem}")
    return tag


def problem_of(tag: str) -> str | None:
    """Say which rule a text in NFC breaks that is to be a tag; None if it breaks none."""
    categories = {unicodedata.category(char) for char in tag}
    if not tag:
        return "is empty"
    if "Cs" in categories:
        return undecoded(tag) or "is not valid Unicode"
    if len(tag.encode()) > TAG_BYTES:
        return f"is longer than {TAG_BYTES} bytes"
    if "Cc" in categories or not BIDI.isdisjoint(tag):
        return "contains a control character"
    if not set('"\\,').isdisjoint(tag):
        return 'contains one of " \\ ,'
    if tag != tag.strip():
        return "starts or ends with white space"
    return "starts with -" if tag.startswith("-") else None

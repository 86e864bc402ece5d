"""A SHA-256, and the artifact ids made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BufferedReader

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID_START = "artifact_"
_ID = re.compile(_ID_START + r"[0-9a-f]{12}(-[1-9][0-9]{0,8})?")
_PREFIX = re.compile(_ID_START + r"[0-9a-f]{4,11}")
LONGEST_NUMBER = 999_999_999  # the id's form allows nine digits


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 as 64 lower-case hex digits: nothing else may become part of a path."""

    hex: str

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.hex):
            raise ValueError(f"not a SHA-256: {self.hex!r}")

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Hash bytes in memory."""
        import hashlib  # loads OpenSSL, which listing doesn't need

        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, file: BufferedReader) -> Digest:
        """Hash the rest of an open file, block by block."""
        import hashlib

        return cls(hashlib.file_digest(file, "sha256").hexdigest())

    @property
    def short(self) -> str:
        """The 12 digits that an id shows."""
        return self.hex[:12]


def is_sha256(text: object) -> bool:
    """Tell whether `text` has the form of a digest."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def is_id(text: object) -> bool:
    """Tell whether `text` has the form of a whole artifact id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def make_id(short: str, number: int) -> str:
    """Make the id of the `number`-th artifact with these 12 digits, counted from 1."""
    return f"{_ID_START}{short}" + (f"-{number}" if number > 1 else "")


def parse_id(text: str) -> tuple[str, bool] | None:
    """
    Read an id as people give it, with or without `artifact_`, whole or only the first 4 or more digits.

    Returns:
        What the id is or starts with, and whether it is whole; None if no id can answer to `text`. A whole id stands
        for itself alone: `…abc` that is gone must not turn into `…abc-2`.
    """
    start = text if text.startswith(_ID_START) else _ID_START + text
    if is_id(start):
        return start, True
    return (start, False) if _PREFIX.fullmatch(start) else None

"""SHA-256 digests, and the artifact ids made from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BufferedReader

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID_START = "artifact_"
_ID = re.compile(_ID_START + r"[0-9a-f]{12}(-[1-9][0-9]{0,8})?")
_PREFIX = re.compile(_ID_START + r"[0-9a-f]{4,11}")
LARGEST_NUMBER = 999_999_999  # an id's number has at most nine digits


@dataclass(frozen=True, slots=True)
class Digest:
    """
    A SHA-256 as 64 lower-case hex digits.

    The constructor checks the form, so that nothing else can become part of a blob's path.
    """

    hex: str

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.hex):
            raise ValueError(f"not a SHA-256: {self.hex!r}")

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Hash bytes in memory."""
        import hashlib  # here, because it loads OpenSSL, which listing doesn't need

        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, file: BufferedReader) -> Digest:
        """Hash an open file from its current position to its end, block by block."""
        import hashlib

        return cls(hashlib.file_digest(file, "sha256").hexdigest())

    @property
    def short(self) -> str:
        """The first 12 digits, which an id contains."""
        return self.hex[:12]


def is_sha256(text: object) -> bool:
    """Tell whether `text` has the form of a digest."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def is_id(text: object) -> bool:
    """Tell whether `text` has the form of a complete artifact id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def make_id(short: str, number: int) -> str:
    """Return the id of the `number`-th artifact, counted from 1, whose digest starts with the 12 digits `short`."""
    return f"{_ID_START}{short}" + (f"-{number}" if number > 1 else "")


def parse_id(text: str) -> tuple[str, bool] | None:
    """
    Parse an id as users write it: with or without `artifact_`, complete or only its first 4 or more digits.

    Returns:
        The id or its prefix, with `artifact_`, and whether it is complete; None if no id can match `text`. A complete
        id matches only itself: if `…abc` was removed, it must not match `…abc-2`.
    """
    prefix = text if text.startswith(_ID_START) else _ID_START + text
    if is_id(prefix):
        return prefix, True
    return (prefix, False) if _PREFIX.fullmatch(prefix) else None

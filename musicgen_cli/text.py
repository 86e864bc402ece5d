"""
Text for people: foreign text made safe to print; numbers, sizes and lengths of time in their usual form.

Prompts, tags, paths and messages of servers are data, and may contain characters that control a terminal.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from typing import Any

# C0, DEL, C1; line and paragraph separators; bidi controls; lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]")  # those that Python's error handler `surrogateescape` makes of bytes
_USER_INFO = re.compile(r"(^|//)[^/?#]*@")
_MALFORMED_USER_INFO = re.compile(r"(^(?![\w+.-]+://)|//)[^@]*:[^/@][^@]*@")  # with /, ? or # in the password
_BLANKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")


def printable(text: str) -> str:
    r"""Show control characters, bidi controls and lone surrogates as escapes such as `\x1b` and `\u202e`."""
    return _UNSAFE.sub(_escape, text)


def one_line(text: str) -> str:
    """Replace tabs and line ends by spaces, and make the rest printable."""
    return printable(_BLANKS.sub(" ", text))


def escaped_json(text: str) -> str:
    r"""Escape the control characters that JSON allows unescaped but a terminal obeys: C1, DEL, bidi (`\u009b`)."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def without_user_info(url: str) -> str:
    """
    Return a URL without its user name and password, for whatever is printed or recorded; also one that can't be parsed.

    A path with an @ after a port is cut off, too: it can't be told from a password with a slash.
    """
    return _MALFORMED_USER_INFO.sub(r"\1", _USER_INFO.sub(r"\1", url))


def undecoded(text: str) -> str | None:
    """
    Say that a byte of a command line or of a variable could not be decoded: `is not UTF-8 (byte 0xe9)`.

    Returns:
        None if there is no such byte. Python keeps one as a lone surrogate, so that it can still be part of a path.
    """
    match = _BYTES.search(text)
    return f"is not UTF-8 (byte 0x{ord(match[0]) - 0xDC00:02x})" if match else None


def is_encodable(text: str, encoding: str) -> bool:
    """Tell whether an encoding has all characters of a text."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str, encoding: str) -> str:
    r"""Show the characters that an encoding lacks as escapes such as `\xe9` and `\u266a`."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def number(value: float) -> str:
    """Write a number without needless decimals: `31`, not `31.0`."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def as_whole(value: Any) -> Any:
    """
    Return a whole number as an `int` where a program wrote it as a float, as `2.0`, or as a number of numpy.

    Anything else stays as it is, for a check to refuse it.
    """
    if isinstance(value, bool):
        return value
    try:
        return operator.index(value)
    except TypeError:
        is_integer = getattr(value, "is_integer", None)
        return int(value) if is_integer is not None and is_integer() else value


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: `1 take`, `3 takes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name a wrong one may mean, or, where none is like it, which names there are."""
    import difflib

    known = tuple(known)
    matches = difflib.get_close_matches(name, known, n=1)
    return f"the nearest known one is {matches[0]!r}" if matches else f"the known ones are {', '.join(known)}"


def size(size_bytes: int) -> str:
    """Write a number of bytes with one decimal of its largest unit: `2.4 GB`."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= step:
            return f"{size_bytes / step:.1f} {unit}"
    return f"{size_bytes} bytes"


def clock(seconds: float) -> str:
    """Write a length of time as a player shows it, rounded up to whole seconds: `1:05`, `1:00:00`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    named = {9: r"\t", 10: r"\n", 13: r"\r"}
    return named.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")

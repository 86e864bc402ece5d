"""
The names of takes: a name is a tag that begins with `name:`, the last one if there are several.

So a name can be changed with one line of the index, and is kept by whatever keeps tags: restoring, compaction, export,
import, and versions of this program that know nothing of names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from musicgen_cli.errors import InvalidValueError
from musicgen_cli.limits import TAG_BYTES
from musicgen_cli.store.tags import BIDI, problem_of

MARK = "name:"
_BYTES = TAG_BYTES - len(MARK)
_FORBIDDEN = {*BIDI, *'"\\,'}


def is_name(tag: str) -> bool:
    """Tell whether a tag holds a name."""
    return tag.startswith(MARK)


def name_in(tags: Sequence[str]) -> str | None:
    """Return the name that the tags of a take hold."""
    return next((tag.removeprefix(MARK) for tag in reversed(tags) if is_name(tag)), None) or None


def without_names(tags: Iterable[str]) -> list[str]:
    """Return the tags that hold no name."""
    return [tag for tag in tags if not is_name(tag)]


def name_tag(name: str) -> str:
    """
    Return the tag that holds a name.

    Raises:
        InvalidValueError: The name breaks a rule of tags, or is too long for one.
    """
    name = unicodedata.normalize("NFC", name)
    problem = problem_of(name)
    if problem is None and len(name.encode()) > _BYTES:
        problem = f"is longer than {_BYTES} bytes"
    if problem:
        raise InvalidValueError(f"name {name[:200]!r} {problem}")
    return MARK + name


def tag_of_file(stem: str) -> str | None:
    """Return the tag that names a take after a file: what a tag can't hold is replaced; None if nothing is left."""
    chars = (
        "_" if char in _FORBIDDEN or unicodedata.category(char) in {"Cc", "Cs"} else char
        for char in unicodedata.normalize("NFC", stem)
    )
    name = "".join(chars).lstrip("- ").encode()[:_BYTES].decode(errors="ignore").strip()
    return name_tag(name) if name else None

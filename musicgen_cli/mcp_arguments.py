"""Reads the arguments of MCP tools; clients send much as text that should be a number, a list or nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from musicgen_cli import limits
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.settings import truth
from musicgen_cli.text import as_whole, is_encodable

Arguments = Mapping[str, Any]

TEXT_CHARS = 100_000  # of an argument: a list of 2,000 ids, for clients that send lists as text


def check_texts(name: str, value: object) -> None:
    """
    Check that an argument, or each item of a list, can be a prompt, a name or a path.

    Raises:
        InvalidValueError: A text has NUL or a lone surrogate, or is too long.
    """
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        if len(text) > TEXT_CHARS:
            raise InvalidValueError(f"{name} must have at most {TEXT_CHARS:,} characters, got {len(text):,}")
        if "\0" in text or not is_encodable(text, "utf-8"):
            raise InvalidValueError(f"{name} must be Unicode text without NUL, got {_shown(text)}")


def typed(value: object, type_: str) -> object:
    """Return a value that arrived as text in the JSON type of its schema; what isn't of that type stays as it is."""
    if not isinstance(value, str) or type_ == "string":
        return as_whole(value) if type_ == "integer" else value
    text = value.strip()
    if not text:
        return None
    if type_ == "boolean":
        return value if (answer := truth(text)) is None else answer
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if type_ == "array":  # a text that is no list is the only item of one
        return parsed if isinstance(parsed, list) else [value]
    if isinstance(parsed, bool) or not isinstance(parsed, int | float) or not math.isfinite(parsed):
        return value
    return as_whole(parsed) if type_ == "integer" else parsed


def text(arguments: Arguments, name: str) -> str | None:
    """
    Return an argument that is text, None where it is absent.

    Raises:
        InvalidValueError: It is anything else; the same for the functions below.
    """
    value = arguments.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidValueError(f"{name} must be text, got {_shown(value)}")
    return value


def texts(arguments: Arguments, name: str) -> list[str]:
    """Return an argument that is a list of texts, without the empty ones."""
    value = arguments.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidValueError(f"{name} must be a list of texts, got {_shown(value)}")
    return [each for each in value if each]


def required_texts(arguments: Arguments, name: str) -> list[str]:
    """Return an argument that is a list of texts and must not be empty."""
    if not (values := texts(arguments, name)):
        raise InvalidValueError(f"{name} must name at least one")
    return values


def flag(arguments: Arguments, name: str) -> bool:
    """Return an argument that is true or false, which is the default."""
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise InvalidValueError(f"{name} must be true or false, got {_shown(value)}")
    return value


def whole_number(arguments: Arguments, name: str, allowed: limits.Range) -> int:
    """Return an argument that is a whole number in a range, by default that of the range."""
    value = arguments.get(name, int(allowed.default))
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise InvalidValueError(f"{name} must be a whole number, {allowed}, got {_shown(value)}")
    return value


def number(arguments: Arguments, name: str, *, whole: bool = False) -> float | None:
    """Return an argument that is a number, None where it is absent; its range is the caller's business."""
    value = arguments.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int if whole else int | float)):
        raise InvalidValueError(f"{name} must be a {'whole ' if whole else ''}number, got {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """Return a wrong value as messages show it: a text with its quotes."""
    return repr(value)[:40]

"""Commands for a POSIX shell: the one that generates a stored take again, and the one that tags it."""

from __future__ import annotations

import re
import shlex
from itertools import groupby

from musicgen_cli.actions.library.made_from import CONTINUE, sound_names
from musicgen_cli.actions.library.takes import fields_of
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.request_fields import PARAMETERS, SOUND_FIELDS
from musicgen_cli.store import Artifact
from musicgen_cli.text import printable

KEEPER = "keeper"  # the tag of takes to keep
_MODEL_OPTIONS = ("model", "engine", "precision", "device")
_NOT_IN_ARGUMENTS = re.compile("[\0\ud800-\udfff]")


def generate_command(take: Artifact) -> str | None:
    """
    Return the command that generates a take again, with all the parameters and engine options of its record.

    Returns:
        None if the record has no parameters, or if `generate` would refuse them.
    """
    try:
        values = GenerateRequest.checked(fields_of(take)).model_dump()
    except InvalidValueError:
        return None
    words = []
    for field in PARAMETERS:
        if field.name in take.params or (field.name == "seed" and take.seed is not None):
            words += field.words(values[field.name])
    sounds = sound_names(take)
    if words:
        words += [word for field in SOUND_FIELDS if field.name in sounds for word in field.words(sounds[field.name])]
    engine_options = _engine_options(take)
    if not words or any(_NOT_IN_ARGUMENTS.search(word) for word in engine_options):
        return None
    words += engine_options
    if take.prompt == "-":  # as an argument it would mean stdin
        return f"printf %s - | {_line(['generate', '-', *words])}"
    if take.prompt.startswith("-"):
        return _line(["generate", *words, "--", take.prompt])
    has_prompt = take.prompt or CONTINUE in sounds  # without any, it would be that of what the take goes on from
    return _line(["generate", *([take.prompt] if has_prompt else []), *words])


def tag_command(take: Artifact) -> str:
    """Return the command that tags a take."""
    return _line(["tag", take.id, "--add", KEEPER])


def quote(word: str) -> str:
    """
    Quote one word for a POSIX shell, so that the line can be pasted into a terminal as well.

    Characters that a terminal interprets in pasted text, such as a tab or an escape sequence, are written as octal
    digits for `printf`. A line feed stays: between quotes it doesn't end the command.
    """
    parts = []
    for is_control, chars in groupby(word, _is_control):
        text = "".join(chars)
        octal = "".join(f"\\{byte:03o}" for byte in text.encode()) if is_control else ""
        parts.append(f"\"$(printf '{octal}')\"" if is_control else shlex.quote(text))
    return "".join(parts) or "''"


def _is_control(char: str) -> bool:
    return char != "\n" and printable(char) != char


def _line(words: list[str]) -> str:
    return " ".join(["musicgen", *map(quote, words)])


def _engine_options(take: Artifact) -> list[str]:
    """Return the options that choose the engine that made a take: a service, or a model in this process."""
    origin = {name: value for name, value in take.origin.items() if isinstance(value, str) and value}
    if "url" in origin:
        return _option("url", origin["url"])
    words = [word for name in _MODEL_OPTIONS if name in origin for word in _option(name, origin[name])]
    return ["--local", *words] if "model" in origin else []


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]

"""The commands that make a stored take again and tag it, written for a POSIX shell."""

from __future__ import annotations

import re
import shlex
from itertools import groupby

from musicgen_cli.actions.generate import fields_of
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.store import Artifact
from musicgen_cli.text import number, printable

_PARAMETERS = ("duration", "temperature", "top_k", "top_p", "guidance_scale", "seed")
_LOADED = ("model", "engine", "precision", "device")
_NO_ARGUMENT = re.compile("[\0\ud800-\udfff]")


def generate_command(take: Artifact) -> str | None:
    """
    Write the command that makes a take again, with everything its record says of its making.

    Returns:
        None if nothing of the kind is recorded, or if `generate` would refuse it.
    """
    try:
        values = GenerateRequest.checked(fields_of(take)).model_dump()
    except InvalidValueError:
        return None
    words = []
    for name in _PARAMETERS:
        if name in take.params or (name == "seed" and take.seed is not None):
            words += [f"--{name.replace('_', '-')}", number(values[name])]
    if "do_sample" in take.params:
        words.append("--sample" if values["do_sample"] else "--greedy")
    maker = _maker(take)
    if not words or any(_NO_ARGUMENT.search(word) for word in maker):
        return None
    words += maker
    if take.prompt == "-":  # as an argument it would mean stdin
        return f"printf %s - | {_line(['generate', '-', *words])}"
    if take.prompt.startswith("-"):
        return _line(["generate", *words, "--", take.prompt])
    return _line(["generate", *([take.prompt] if take.prompt else []), *words])


def tag_command(take: Artifact) -> str:
    """Write the command that tags a take."""
    return _line(["tag", take.id, "--add", "keeper"])


def quote(word: str) -> str:
    """
    Quote one word for a POSIX shell, so that the line can be pasted into a terminal as well.

    What a terminal obeys while something is pasted, such as a tab or an escape sequence, is made by `printf` from octal
    digits; a line end stays as it is, since it ends nothing between quotes.
    """
    parts = []
    for is_obeyed, chars in groupby(word, _is_obeyed):
        text = "".join(chars)
        octal = "".join(f"\\{byte:03o}" for byte in text.encode()) if is_obeyed else ""
        parts.append(f"\"$(printf '{octal}')\"" if is_obeyed else shlex.quote(text))
    return "".join(parts) or "''"


def _is_obeyed(char: str) -> bool:
    return char != "\n" and printable(char) != char


def _line(words: list[str]) -> str:
    return " ".join(["musicgen", *map(quote, words)])


def _maker(take: Artifact) -> list[str]:
    """Return the options that name what made a take: a service, or a model in this process."""
    said = {name: value for name, value in take.origin.items() if isinstance(value, str) and value}
    if "url" in said:
        return _option("url", said["url"])
    loaded = [word for name in _LOADED if name in said for word in _option(name, said[name])]
    return ["--local", *loaded] if "model" in said else []


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]

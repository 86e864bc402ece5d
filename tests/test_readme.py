"""What the README tells people to type is what the program understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from musicgen_cli.cli.app import COMMANDS, table

README = (Path(__file__).parents[1] / "README.md").read_text()
_ENDS = "();<>|&"


def test_every_command_line_is_understood() -> None:
    """Each `musicgen …` of a code block names a command, and options that it has."""
    unknown = {line: words for line in _lines() if (words := _unknown(line))}

    assert len(_lines()) > 40
    assert unknown == {}


def test_every_command_is_shown_at_work() -> None:
    """Each stands in the text or in a code block, with its arguments or without."""
    assert [name for name in COMMANDS if not re.search(rf"musicgen {name}\b", README)] == []


@pytest.mark.parametrize("line", ["musicgen sing", "musicgen list --colour red", "musicgen store polish"])
def test_what_the_program_does_not_understand_is_found(line: str) -> None:
    """Else the tests above say nothing."""
    assert _unknown(shlex.split(line)[1:])


def _lines() -> list[tuple[str, ...]]:
    """Return the words after each `musicgen` that a shell would run in a code block."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    text = (
        "\n".join(block for language, block in blocks if language in {"sh", "make"})
        .replace("\\\n", " ")
        .replace("$<", "FILE")
    )
    found: list[tuple[str, ...]] = []
    for line in text.splitlines():
        for is_end, words in groupby(_words(line), key=lambda word: set(word) <= set(_ENDS)):
            run = [*words]
            if not is_end and "musicgen" in run[:-1]:
                found.append(tuple(run[run.index("musicgen") + 1 :]))
    return found


def _words(line: str) -> Iterator[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_ENDS)
    lexer.whitespace_split = True
    return iter(lexer)


def _unknown(words: Sequence[str]) -> list[str]:
    """Return those words of a command line that the program doesn't know."""
    command: Any = get_command(table(COMMANDS))
    rest = [*words]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return rest[:1]
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"-h", "--help"}
    return [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]

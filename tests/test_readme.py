"""What README and docs/ tell people to type is what the program understands, also where no test can run it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pytest
from typer.main import get_command

from musicgen_cli.cli.app import COMMANDS, build_app
from tests.support.pages import PAGES, blocks, text_of

TEXT = "\n".join(map(text_of, PAGES))
_ENDS = "();<>|&"


def test_every_command_line_is_understood() -> None:
    """Each `musicgen …` of a code block names a command, and options that it has."""
    unknown = {line: words for line in _lines() if (words := _unknown(line))}

    assert len(_lines()) > 40
    assert unknown == {}


def test_every_command_is_shown_at_work() -> None:
    """Each stands in the text or in a code block, with its arguments or without."""
    assert [name for name in _names() if not re.search(rf"musicgen {name}\b", TEXT)] == []


@pytest.mark.parametrize("line", ["musicgen sing", "musicgen list --colour red", "musicgen store polish"])
def test_what_the_program_does_not_understand_is_found(line: str) -> None:
    """Else the tests above say nothing."""
    assert _unknown(shlex.split(line)[1:])


def _names() -> Iterator[str]:
    """Yield each command, those of a group with the group's name."""
    for name, command in _command().commands.items():
        yield from (f"{name} {inner}" for inner in command.commands) if hasattr(command, "commands") else [name]


def _lines() -> list[tuple[str, ...]]:
    """Return the words after each `musicgen` that a shell would run in a code block."""
    shell_blocks = [block for page in PAGES for block in blocks(page) if block.language in {"sh", "make", "crontab"}]
    text = "\n".join(block.text for block in shell_blocks).replace("\\\n", " ").replace("$<", "FILE")
    lines: list[tuple[str, ...]] = []
    for line in text.splitlines():
        for is_end, words in groupby(_words(line), key=lambda word: set(word) <= set(_ENDS)):
            run = [*words]
            if not is_end and "musicgen" in run[:-1]:
                lines.append(tuple(run[run.index("musicgen") + 1 :]))
    return lines


def _words(line: str) -> Iterator[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_ENDS)
    lexer.whitespace_split = True
    return iter(lexer)


def _unknown(words: Sequence[str]) -> list[str]:
    """Return those words of a command line that the program doesn't know."""
    command = _command()
    rest = [*words]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return rest[:1]
        command = command.commands[rest.pop(0)]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"-h", "--help"}
    return [word for word in rest if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in options]


def _command() -> Any:
    return get_command(build_app(COMMANDS))

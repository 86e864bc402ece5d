"""Quote words of a command line, so that the line can be pasted into the user's shell."""

from __future__ import annotations

import os
import re
import shlex
from itertools import groupby

from musicgen_cli.text import printable

_NEEDS_NO_QUOTES = re.compile(r"-{0,2}[A-Za-z0-9][A-Za-z0-9_-]*|[0-9]+\.[0-9]+")
_NOT_IN_ARGUMENTS = re.compile("[\0\ud800-\udfff]")
_SINGLE_QUOTES = re.compile("['\u2018-\u201b]")  # those that end a string in single quotes: typographic ones, too


class PosixShell:
    """What POSIX defines: sh, bash, zsh; fish reads the same lines."""

    @staticmethod
    def quote(word: str) -> str:
        """
        Quote one word.

        Characters that a terminal interprets in pasted text, such as a tab or an escape sequence, are written as octal
        digits for `printf`. A line feed stays: between quotes it doesn't end the command.
        """
        parts = []
        for is_control, chars in groupby(word, _is_control):
            text = "".join(chars)
            octal = "".join(f"\\{byte:03o}" for byte in text.encode()) if is_control else ""
            parts.append(f"\"$(printf '{octal}')\"" if is_control else shlex.quote(text))
        return "".join(parts) or "''"

    @staticmethod
    def can_quote(word: str) -> bool:
        """Tell whether a word reaches the program as it is."""
        return not _NOT_IN_ARGUMENTS.search(word)


class PowerShell:
    """PowerShell 5.1, which comes with Windows, and PowerShell 7."""

    @staticmethod
    def quote(word: str) -> str:
        """Quote one word."""
        if _NEEDS_NO_QUOTES.fullmatch(word):
            return word
        return f"'{_SINGLE_QUOTES.sub(lambda match: 2 * match[0], word)}'"

    @staticmethod
    def can_quote(word: str) -> bool:
        """
        Tell whether a word reaches the program as it is.

        PowerShell 5.1 drops a double quote and what a backslash at the end would escape, where 7 passes both on; no
        spelling suits both. In pasted text, it can't write control characters without evaluating something.
        """
        return '"' not in word and not word.endswith("\\") and printable(word) == word and word != ""


Shell = type[PosixShell] | type[PowerShell]
SHELL: Shell = PowerShell if os.name == "nt" else PosixShell  # that of this platform


def quote(word: str) -> str:
    """Quote one word for the shell of this platform."""
    return SHELL.quote(word)


def _is_control(char: str) -> bool:
    return char != "\n" and printable(char) != char

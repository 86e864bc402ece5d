from __future__ import annotations

import json

import pytest

from musicgen_cli.text import escaped_json, one_line, printable

HOSTILE = [
    "\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\x7f", "\r\nfake line", "\u202eevil", "\u2066a\u2069", "\ud800", "\0",
    "[bold]x[/]", "[link=file:///etc/passwd]x[/link]", "\u2028", "a\tb",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    """Escapes stand for control characters, bidi controls and lone surrogates; the rest stays."""
    for shown in (printable(text), one_line(text)):
        assert shown.isprintable()
        shown.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_json_still_says_the_same(text: str) -> None:
    """A reader of the JSON gets the very text back."""
    line = escaped_json(json.dumps({"prompt": text}, ensure_ascii=False))

    assert line.isprintable()
    assert json.loads(line) == {"prompt": text}


def test_ordinary_text_is_left_alone() -> None:
    """Accents, emoji and markup are text."""
    assert printable("élan 🎹 [verse] 音楽") == "élan 🎹 [verse] 音楽"

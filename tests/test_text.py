from __future__ import annotations

import json

import pytest

from musicgen_cli.text import clock, escaped_json, number, one_line, plural, printable, size, without_user_info

HOSTILE = [
    "\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\x7f", "\r\nfake line", "\u202eevil", "\u2066a\u2069", "\ud800", "\0",
    "[bold]x[/]", "[link=file:///etc/passwd]x[/link]", "\u2028", "a\tb",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    """Control characters, bidi controls and lone surrogates become escapes; the rest stays."""
    for shown in (printable(text), one_line(text)):
        assert shown.isprintable()
        shown.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_escaped_json_holds_the_same_text(text: str) -> None:
    """A JSON reader gets the original text back."""
    line = escaped_json(json.dumps({"prompt": text}, ensure_ascii=False))

    assert line.isprintable()
    assert json.loads(line) == {"prompt": text}


def test_ordinary_text_is_left_alone() -> None:
    """Accents, emoji and markup are not escaped."""
    assert printable("élan 🎹 [verse] 音楽") == "élan 🎹 [verse] 音楽"


@pytest.mark.parametrize(("value", "shown"), [(31.0, "31"), (31, "31"), (0.5, "0.5"), (2**53 - 1, "9007199254740991")])
def test_a_number_has_no_needless_decimals(value: float, shown: str) -> None:
    """A whole number has none, whatever its type."""
    assert number(value) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 takes"), (1, "1 take"), (2, "2 takes")])
def test_a_counted_noun_is_plural_unless_it_is_one(count: int, shown: str) -> None:
    """No `1 takes`."""
    assert plural(count, "take") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (52_800_000, "52.8 MB"), (2_364_000_000, "2.4 GB")],
)
def test_a_size_has_one_decimal_of_its_largest_unit(value: int, shown: str) -> None:
    """Units are powers of 1000, as disks are sold."""
    assert size(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (0.1, "0:01"), (59.0, "0:59"), (59.5, "1:00"), (3599.2, "1:00:00"), (90_061, "25:01:01")],
)
def test_a_length_of_time_is_written_as_on_a_clock(seconds: float, shown: str) -> None:
    """It is rounded up, so that a short take isn't 0:00; hours are there if there are any."""
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:SECRET@host:80/a", "http://host:80/a"),
        ("http://SECRET@host", "http://host"),
        ("http://u:SEC@RET@host/@x?a=b@c", "http://host/@x?a=b@c"),
        ("http://u:SEC/RET@host", "http://host"),
        ("http://u:SEC?R#ET@host:1", "http://host:1"),
        ("u:SECRET@host:2006", "host:2006"),
        ("socks5://u:SECRET@host", "socks5://host"),
        ("git+https://SECRET@host/repo", "git+https://host/repo"),
        ("http://host/@scope/x", "http://host/@scope/x"),
        ("http://[::1]:2006/", "http://[::1]:2006/"),
        ("http://host:80", "http://host:80"),
        ("", ""),
    ],
)
def test_user_names_and_passwords_are_cut_out_of_urls(url: str, shown: str) -> None:
    """Also of those that can't be parsed, which messages quote."""
    assert without_user_info(url) == shown

"""What docs/ lists is what the program has."""

from __future__ import annotations

import re

import pytest

from docs.tables import PARTS, error_classes, rewritten
from musicgen_cli.settings import NAMES
from tests.support.pages import text_of


@pytest.mark.parametrize("page", sorted({page for page, _ in PARTS.values()}))
def test_the_generated_parts_are_up_to_date(page: str) -> None:
    """`python -m docs.tables` would change nothing."""
    text = text_of(page)

    assert rewritten(page, text) == text


def test_every_exit_code_is_explained() -> None:
    """The table of exit codes has each one that can happen, and no other."""
    table = set(re.findall(r"^\| (\d+) \|", text_of("docs/exit-codes.md"), re.MULTILINE))

    assert {str(kind.exit_code) for kind in error_classes()} | {"0"} == table


def test_every_setting_is_documented() -> None:
    """Each has its environment variable in the table of settings."""
    page = text_of("docs/settings.md")

    assert [name for name in NAMES if f"`MUSICGEN_{name.upper()}`" not in page] == []

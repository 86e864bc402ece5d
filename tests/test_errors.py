from __future__ import annotations

import re
from pathlib import Path

from musicgen_cli import errors
from musicgen_cli.errors import MusicgenError

README = (Path(__file__).parents[1] / "README.md").read_text()


def every(kind: type[MusicgenError]) -> list[type[MusicgenError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in every(child))]


def test_each_failure_has_a_code_of_its_own() -> None:
    """Scripts can tell failures apart."""
    kinds = [kind for kind in every(MusicgenError) if kind.__module__ == errors.__name__]

    assert len({kind.code for kind in kinds}) == len(kinds) > 20


def test_the_tree_in_words_is_the_tree() -> None:
    """The module opens with every class, its code and its exit code."""
    told = re.findall(r"(\w+)\s+([a-z-]+)\s+(\d+)(?:\s|$)", errors.__doc__ or "", re.MULTILINE)
    kinds = [kind for kind in every(MusicgenError) if kind.__module__ == errors.__name__]

    assert {(kind.__name__, kind.code, str(kind.exit_code)) for kind in kinds} == set(told)


def test_the_readme_explains_every_exit_code() -> None:
    """The table has each code that can happen, and no other."""
    table = set(re.findall(r"^\| (\d+) \|", README, re.MULTILINE))

    assert {str(kind.exit_code) for kind in every(MusicgenError)} | {"0"} == table

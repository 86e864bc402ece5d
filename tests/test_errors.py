from __future__ import annotations

import ast
import re
from pathlib import Path

from musicgen_cli import errors
from musicgen_cli.errors import MusicgenError

PACKAGE = Path(__file__).parents[1] / "musicgen_cli"


def kinds_of(kind: type[MusicgenError]) -> list[type[MusicgenError]]:
    """Return a class and all its subclasses that errors.py defines."""
    below = [deeper for child in kind.__subclasses__() for deeper in kinds_of(child)]
    return [each for each in (kind, *below) if each.__module__ == errors.__name__]


KINDS = kinds_of(MusicgenError)


def classes_outside() -> list[tuple[str, set[str]]]:
    """Return the name of each class that other files define, with its bases' names."""
    return [
        (node.name, {base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in node.bases})
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "errors.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]


def test_every_public_error_is_in_one_file() -> None:
    """A subclass elsewhere has a leading underscore; users see its base's code."""
    names = {kind.__name__ for kind in KINDS}
    outside: set[str] = set()
    while more := {name for name, bases in classes_outside() if bases & (names | outside)} - outside:
        outside |= more

    assert {name for name in outside if not name.startswith("_")} == set()


def test_each_error_has_a_code_of_its_own() -> None:
    """Scripts can tell errors apart."""
    assert len({kind.code for kind in KINDS}) == len(KINDS) > 35


def test_the_docstrings_tree_lists_every_class() -> None:
    """It has the name, code and exit code of each, and no other."""
    lines = re.findall(r"(\w+)\s+([a-z-]+)\s+(\d+)(?:\s|$)", errors.__doc__ or "", re.MULTILINE)

    assert {(kind.__name__, kind.code, str(kind.exit_code)) for kind in KINDS} == set(lines)


def test_the_docstrings_tree_has_each_class_under_its_base() -> None:
    """The indentation follows the inheritance."""
    path: list[str] = []
    bases = {}
    for margin, name in re.findall(r"^    ([│├└─ ]*)([A-Z]\w+Error)\s", errors.__doc__ or "", re.MULTILINE):
        path[len(margin) // 4 :] = [name]
        bases[name] = path[-2] if len(path) > 1 else "Exception"

    assert {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS} == bases

"""
Write the generated parts of the pages: `python -m docs.tables`.

Each part stands between two comments, such as `<!-- errors -->` and `<!-- /errors -->`. A test compares the pages with
what this module would write.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path

from musicgen_cli.errors import MusicgenError
from musicgen_cli.request_fields import FIELDS, SOUND_FIELDS, RequestField, Scalar
from musicgen_cli.text import number
from tests.test_layers import BELOW, GROUND

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "musicgen_cli"

_TYPES: dict[type[Scalar], str] = {str: "text", float: "number", int: "whole number", bool: "true or false"}


def main() -> None:
    for page in dict.fromkeys(page for page, _ in PARTS.values()):
        path = TOP / page
        path.write_text(rewritten(page, path.read_text(encoding="utf-8")), encoding="utf-8")


def rewritten(page: str, text: str) -> str:
    """Return a page with its generated parts as they should be now."""
    for name, (of_page, make) in PARTS.items():
        if of_page == page:
            start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
            before, _, rest = text.partition(start)
            _, marker, after = rest.partition(end)
            assert marker, f"{page} has no place for {name!r}"
            text = before + start + make() + end + after
    return text


def errors() -> str:
    """Return a table of all error codes, sorted by exit code."""
    rows = sorted((kind.exit_code, kind.code, _meaning(kind)) for kind in error_classes())
    return _table(("`code`", "exit code", "meaning"), ((f"`{code}`", exit_, meaning) for exit_, code, meaning in rows))


def error_classes() -> list[type[MusicgenError]]:
    """Return every class that has an error code of its own; a test sees to it that all are in errors.py."""
    return [kind for kind in _with_subclasses(MusicgenError) if "code" in vars(kind)]


def fields() -> str:
    """Return a table of the fields of a request."""
    return _fields(FIELDS)


def sounds() -> str:
    """Return a table of the fields that name sounds."""
    return _fields(SOUND_FIELDS)


def _fields(rows: Sequence[RequestField]) -> str:
    return _table(
        ("field", "option", "type", "default", "range", "meaning"),
        (
            (
                f"`{field.name}`",
                ", ".join(f"`{flag}`" for flag in "/".join(field.flags).split("/") if flag),
                _TYPES[field.type],
                _default(field),
                field.range or "",
                f"{field.meaning}.",
            )
            for field in rows
        ),
    )


def wire() -> str:
    """Return a table of the fields of `POST /predict`."""
    return _table(
        ("field", "type", "default", "range", "meaning"),
        (
            (f"`{field.name}`", _TYPES[field.type], _default(field), field.range or "", f"{field.meaning}.")
            for field in FIELDS
        ),
    )


def commands() -> str:
    """Return what `musicgen --help` prints, as a block."""
    words = [sys.executable, "-m", "musicgen_cli", "--help"]
    env = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(TOP)}
    done = subprocess.run(words, capture_output=True, check=True, text=True, env=env)
    return f"```text\n{done.stdout.strip()}\n```\n"


def rooms() -> str:
    """Return a table of what each room of the package may import."""
    return _table(("room", "may import"), ((f"`{room}`", _allowed(allowed)) for room, allowed in BELOW.items()))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _meaning(kind: type[MusicgenError]) -> str:
    if kind is MusicgenError:
        return "Any other failure that can be explained."
    return (kind.__doc__ or "").strip().splitlines()[0]


def _default(field: RequestField) -> str:
    match field.default:
        case None:
            return "none"
        case bool():
            return str(field.default).lower()
        case str():
            return field.default or "empty"
        case _:
            return number(field.default)


def _allowed(rooms: Set[str]) -> str:
    names = [f"`{name}`" for name in sorted(rooms - GROUND if rooms >= GROUND else rooms)]
    return ", ".join(["the ground", *names] if rooms >= GROUND else names) or "nothing"


def _with_subclasses(kind: type[MusicgenError]) -> Iterator[type[MusicgenError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("musicgen_cli."):
            yield from _with_subclasses(child)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "commands": ("docs/README.md", commands),
    "errors": ("docs/exit-codes.md", errors),
    "fields": ("docs/generate.md", fields),
    "sounds": ("docs/sound-in.md", sounds),
    "wire": ("docs/serve.md", wire),
    "rooms": ("docs/architecture.md", rooms),
}

if __name__ == "__main__":
    main()

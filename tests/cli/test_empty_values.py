"""What a script passes is empty where its variable isn't set; that must be nothing else than an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicgen_cli import InvalidValueError, generate
from musicgen_cli.cli.app import COMMANDS, build_app
from musicgen_cli.cli.completion.tree import Command, command_of
from musicgen_cli.store import ArtifactDraft, Store
from tests.support import fakes
from tests.support.command_line import Run

pytestmark = pytest.mark.usefixtures("service", "store_path")

MAY_BE_EMPTY = {"generate @0": "no prompt", "name @1": "takes the name away", "--search": "any text"}


def options_with_values(command: Command) -> list[tuple[str, ...]]:
    """Return every command line that ends with an option whose value is free, or with the command's first argument."""
    lines = []
    for each in command.walk():
        if each.commands:
            continue
        lines += [
            (*each.path, option.flags[-1])
            for option in each.options
            if option.value is not None and option.flags[-1] not in MAY_BE_EMPTY
        ]
        if each.arguments and f"{each.name} @0" not in MAY_BE_EMPTY:
            lines.append(each.path)
    return lines


def test_no_option_and_no_argument_may_be_empty(musicgen: Run, store_path: Path) -> None:
    """Whichever command it belongs to."""
    lines = options_with_values(command_of(build_app(COMMANDS)))

    assert len(lines) > 100
    assert ("rm",) in lines
    assert ("list", "--store") in lines
    for line in lines:
        done = musicgen(*line, "")
        assert done.code == 2, line
        assert "must not be empty" in done.err or "must be a" in done.err, (line, done.err)
    assert not store_path.exists()


def test_an_empty_id_removes_nothing(musicgen: Run, store_path: Path) -> None:
    """Not even a take of a set with an empty id, which other programs may write."""
    store = Store(store_path)
    take = store.put(fakes.tone(), ArtifactDraft((), "x", {}, "me", {}, variation_set_id=""))

    for words in (["rm", "", "--yes"], ["rm", take.id, "", "--yes"], ["tag", "", "--add", "x"], ["export", ""]):
        assert musicgen(*words).code == 2
    assert [each.id for each in store.newest(None)] == [take.id]


def test_an_empty_id_is_no_parent_in_python(store_path: Path) -> None:
    """Nor a take to start from, nor a set."""
    with pytest.raises(InvalidValueError, match="an id must not be empty"):
        generate("x", parent_id="")
    with pytest.raises(InvalidValueError, match="an id must not be empty"):
        generate("x", from_id="")
    with pytest.raises(InvalidValueError, match="variation_set_id must be 1-128 printable characters, got ''"):
        generate("x", variation_set_id="")
    assert not store_path.exists()


def test_what_may_be_empty_has_a_meaning(musicgen: Run) -> None:
    """No prompt, any text, no name."""
    assert musicgen("generate", "", "-d", "0.5").code == 0
    assert len(musicgen("list", "--search", "").lines) == 1
    assert musicgen("name", "last", "").code == 0

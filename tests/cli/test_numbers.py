"""Numbers on the command line: scripts write whole ones as `2.0`, and people write `0,5`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.main import get_command

from musicgen_cli.cli.app import COMMANDS, build_app
from tests.support.command_line import Run

pytestmark = pytest.mark.usefixtures("service", "store_path")


def number_options(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every option that takes a number, with the words of its command, and what reads it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from number_options(inner, (*words, name))
    for parameter in getattr(command, "params", ()):
        if parameter.type.name in {"int", "float", "integer range", "float range", "whole_number", "any_number"}:
            yield (*words, max(parameter.opts, key=len)), parameter.type.name


def test_every_option_with_a_number_reads_it_in_the_same_way() -> None:
    """Whichever command an option belongs to; none has Typer's own messages."""
    found = dict(number_options(get_command(build_app(COMMANDS))))

    assert set(found.values()) == {"whole_number", "any_number"}
    for words in (
        *(("generate", f"--{name}") for name in ("seed", "top-k", "variations")),
        *(("batch", f"--{name}") for name in ("jobs", "retry", "max-failures", "seed")),
        *(("serve", f"--{name}") for name in ("port", "slots", "queue")),
        ("list", "-n"),
        ("gallery", "-n"),
        ("job", "poll", "--timeout-ms"),
        ("export", "--bars"),
    ):
        assert found[words] == "whole_number"


def test_a_whole_number_may_be_written_with_a_point(musicgen: Run) -> None:
    """As programs write it that know only floats."""
    done = musicgen("generate", "x", "-d", "0.5", "--seed", "1.0", "-n", "2.0", "--top-k", "2.5e2", "--json")

    assert done.code == 0, done.err
    assert [f'"seed":{seed},' in line for seed, line in zip((1, 2), done.lines, strict=True)] == [True, True]
    assert len(musicgen("list", "-n", "1.0", "-q").lines) == 1
    assert musicgen("job", "poll", "--timeout-ms", "5.0").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "--seed", "1.5"], "'--seed': must be a whole number, got '1.5'"),
        (["generate", "--seed", "nan"], "'--seed': must be a whole number, got 'nan'"),
        (["generate", "--seed", "9007199254740993.0"], "seed must be a whole number, 0-9007199254740991, got 90071992"),
        (["generate", "--seed", "1e400"], "'--seed': is far too large: '1e400'"),
        (["generate", "--seed", "1e99999999999"], "is far too large"),
        (["generate", "-n", "two"], "must be a whole number, got 'two'"),
        (["list", "-n", "2.5"], "'-n': must be a whole number, got '2.5'"),
        (["generate", "-d", "0,5"], "must be a number such as 0.5, got '0,5'"),
        (["serve", "--slots", "0"], "--slots must be 1 or more, got 0"),
    ],
)
def test_any_other_number_is_refused_with_the_true_reason(musicgen: Run, words: list[str], message: str) -> None:
    """And with exit code 2, before anything is made."""
    done = musicgen(*words)

    assert done.code == 2
    assert message in done.err

"""Groups of options are options of their own for Typer, and one object for the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from musicgen_cli.cli.option_groups import OptionGroup, grouped


@dataclass(frozen=True)
class Size(OptionGroup):
    """A group of two options."""

    width: Annotated[int, typer.Option("-w", "--width", help="In columns.")] = 80
    height: Annotated[int | None, typer.Option(help="In rows.")] = None


def command(name: str, size: Size, loud: bool = False) -> None:
    typer.echo(f"{name} {size} {loud}")


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(grouped(command))
    result = CliRunner().invoke(app, [*words])
    return result.exit_code, result.output


def test_a_command_gets_one_object_for_a_group() -> None:
    """With what was given, and the defaults of the rest."""
    assert run("x", "--height", "3", "--loud") == (0, "x Size(width=80, height=3) True\n")
    assert run("x", "-w", "5") == (0, "x Size(width=5, height=None) False\n")


def test_typer_sees_the_options_of_a_group() -> None:
    """They are in the help, and their values are checked."""
    code, text = run("--help")
    assert code == 0
    for part in ("-w, --width", "In columns.", "--height", "In rows.", "--loud"):
        assert part in text
    assert run("x", "--width", "wide")[0] == 2


def test_a_command_without_groups_stays_as_it_is() -> None:
    """Nothing is wrapped for nothing."""

    def plain(name: str) -> None:
        typer.echo(name)

    assert grouped(plain) is plain

"""The table of commands, and the one place that shows errors and chooses the exit code."""

import os
import sys
from collections.abc import Callable, Container, Sequence
from functools import wraps
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from musicgen_cli._version import __version__
from musicgen_cli.cli.option_groups import grouped
from musicgen_cli.errors import MusicgenError, StoppedError

# Each name is a module of `commands` (`import_` for `import`), with a function `command`, or for a group a table
# `commands`.
COMMANDS = {
    "generate": "Make one or more takes and keep each.",
    "batch": "Make many takes, unattended; resumable.",
    "list": "Show what is stored, newest first.",
    "show": "Show all that is known of a take, or a set's takes.",
    "play": "Play takes through a player of this machine.",
    "export": "Copy stored takes to files.",
    "tag": "Add tags to takes, or remove them.",
    "rm": "Remove takes, or bring one back.",
    "import": "Take in WAV files, or another store.",
    "gallery": "Make a page of takes, to look at and listen to.",
    "job": "Takes that are made in the background.",
    "model": "Model weights on this machine.",
    "store": "Care of the store.",
    "serve": "Serve the model over HTTP until stopped.",
    "mcp": "Tools for assistants over stdio.",
    "doctor": "Look for what is broken; exit 1 if something is.",
}


def run(words: Sequence[str]) -> int:
    """
    Run one command line.

    Args:
        words: The arguments after the program's name.

    Returns:
        The exit code; nothing is raised but bugs.
    """
    # Typer reads the options of every command it is given; a script that loops over one shouldn't pay for the others.
    wanted = [next((word for word in words if not word.startswith("-")), "")]
    try:
        code = build_app(wanted)(list(words) or ["--help"], prog_name="musicgen", standalone_mode=False)
    except TyperException as err:  # what the option parser refuses
        from musicgen_cli.text import printable

        typer.echo(f"error: {printable(err.format_message())}", err=True)
        typer.echo("hint: musicgen --help, or musicgen COMMAND --help", err=True)
        return err.exit_code
    except SystemExit as err:
        if isinstance(err.__context__, BrokenPipeError):  # Typer's answer to `musicgen --help | head -1`
            return 0
        raise
    return code if isinstance(code, int) else 0


def build_app(wanted: Container[str]) -> typer.Typer:
    """Make the application; of COMMANDS that are not `wanted` it knows the names alone."""
    app = typer.Typer(
        name="musicgen",
        help="Make music from text; every take is kept, with everything that made it.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,  # our own knows the store, and never evaluates what is in it
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_musicgen)
    for name, what in COMMANDS.items():
        if name not in wanted:
            app.command(name, help=what)(_unread)
            continue
        module = import_module(f"musicgen_cli.cli.commands.{name}{'_' * iskeyword(name)}")
        if hasattr(module, "command"):
            app.command(name, help=what)(explained(grouped(module.command)))
        else:
            group = typer.Typer(help=what, rich_markup_mode=None)
            for inner, command in module.commands.items():
                group.command(inner)(explained(command))
            app.add_typer(group, name=name)
    return app


def _unread() -> None:
    raise AssertionError("a command that nobody named was run")


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Show a MusicgenError as one line and one hint, and exit with its code."""

    @wraps(command)
    def run_explained(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as err:
            _fail(StoppedError(), err, **kwargs)
        except BrokenPipeError as err:
            if sys.stdout is not None:  # what is left in its buffer has no reader
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from err
        except MusicgenError as err:
            _fail(err, err, **kwargs)
        except Exception as err:
            if not _was_interrupted(err):
                raise  # a bug shows its traceback
            _fail(StoppedError(), err, **kwargs)

    return run_explained


def _was_interrupted(err: BaseException | None) -> bool:
    """Tell whether Ctrl-C lies beneath an error: compiled modules turn it into an ImportError while they load."""
    while err is not None:
        if isinstance(err, KeyboardInterrupt):
            return True
        err = err.__cause__ or err.__context__
    return False


def _fail(err: MusicgenError, cause: BaseException, *, json_: bool = False, **_: object) -> None:
    from musicgen_cli.cli.output import Output

    Output(as_json=json_).error(err)
    raise typer.Exit(err.exit_code) from cause


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"musicgen-cli {__version__}")
        raise typer.Exit


def _print_completion(shell: str | None) -> None:
    if shell is None:
        return
    from musicgen_cli.cli.completion import SHELLS, script

    if shell not in SHELLS:
        raise typer.BadParameter(f"must be one of {', '.join(SHELLS)}, got {shell[:40]!r}")
    typer.echo(script(shell, build_app(COMMANDS)), nl=False)
    raise typer.Exit


def _musicgen(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    show_completion: Annotated[
        str | None,
        typer.Option(
            "--show-completion",
            metavar="SHELL",
            callback=_print_completion,
            is_eager=True,
            help="Print the completion of bash, zsh or fish.",
        ),
    ] = None,
) -> None:
    pass

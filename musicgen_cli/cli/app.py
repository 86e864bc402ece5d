"""The command line: which commands there are, and how their errors become messages and exit codes."""

import os
import sys
from collections.abc import Callable, Container, Sequence
from functools import wraps
from importlib import import_module
from inspect import getdoc
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from musicgen_cli._version import __version__
from musicgen_cli.cli.option_groups import checked, grouped
from musicgen_cli.errors import MusicgenError, StoppedError, UsageError, system_reason

# The first line of each command's help; the rest is in its docstring. A command's name is that of its module in
# `commands`, except for those in ALIASES and _MODULES; the module has a function `command`, or for a group a dictionary
# `commands`.
COMMANDS = {
    "generate": "Make one or more takes and store each.",
    "batch": "Make a take of each row of a file; resumable.",
    "list": "List stored takes, newest first.",
    "ls": "The same as `list`.",
    "show": "Show a take, or list the takes of a variation set.",
    "play": "Play takes one after the other; Ctrl-C stops.",
    "export": "Copy stored takes to files.",
    "tag": "Add tags to takes, or remove tags from them.",
    "name": "Give a take a name.",
    "rm": "Remove takes, or restore removed ones.",
    "undo": "Restore removed takes, as `rm --undo` does.",
    "import": "Import sound files, or the takes of another store.",
    "gallery": "Make an HTML page with players for takes.",
    "job": "Manage takes that are made in the background.",
    "model": "Manage the models on this machine.",
    "store": "Inspect and maintain the store.",
    "serve": "Serve a model over HTTP until stopped.",
    "mcp": "Serve the commands as MCP tools over stdio.",
    "doctor": "Check the installation; exit 1 if something is broken.",
}
ALIASES = {"ls": "list"}  # other names of commands
_MODULES = {"import": "import_"}  # where the name is a word of Python


def run(argv: Sequence[str]) -> int:
    """
    Run one command line.

    Args:
        argv: The arguments after the program's name.

    Returns:
        The exit code. Only a bug raises an exception.
    """
    # Only the module of the command that is run is imported: a script that runs `list` in a loop needs no other.
    name = next((word for word in argv if not word.startswith("-")), "")
    try:
        code = build_app([name])(list(argv) or ["--help"], prog_name="musicgen", standalone_mode=False)
    except TyperException as err:  # raised by Typer's parser
        from musicgen_cli.cli.output import Output

        message = err.format_message()
        quoting = "quote what has blanks; " if "extra argument" in message else ""
        Output().error(UsageError(message, hint=f"{quoting}musicgen --help, or musicgen COMMAND --help"))
        return err.exit_code
    except SystemExit as err:
        if isinstance(err.__context__, BrokenPipeError):  # raised by Typer for `musicgen --help | head -1`
            return 0
        raise
    except OSError as err:  # raised by what Typer prints itself, such as a help text; commands raise none
        return _drop_unwritten(err)
    return code if isinstance(code, int) else 0


def build_app(names: Container[str]) -> typer.Typer:
    """Make the application; of COMMANDS that are not among `names` only the help is there, not their options."""
    app = typer.Typer(
        name="musicgen",
        help="Make music from text and store every take with its prompt and parameters.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,  # `cli.completion` is used: it completes ids and tags, and never evaluates them
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_musicgen)
    for name, summary in COMMANDS.items():
        if name not in names:
            app.command(name, help=summary)(_not_imported)
            continue
        original = ALIASES.get(name, name)
        module = import_module(f"musicgen_cli.cli.commands.{_MODULES.get(original, original)}")
        if hasattr(module, "command"):
            app.command(name, help=_help(summary, module.command))(_presented(module.command))
        else:
            group = typer.Typer(help=summary, rich_markup_mode=None)
            for inner, command in module.commands.items():
                group.command(inner)(_presented(command))
            app.add_typer(group, name=name)
    return app


def _presented(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command as Typer gets it."""
    return report_errors(checked(grouped(command)))


def _help(summary: str, command: Callable[..., None]) -> str:
    """Return a summary, followed by what a command's docstring says after its first paragraph."""
    _, _, details = (getdoc(command) or "").partition("\n\n")
    return f"{summary}\n\n{details}" if details else summary


def _not_imported() -> None:
    raise AssertionError("a command was run whose module was not imported")


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that a MusicgenError is printed as one line and one hint, and becomes the exit code."""

    @wraps(command)
    def run_command(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt as err:
            _fail(StoppedError(), err, **kwargs)
        except BrokenPipeError as err:
            _drop_output()
            raise typer.Exit(0) from err
        except MusicgenError as err:
            _fail(err, err, **kwargs)
        except Exception as err:
            if _was_interrupted(err):
                _fail(StoppedError(), err, **kwargs)
            if isinstance(err, OSError):
                _fail(_explained(err), err, **kwargs)
            raise  # a bug, which shows its traceback

    return run_command


def flush_output() -> int:
    """Write what is left of standard output, and return the exit code: 1 if that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as err:
        return _drop_unwritten(err)
    return 0


def _drop_unwritten(err: OSError) -> int:
    """Give up what is left of standard output, and return the exit code: 1 with a message, 0 if nobody reads it."""
    from musicgen_cli.cli.output import Output, is_reader_gone, unwritable

    _drop_output()
    if is_reader_gone(err):
        return 0
    Output().error(unwritable(err))
    return 1


def _drop_output() -> None:
    """Let what is left of standard output be written to nowhere, as its reader is gone or its disk is full."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(err: OSError) -> MusicgenError:
    """Turn an error of the system that no action has explained into a sentence."""
    reason = system_reason(err)
    where = "" if err.filename is None else f"can't use {os.fsdecode(err.filename)!r}: "
    return MusicgenError(f"{where}{reason}")


def _was_interrupted(err: BaseException | None) -> bool:
    """Tell whether Ctrl-C caused an error: compiled modules turn it into an ImportError while they load."""
    while err is not None:
        if isinstance(err, KeyboardInterrupt):
            return True
        err = err.__cause__ or err.__context__
    return False


def _fail(err: MusicgenError, cause: BaseException, *, json_: bool = False, **_: object) -> None:
    from musicgen_cli.cli.output import Output

    Output(as_json=json_).error(err)
    raise typer.Exit(err.exit_code) from cause


def _print_version(is_set: bool) -> None:
    if is_set:
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
            help="Print the completion script for bash, zsh, fish or powershell.",
        ),
    ] = None,
) -> None:
    pass

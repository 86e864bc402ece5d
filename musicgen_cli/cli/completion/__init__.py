"""
Completion in the shell.

`tree` walks the commands; `bash`, `zsh` and `fish` write each shell's script from it, so that commands and options
complete without starting Python. For what only this machine knows the scripts start `musicgen` with
`_MUSICGEN_COMPLETE` set, and `values` answers before anything else is loaded. What it prints is data: prompts and tags
are anybody's, so no script evaluates it or lets it be expanded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

SHELLS = ("bash", "zsh", "fish")


def script(shell: str, app: typer.Typer) -> str:
    """Write the script with which one of SHELLS completes all commands of `app`."""
    from importlib import import_module

    from musicgen_cli.cli.completion.tree import command_of

    write = import_module(f"musicgen_cli.cli.completion.{shell}").script
    return str(write(command_of(app)))

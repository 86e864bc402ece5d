"""
Shell completion for bash, zsh, fish and PowerShell.

`tree` describes the commands, and a module for each shell writes its script from that, so that commands and options
complete without starting Python. For values that are on this machine, such as ids, the scripts start `musicgen`
with `_MUSICGEN_COMPLETE` set, and `values` prints them before anything else is loaded. Prompts and tags are
untrusted, so no script evaluates or expands what is printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

SHELLS = ("bash", "zsh", "fish", "powershell")


def script(shell: str, app: typer.Typer) -> str:
    """Write the script that completes all commands of `app` in one of SHELLS."""
    from importlib import import_module

    from musicgen_cli.cli.completion.tree import command_of

    write = import_module(f"musicgen_cli.cli.completion.{shell}").script
    return str(write(command_of(app)))

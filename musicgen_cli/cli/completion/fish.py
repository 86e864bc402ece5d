"""Writes the completion script for fish 3.1 and newer."""

from __future__ import annotations

from musicgen_cli.cli.completion.tree import Command, Option, Value

# Fish expands the arguments of `-a`, all of which are written in this file, but not the output of command substitutions
# in them; and it quotes what it inserts.
_FUNCTIONS = r"""
function __musicgen_at --description 'Succeed if this command is being typed'
    # No option takes a value before the command's name.
    set -l named (string match --invert -- '-*' (commandline -opc)[2..-1])
    set -l depth (count $argv)
    test (count $named) -ge $depth; and test "$named[1..$depth]" = "$argv"
end

function __musicgen_at_group --description 'Succeed if the name of a command in this group comes next'
    test "$(string match --invert -- '-*' (commandline -opc)[2..-1])" = "$argv"
end

function __musicgen_stored --description 'Print values from this machine'
    set -l words (commandline -opc) (commandline -ct)
    set -l program musicgen
    if string match -q '*/*' -- $words[1]
        set program (string replace -r '^~/' $HOME/ -- $words[1])
    end
    _MUSICGEN_COMPLETE=$argv[1] command $program $words[2..-1] 2>/dev/null </dev/null
    if test "$argv[2]" = dirs; and string match -q '*/*' -- $words[-1]
        __fish_complete_directories $words[-1]
    else if test "$argv[2]" = files
        __fish_complete_path $words[-1]
    end
end

complete -c musicgen -e
complete -c musicgen -f
"""


def script(musicgen: Command) -> str:
    """Write the script."""
    lines = ["# Completes musicgen in fish; made by `musicgen --show-completion fish`.", _FUNCTIONS.rstrip()]
    for command in musicgen.walk():
        lines.append("")
        if command.commands or not command.path:
            condition = _quote(" ".join(["__musicgen_at_group", *command.path]))
            lines += [
                f"complete -c musicgen -n {condition} -a {inner.path[-1]} -d {_quote(inner.help)}"
                for inner in command.commands
            ]
        else:
            condition = _quote(" ".join(["__musicgen_at", *command.path]))
            values = filter(None, map(_value, command.arguments))
            lines += [f"complete -c musicgen -n {condition} {value}" for value in values]
        for option in command.options:
            lines += [f"complete -c musicgen -n {condition} {flag}" for flag in _option(option)]
    return "\n".join(lines) + "\n"


def _option(option: Option) -> list[str]:
    value = f" -r {_value(option.value) or '-f'}" if option.value else ""
    # A long name shares its line with the short one; of a switch's two long names each has a line.
    short = [f"-s {flag[1:]}" for flag in option.flags if len(flag) == 2]
    names = [f"-l {flag[2:]}" for flag in option.flags if flag.startswith("--")] or [""]
    names[0] = " ".join([*short, names[0]]).rstrip()
    return [f"{name}{value} -d {_quote(option.help)}" for name in names]


def _value(value: Value) -> str:
    if value.choices:
        return f"-f -a {_quote(' '.join(value.choices))}"
    if value.stored:
        return f"-f -k -a {_quote(f'(__musicgen_stored {value.stored} {value.paths}'.rstrip() + ')')}"
    return {"files": "-F", "dirs": "-f -a '(__fish_complete_directories (commandline -ct))'"}.get(value.paths, "")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

"""Writes the completion script for zsh: a function with `_arguments` for each command."""

from __future__ import annotations

from shlex import quote

from musicgen_cli.cli.completion.tree import Command, Option, Value

# `_arguments` evaluates its specifications, all of which are written in this file. The output of `musicgen` is passed
# only to `compadd`, as elements of arrays, and `compadd` quotes what it inserts.
_STORED = r"""
_musicgen_stored() {  # arguments: title, kinds of values, and `dirs` or `files` if these match, too
  local -a values shown listed expl
  local line hint
  for line in "${(@f)$(_MUSICGEN_COMPLETE=$2 command "$musicgen" "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" \
    2>/dev/null </dev/null)}"; do
    [[ -n ${line%%$'\t'*} ]] || continue
    hint=${line#*$'\t'}
    [[ -z $hint ]] || listed=(-l)
    values+=("${line%%$'\t'*}")
    shown+=("${line%%$'\t'*}${hint:+  -- $hint}")
  done
  _wanted -V musicgen expl "$1" compadd "${listed[@]}" -d shown -a -- values && return
  [[ $3 != dirs ]] || _files -/
  [[ $3 != files ]] || _files
}

_musicgen() {
  local curcontext=$curcontext context state state_descr line musicgen=${(Q)words[1]}
  typeset -A opt_args
  [[ $musicgen == */* ]] || musicgen=musicgen
  [[ $musicgen != '~/'* ]] || musicgen=$HOME/${musicgen#'~/'}
  _musicgen:
}

if [[ $funcstack[1] == _musicgen ]]; then
  _musicgen "$@"
else
  compdef _musicgen musicgen
fi
"""


def script(musicgen: Command) -> str:
    """Write the script; its first line must be `#compdef`."""
    lines = ["#compdef musicgen", "", "# Completes musicgen in zsh; made by `musicgen --show-completion zsh`."]
    for command in musicgen.walk():
        lines += ["", *_function(command)]
    return "\n".join([*lines, _STORED])


def _function(command: Command) -> list[str]:
    # No command has a colon in its name, so the names of functions can't collide.
    name = "_musicgen:" + ":".join(command.path)
    specs = [quote(spec) for option in command.options for spec in _option(option)]
    for i, argument in enumerate(command.arguments):
        is_many = command.is_last_repeatable and i == len(command.arguments) - 1
        # Without the guard a message alone would keep options from being offered.
        action = f'_guard "^-*" {argument.title}' if argument.is_free else _action(argument)
        specs.append(quote(f"{'*' if is_many else i + 1}:{argument.title}:{action}"))
    if command.commands:
        specs += ["'1:command:->command'", "'*::argument:->rest'"]
    lines = [f"{name}() {{", " \\\n    ".join(["  _arguments -C -s -S", *specs])]
    if command.commands:
        described = [quote(f"{inner.path[-1]}:{inner.help}") for inner in command.commands]
        names = " | ".join(inner.path[-1] for inner in command.commands)
        lines[1] += " && return"
        lines += [
            "  case $state in",
            "    command)",
            *["      " + " \\\n        ".join(["local -a commands=(", *described, ")"])],
            "      _describe -t commands command commands",
            "      ;;",
            "    rest)",
            "      curcontext=${curcontext%:*:*}:musicgen-$words[1]:",
            f"      case $words[1] in {names}) {name}{':' * bool(command.path)}$words[1] ;; esac",
            "      ;;",
            "  esac",
        ]
    return [*lines, "}"]


def _option(option: Option) -> list[str]:
    excluded = "*" if option.is_repeatable else f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    escaped = option.help
    for char in "\\[]:":
        escaped = escaped.replace(char, "\\" + char)
    specs = []
    for flag in option.flags:
        joined = "" if option.value is None else "=" if flag.startswith("--") else "+"
        value = f":{option.value.title}:{_action(option.value)}" if option.value else ""
        specs.append(f"{excluded}{flag}{joined}[{escaped}]{value}")
    return specs


def _action(value: Value) -> str:
    if value.choices:
        return f"({' '.join(value.choices)})"
    if value.stored:  # because of the leading space `_arguments` adds no options of its own
        return f" _musicgen_stored {value.title} {value.stored} {value.paths}".rstrip()
    return {"files": "_files", "dirs": "_files -/"}.get(value.paths, " ")

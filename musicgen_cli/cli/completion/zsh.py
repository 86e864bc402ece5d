"""The script for zsh: an `_arguments` line for each command."""

from __future__ import annotations

from shlex import quote

from musicgen_cli.cli.completion.tree import Command, Option, Value

# `_arguments` evaluates its specifications, which are all written here; what `musicgen` prints only ever reaches
# `compadd`, as elements of arrays, and that quotes what it inserts.
_STORED = r"""
_musicgen_stored() {  # a title, what is asked for, and whether a folder will do
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
    """Write the script; `#compdef` must be its very first line."""
    lines = ["#compdef musicgen", "", "# Completes musicgen in zsh; made by `musicgen --show-completion zsh`."]
    for command in musicgen.walk():
        lines += ["", *_function(command)]
    return "\n".join([*lines, _STORED])


def _function(command: Command) -> list[str]:
    # A colon is in no command's name, so no name of a function can collide with another.
    name = "_musicgen:" + ":".join(command.path)
    specs = [quote(spec) for option in command.options for spec in _option(option)]
    for i, place in enumerate(command.places):
        is_many = command.is_last_repeatable and i == len(command.places) - 1
        # A message alone would keep options from being offered, but for this guard.
        action = f'_guard "^-*" {place.title}' if place.is_free else _action(place)
        specs.append(quote(f"{'*' if is_many else i + 1}:{place.title}:{action}"))
    if command.commands:
        specs += ["'1:command:->command'", "'*::argument:->rest'"]
    lines = [f"{name}() {{", " \\\n    ".join(["  _arguments -C -s -S", *specs])]
    if command.commands:
        described = [quote(f"{inner.path[-1]}:{inner.help}") for inner in command.commands]
        known = " | ".join(inner.path[-1] for inner in command.commands)
        lines[1] += " && return"
        lines += [
            "  case $state in",
            "    command)",
            *["      " + " \\\n        ".join(["local -a commands=(", *described, ")"])],
            "      _describe -t commands command commands",
            "      ;;",
            "    rest)",
            "      curcontext=${curcontext%:*:*}:musicgen-$words[1]:",
            f"      case $words[1] in {known}) {name}{':' * bool(command.path)}$words[1] ;; esac",
            "      ;;",
            "  esac",
        ]
    return [*lines, "}"]


def _option(option: Option) -> list[str]:
    excluded = "*" if option.is_repeatable else f"({' '.join(option.flags)})" if len(option.flags) > 1 else ""
    explained = option.help
    for char in "\\[]:":
        explained = explained.replace(char, "\\" + char)
    specs = []
    for flag in option.flags:
        joined = "" if option.value is None else "=" if flag.startswith("--") else "+"
        value = f":{option.value.title}:{_action(option.value)}" if option.value else ""
        specs.append(f"{excluded}{flag}{joined}[{explained}]{value}")
    return specs


def _action(value: Value) -> str:
    if value.choices:
        return f"({' '.join(value.choices)})"
    if value.stored:  # the blank before it: without the options that `_arguments` would add
        return f" _musicgen_stored {value.title} {value.stored} {value.paths}".rstrip()
    return {"files": "_files", "dirs": "_files -/"}.get(value.paths, " ")

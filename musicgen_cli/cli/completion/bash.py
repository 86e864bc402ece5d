"""Writes the completion script for bash 3.2 and newer; it needs no other package."""

from __future__ import annotations

from shlex import quote

from musicgen_cli.cli.completion.tree import Command, Value

# A small lexer splits the line into words: in COMP_WORDS they are cut at colons and keep their quotes, which would be
# harder to undo without `eval`. `head` is the part of the current word before the part that readline will replace;
# readline starts the latter after a quote and after any character of COMP_WORDBREAKS. The functions share the variables
# of `_musicgen` by dynamic scope.
_ENGINE = r"""
_musicgen_read() {
  local line=${COMP_LINE:0:COMP_POINT} char i begun=
  words=() word= head= quote= closed= redirected=
  for ((i = 0; i < ${#line}; i++)); do
    char=${line:i:1}
    if [[ $char == \\ && $quote != "'" ]]; then
      i=$((i + 1))
      word+=${line:i:1} begun=1
    elif [[ -n $quote ]]; then
      if [[ $char == "$quote" ]]; then quote= closed=1; else word+=$char; fi
    elif [[ $char == [\'\"] ]]; then
      quote=$char head=$word begun=1
    elif [[ $char == [[:space:]] ]]; then
      [[ -z $begun || -n $redirected ]] || words+=("$word")
      [[ -z $begun ]] || redirected=
      word= head= closed= begun=
    elif [[ $char == [\<\>] ]]; then
      word= head= begun= redirected=1
    else
      word+=$char begun=1
      [[ $COMP_WORDBREAKS != *"$char"* ]] || head=$word
    fi
  done
}

# Offer one value, quoted for the line, if it starts with the word that is being completed.
_musicgen_offer() {
  local value=$prefix$1 hint=$2 rest
  [[ $value == "$word"* && $value == "$head"* ]] || return 0
  rest=${value:${#head}}
  [[ -n $rest ]] || return 0
  case $quote in
    '')
      printf -v rest %q "$rest"
      [[ $rest != \$\'* ]] || return 0 # not printable in this locale
      ;;
    "'") [[ $rest != *\'* ]] || return 0 ;;
    *) [[ $rest != *[\"\$\`\\!]* ]] || return 0 ;;
  esac
  COMPREPLY+=("$rest")
  hints+=("$hint")
}

_musicgen_offer_stored() {
  local value hint i
  [[ $program == */* ]] || program=musicgen
  case $program in '~/'*) program=$HOME/${program#'~/'} ;; esac
  while IFS=$'\t' read -r value hint; do
    _musicgen_offer "$value" "$hint"
  done <<<"$(_MUSICGEN_COMPLETE=$stored command "$program" "${words[@]:1}" "${word#"$prefix"}" 2>/dev/null </dev/null)"
  # Hints are only for lists of candidates: readline inserts what all candidates have in common, or with some keys a
  # whole candidate. Ids alone get hints, as they differ before their hints start.
  [[ ${#COMPREPLY[@]} -gt 1 && " 9 33 63 64 " == *" $COMP_TYPE "* ]] || return 0
  for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
    [[ ${COMPREPLY[i]#artifact_} == *[!0-9a-f-]* ]] || COMPREPLY[i]+=${hints[i]:+  (${hints[i]})}
  done
}

_musicgen() {
  local IFS=$' \t\n' program=$1 words word head quote closed redirected hints=() each
  local command= option= prefix= only_arguments= argument=0
  local commands options offered= stored paths choices
  COMPREPLY=()
  _musicgen_read
  for each in "${words[@]:1}"; do
    if [[ -n $option ]]; then
      option=
    elif [[ -z $only_arguments && $each == -- ]]; then
      only_arguments=1
    elif [[ -z $only_arguments && $each == -?* ]]; then
      ! _musicgen_takes "$command $each" || option=$each
    elif _musicgen_knows "${command:+$command }$each"; then
      command=${command:+$command }$each
    else
      argument=$((argument + 1))
    fi
  done

  stored= paths= choices=
  _musicgen_knows "$command"
  if [[ -n $redirected ]]; then
    paths=files
  elif [[ -n $option ]]; then
    _musicgen_takes "$command $option"
  elif [[ -z $only_arguments && $word == --*=* ]]; then
    prefix=${word%%=*}=
    _musicgen_takes "$command ${word%%=*}"
  elif [[ -z $only_arguments && $word == -* ]]; then
    offered=$options
  elif [[ -n $commands ]]; then
    offered=$commands
  elif ! _musicgen_takes "$command @$argument" && [[ -z $only_arguments ]]; then
    offered=$options
  fi

  compopt -o nosort 2>/dev/null
  # Where nothing matches, bash itself completes files; before bash 4 that can't be turned off.
  [[ $paths == files ]] || compopt +o default 2>/dev/null
  [[ $paths != dirs ]] || compopt -o dirnames 2>/dev/null
  [[ -z $closed ]] || return 0 # `"al"bu`: it is unknown which part readline would replace
  for each in $offered $choices; do
    _musicgen_offer "$each"
  done
  [[ -z $stored ]] || _musicgen_offer_stored
  return 0
}

complete -o default -F _musicgen musicgen
"""


def script(musicgen: Command) -> str:
    """Write the script."""
    return "\n".join(
        [
            "# Completes musicgen in bash; made by `musicgen --show-completion bash`.",
            "",
            "# Succeed for a known command; set the commands and options that may follow it.",
            *_function("_musicgen_knows", _commands(musicgen)),
            "",
            "# Succeed for an option or argument that takes a value; set what completes the value.",
            *_function("_musicgen_takes", _values(musicgen)),
            _ENGINE,
        ]
    )


def _function(name: str, cases: dict[str, list[str]]) -> list[str]:
    """Write a shell function that runs assignments, chosen by patterns of its argument."""
    lines = [f"{name}() {{", "  case $1 in"]
    for assignments, patterns in cases.items():
        lines += [f"    {' | '.join(patterns)})", *([f"      {assignments}"] if assignments else []), "      ;;"]
    return [*lines, "    *) return 1 ;;", "  esac", "}"]


def _commands(musicgen: Command) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    for command in musicgen.walk():
        commands = " ".join(inner.path[-1] for inner in command.commands)
        options = " ".join(flag for option in command.options for flag in option.flags)
        cases.setdefault(f"commands={quote(commands)} options={quote(options)}", []).append(quote(command.name))
    return cases


def _values(musicgen: Command) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    for command in musicgen.walk():
        for option in command.options:
            if option.value:
                names = [quote(f"{command.name} {flag}") for flag in option.flags]
                cases.setdefault(_assignments(option.value), []).extend(names)
        for i, argument in enumerate(command.arguments):
            is_many = command.is_last_repeatable and i == len(command.arguments) - 1
            name = quote(f"{command.name} @") + "*" if is_many else quote(f"{command.name} @{i}")
            cases.setdefault(_assignments(argument), []).append(name)
    return cases


def _assignments(value: Value) -> str:
    variables = {"stored": value.stored, "paths": value.paths, "choices": " ".join(value.choices)}
    return " ".join(f"{name}={quote(text)}" for name, text in variables.items() if text)

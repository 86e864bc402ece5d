"""The script for bash, 3.2 and newer, which needs no other package."""

from __future__ import annotations

from shlex import quote

from musicgen_cli.cli.completion.tree import Command, Value

# What is typed is read by a small lexer of our own: COMP_WORDS is cut at colons and keeps quotes, and to undo either
# without `eval` takes more. `head` is what of the current word stands before the part that readline will replace, and
# readline starts that part after a quote and after any of COMP_WORDBREAKS. The names are found by dynamic scope.
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

# Offer one value, if it goes on as the word does, in the form in which it can stand in the line.
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
  # Hints are for the list alone. Readline inserts what all candidates have in common, at times in another case, and
  # some ways of completing insert a whole candidate; the digits of ids differ before their hints start.
  [[ ${#COMPREPLY[@]} -gt 1 && " 9 33 63 64 " == *" $COMP_TYPE "* ]] || return 0
  for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
    [[ ${COMPREPLY[i]#artifact_} == *[!0-9a-f-]* ]] || COMPREPLY[i]+=${hints[i]:+  (${hints[i]})}
  done
}

_musicgen() {
  local IFS=$' \t\n' program=$1 words word head quote closed redirected hints=() each
  local command= option= prefix= only_places= place=0
  local commands options offered= stored paths choices
  COMPREPLY=()
  _musicgen_read
  for each in "${words[@]:1}"; do
    if [[ -n $option ]]; then
      option=
    elif [[ -z $only_places && $each == -- ]]; then
      only_places=1
    elif [[ -z $only_places && $each == -?* ]]; then
      ! _musicgen_takes "$command $each" || option=$each
    elif _musicgen_knows "${command:+$command }$each"; then
      command=${command:+$command }$each
    else
      place=$((place + 1))
    fi
  done

  stored= paths= choices=
  _musicgen_knows "$command"
  if [[ -n $redirected ]]; then
    paths=files
  elif [[ -n $option ]]; then
    _musicgen_takes "$command $option"
  elif [[ -z $only_places && $word == --*=* ]]; then
    prefix=${word%%=*}=
    _musicgen_takes "$command ${word%%=*}"
  elif [[ -z $only_places && $word == -* ]]; then
    offered=$options
  elif [[ -n $commands ]]; then
    offered=$commands
  elif ! _musicgen_takes "$command @$place" && [[ -z $only_places ]]; then
    offered=$options
  fi

  compopt -o nosort 2>/dev/null
  # Where nothing matches bash completes files by itself, and does that best; before bash 4 it can't be told not to.
  [[ $paths == files ]] || compopt +o default 2>/dev/null
  [[ $paths != dirs ]] || compopt -o dirnames 2>/dev/null
  [[ -z $closed ]] || return 0 # `"al"bu`: no telling what readline will replace
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
            "# Tell whether a command is one, and which commands and options may follow it.",
            *_function("_musicgen_knows", _following(musicgen)),
            "",
            "# Tell whether an option, or a place after a command, takes a value, and of which kind.",
            *_function("_musicgen_takes", _values(musicgen)),
            _ENGINE,
        ]
    )


def _function(name: str, cases: dict[str, list[str]]) -> list[str]:
    """Write a function that sets variables, by what its argument is."""
    lines = [f"{name}() {{", "  case $1 in"]
    for does, patterns in cases.items():
        lines += [f"    {' | '.join(patterns)})", *([f"      {does}"] if does else []), "      ;;"]
    return [*lines, "    *) return 1 ;;", "  esac", "}"]


def _following(musicgen: Command) -> dict[str, list[str]]:
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
        for i, place in enumerate(command.places):
            is_many = command.is_last_repeatable and i == len(command.places) - 1
            name = quote(f"{command.name} @") + "*" if is_many else quote(f"{command.name} @{i}")
            cases.setdefault(_assignments(place), []).append(name)
    return cases


def _assignments(value: Value) -> str:
    known = {"stored": value.stored, "paths": value.paths, "choices": " ".join(value.choices)}
    return " ".join(f"{name}={quote(text)}" for name, text in known.items() if text)

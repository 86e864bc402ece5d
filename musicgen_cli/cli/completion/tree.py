"""Describes the commands for completion: their names, their options, and which values these and arguments take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from musicgen_cli.cli.app import ALIASES
from musicgen_cli.cli.completion import SHELLS
from musicgen_cli.cli.option_groups import any_number, path, whole_number

_NUMBERS = {any_number.__name__, whole_number.__name__}  # what Typer calls the types of options that these read


@dataclass(frozen=True, slots=True)
class Value:
    """
    Which values an option or an argument can have.

    Attributes:
        title: A word for the value, in capitals.
        stored: The kinds of `values.KINDS` that complete it, joined by commas.
        paths: `files` or `dirs` if these complete it where nothing stored matches, else "".
        choices: All possible values, if these are fixed.
    """

    title: str = "VALUE"
    stored: str = ""
    paths: str = ""
    choices: tuple[str, ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether there is nothing to complete the value with."""
        return not (self.stored or self.paths or self.choices)


FREE = Value()
FILES, DIRS = Value(paths="files"), Value(paths="dirs")
TAKES, TAGS, SETS = Value(stored="takes"), Value(stored="tags"), Value(stored="sets")
TAKES_OR_FILES = Value(stored="takes", paths="files")
TAKES_OR_SETS = Value(stored="takes,sets")
JOBS, CREATORS = Value(stored="jobs"), Value(stored="creators")
MODELS = Value(stored="models", paths="dirs")

# Keys are an option's long name, or an argument's name in the code, after the names of its group or command where
# these make a difference. Three kinds need no entry: numbers, which can't be completed; parameters of type Path, which
# are files unless there is an entry; and metavars such as `any|all`, which list the choices.
VALUES = {
    "show-completion": Value(choices=SHELLS),
    "id_": TAKES,
    "ids": TAKES_OR_SETS,
    "parent": TAKES,
    "from": TAKES,
    "continue": TAKES_OR_FILES,
    "melody": TAKES_OR_FILES,
    "undo ids": Value(stored="removed"),
    "rm ids": Value(stored="removable,sets"),
    "show id_": TAKES_OR_SETS,
    "job id_": JOBS,
    "job ids": JOBS,
    "tag": TAGS,
    "add": TAGS,
    "rm": TAGS,
    "set": SETS,
    "variation-set": SETS,
    "creator": CREATORS,
    "model": MODELS,
    "list model": Value(stored="makers"),
    "gallery model": Value(stored="makers"),
    "model pull name": Value(stored="published", paths="dirs"),
    "model show name": Value(stored="here", paths="dirs"),
    "model check name": Value(stored="here", paths="dirs"),
    "model names": Value(stored="pulled"),
    "store": DIRS,
    "output": FILES,
    "file": FILES,
    "api-key-file": FILES,
    **dict.fromkeys(("prompt", "search", "since", "until", "export name", "sweep", "run", "words"), FREE),
    **dict.fromkeys(("url", "host", "allow-host", "api-key", "revision"), FREE),
}


@dataclass(frozen=True, slots=True)
class Option:
    """An option. A switch has no `value`; of the flags only one can be used at a time, unless it is repeatable."""

    flags: tuple[str, ...]
    help: str
    value: Value | None = None
    is_repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of commands; `path` is the words after `musicgen`."""

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    arguments: tuple[Value, ...] = ()
    is_last_repeatable: bool = False
    commands: tuple[Command, ...] = ()
    unknown: tuple[str, ...] = ()  # parameters that need an entry in VALUES

    @property
    def name(self) -> str:
        """The words after `musicgen`, as they are typed."""
        return " ".join(self.path)

    def walk(self) -> Iterator[Command]:
        """Yield this command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def command_of(app: typer.Typer) -> Command:
    """Describe an application whose commands are all imported."""
    return _command(typer.main.get_command(app), ())


def _command(command: object, words: tuple[str, ...]) -> Command:
    assert isinstance(command, TyperCommand | TyperGroup)  # Typer makes no others
    inner = command.commands if isinstance(command, TyperGroup) else {}
    options: list[Option] = []
    arguments: list[Value] = []
    unknown: list[str] = []
    is_last_repeatable = False
    for parameter in command.params:
        assert isinstance(parameter, TyperOption | TyperArgument)
        if parameter.hidden:
            continue
        is_switch = isinstance(parameter, TyperOption) and parameter.is_flag
        value = None if is_switch else _value(parameter, words)
        if value is None and not is_switch:
            unknown.append(" ".join((*words, _name(parameter))))
            value = FREE
        if isinstance(parameter, TyperOption):
            flags = (*parameter.opts, *parameter.secondary_opts)
            options.append(Option(flags, _sentence(parameter.help), value, parameter.multiple))
        else:
            arguments.append(value or FREE)
            is_last_repeatable = parameter.nargs == -1
    options.append(Option(("-h", "--help"), "Show help and exit."))
    return Command(
        words,
        _sentence(command.help),
        tuple(options),
        tuple(arguments),
        is_last_repeatable,
        tuple(_command(below, (*words, name)) for name, below in inner.items() if not below.hidden),
        tuple(unknown),
    )


def _value(parameter: TyperOption | TyperArgument, command: tuple[str, ...]) -> Value | None:
    """Return what completes the value of a parameter, or None if VALUES lacks an entry for it."""
    name = _name(parameter)
    own_title = name.strip("_").upper()
    title = re.sub(r"[^A-Z]", "", (parameter.metavar or "").split("|")[0]) or own_title
    choices = tuple(getattr(parameter.type, "choices", ()))
    if not choices and re.fullmatch(r"[a-z0-9]+(\|[a-z0-9]+)+", parameter.metavar or ""):
        choices = tuple(str(parameter.metavar).split("|"))
    if choices:
        return Value(own_title, choices=choices)
    words = tuple(ALIASES.get(word, word) for word in command)
    for i in range(len(words), -1, -1):
        value = VALUES.get(" ".join((*words[:i], name)))
        if value is not None:
            return replace(value, title=title)
    if parameter.type.name == path.__name__:
        return Value(title, paths="files")
    return Value(own_title) if parameter.type.name in _NUMBERS else None


def _name(parameter: TyperOption | TyperArgument) -> str:
    """Return an option's long name without its dashes, or an argument's name in the code."""
    return max(parameter.opts, key=len).lstrip("-")


def _sentence(text: str | None) -> str:
    """Return the first line."""
    return (text or "").strip().partition("\n")[0]

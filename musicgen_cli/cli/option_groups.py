"""
Groups of options: a command takes one object for each group instead of a parameter for each option.

    def command(prompt: ..., engine: options.EngineOptions, json_: options.Json = False) -> None: ...

`grouped` presents the options of each group to Typer as separate parameters. `checked` has every
option and argument of a command read and checked in the same way.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

_MAY_BE_EMPTY = {"prompt", "search", "words"}  # no prompt, any text, no name
_MOST_DIGITS = 30  # more than any range allows


class OptionGroup:
    """A dataclass whose fields are options, annotated like the parameters of a command, with defaults."""

    @classmethod
    def parameters(cls) -> Sequence[inspect.Parameter]:
        """Return the parameters that Typer makes options of."""
        hints = get_type_hints(cls, include_extras=True)
        return [_parameter(field.name, hints[field.name], field.default) for field in fields(cls)]  # type: ignore[arg-type]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=annotation,
    )


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is an option group by the options of the group."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[OptionGroup]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, OptionGroup):
            groups[parameter.name] = parameter.annotation
            parameters += parameter.annotation.parameters()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    if not groups:
        return command

    @wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{parameter.name: values.pop(parameter.name) for parameter in group.parameters()})
        command(**values)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def checked(command: Callable[..., None]) -> Callable[..., None]:
    """
    Have the options and arguments of a command read by `whole_number`, `any_number` and `path`, and empty ones refused.

    What a script passes is empty where its variable isn't set: `rm "$id"` must not be anything else than an error.
    """
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        type_, *annotations = get_args(parameter.annotation) or (None,)
        types = _types_in(type_)
        for info in annotations:
            if not isinstance(info, ParameterInfo):
                continue
            if not types.isdisjoint({int, float}):
                info.parser = whole_number if int in types else any_number
                info.metavar = info.metavar or "N"
            elif Path in types:
                info.parser = path
            elif str in types and parameter.name not in _MAY_BE_EMPTY:
                info.callback = _not_empty
    return command


def _types_in(annotation: Any) -> set[Any]:
    """Return a type and those that it is made of: of `list[int] | None` also `int`."""
    return {annotation}.union(*map(_types_in, get_args(annotation)))


def _not_empty(value: Any) -> Any:
    if "" in (value if isinstance(value, list) else [value]):
        raise typer.BadParameter("must not be empty")
    return value


def path(text: str | Path) -> Path:
    """
    Read a path.

    Raises:
        typer.BadParameter: It is empty, which would be the current folder.
    """
    return Path(_not_empty(text))


def any_number(text: str | float) -> float:
    """
    Read a number.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return float(text)
    except ValueError as err:
        raise typer.BadParameter(f"must be a number such as 0.5, got {text!r:.40}") from err


def whole_number(text: str | int) -> int:
    """
    Read a whole number; `2.0` is one, as many programs write every number as a float.

    Raises:
        typer.BadParameter: It is another number, or none.
    """
    with suppress(ValueError):
        return int(text)
    from decimal import Decimal, InvalidOperation  # a float would round the larger ones

    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if number.is_infinite() or (number.is_finite() and number.adjusted() >= _MOST_DIGITS):
        raise typer.BadParameter(f"is far too large: {text!r:.40}")
    if number.is_nan() or number != number.to_integral_value():
        raise typer.BadParameter(f"must be a whole number, got {text!r:.40}")
    return int(number)

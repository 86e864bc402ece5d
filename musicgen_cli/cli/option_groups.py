"""
Groups of options: a command takes one object for each group instead of a parameter for each option.

    def command(prompt: ..., engine: options.EngineOptions, json_: options.Json = False) -> None: ...

`grouped` presents the options of each group to Typer as separate parameters.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, get_type_hints


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

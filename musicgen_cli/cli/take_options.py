"""Options of commands that make takes: what a take should sound like, and what its record says."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Annotated, Any

import typer

from musicgen_cli import limits
from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.request_fields import FIELDS, LENGTH_FIELDS, SOUND_FIELDS, RequestField


class RequestOptions(OptionGroup):
    """What a take should sound like: an option for each row of `request_fields` that has one."""

    def __init__(self, **values: Any) -> None:
        """Keep the fields that were given."""
        self.fields = {name: value for name, value in values.items() if value is not None}

    @classmethod
    def parameters(cls) -> Sequence[inspect.Parameter]:
        """Return a parameter for each option."""
        return [_parameter(field) for field in (*FIELDS, *LENGTH_FIELDS) if field.flags]


class SoundOptions(OptionGroup):
    """Which sounds a take is made from."""

    def __init__(self, **values: Any) -> None:
        """Keep the fields that were given, by their names."""
        self.fields = {name.rstrip("_"): value for name, value in values.items() if value is not None}

    @classmethod
    def parameters(cls) -> Sequence[inspect.Parameter]:
        """Return a parameter for each option."""
        return [_parameter(field, "ID|FILE" if field.type is str else None) for field in SOUND_FIELDS]


def _parameter(field: RequestField, metavar: str | None = None) -> inspect.Parameter:
    """Return the parameter of an option; that of `--continue` is `continue_`, as Python has a word `continue`."""
    help_ = f"{field.meaning}. {field.allowed}".strip()
    return inspect.Parameter(
        f"{field.name}_" if iskeyword(field.name) else field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            field.type | None, typer.Option(*field.flags, metavar=metavar, help=help_, show_default=False)
        ],
    )


@dataclass(frozen=True)
class RecordOptions(OptionGroup):
    """What the records of new takes should say, and where their values come from."""

    variations: Annotated[
        int,
        typer.Option(
            "-n",
            "--variations",
            help=f"Number of takes, with seeds counting up. [1; {limits.VARIATIONS}]",
            show_default=False,
        ),
    ] = int(limits.VARIATIONS.default)
    tag: Annotated[list[str] | None, typer.Option("-t", "--tag", help="A tag (repeatable).", show_default=False)] = None
    creator: Annotated[str | None, typer.Option(help=f"Creator name. [{limits.CREATOR}]", show_default=False)] = None
    parent: Annotated[
        str | None, typer.Option(metavar="ID", help="The take that this one comes from.", show_default=False)
    ] = None
    variation_set: Annotated[
        str | None, typer.Option(metavar="ID", help="The variation set to join.", show_default=False)
    ] = None
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="ID",
            help="Use the prompt and the parameters of that take, except for those given here.",
            show_default=False,
        ),
    ] = None

"""Options of commands that make takes: what a take should sound like, and what its record says."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from musicgen_cli import limits
from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.request_fields import FIELDS, LENGTH_FIELDS


class RequestOptions(OptionGroup):
    """What a take should sound like: an option for each row of `request_fields` that has one."""

    def __init__(self, **values: Any) -> None:
        """Keep the fields that were given."""
        self.fields = {name: value for name, value in values.items() if value is not None}

    @classmethod
    def parameters(cls) -> Sequence[inspect.Parameter]:
        """Return a parameter for each option."""
        return [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    field.type | None,
                    typer.Option(*field.flags, help=f"{field.meaning}. {field.allowed}".strip(), show_default=False),
                ],
            )
            for field in (*FIELDS, *LENGTH_FIELDS)
            if field.flags
        ]


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

"""Options that more than one command takes: single ones as Annotated types, and groups as dataclasses."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musicgen_cli import limits
from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.engine import registry
from musicgen_cli.request_fields import FIELDS
from musicgen_cli.text import number

if TYPE_CHECKING:
    from musicgen_cli.actions.engines import EngineConfig
    from musicgen_cli.settings import Settings


StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The store's folder; else MUSICGEN_STORE.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines; errors are JSON, too.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print ids alone, and no progress or notes.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help=f"The service's address; else MUSICGEN_URL. [{limits.DEFAULT_URL}]", show_default=False),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="A model's name or folder. [auto]", show_default=False),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="|".join(registry.ENGINES),
        help=f"The runtime that computes the model; torch can use GPUs. [{registry.DEFAULT_BACKEND}]",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="|".join(registry.DEVICES), help="Where it computes; onnx: cpu only. [auto]",
        show_default=False,
    ),
]  # fmt: skip
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="|".join(registry.PRECISIONS),
        help="Number format of the model. [int8; with torch bf16 on CUDA, else fp32]",
        show_default=False,
    ),
]
Local = Annotated[
    bool | None, typer.Option("--local/--no-local", help="Run the model in this process.", show_default=False)
]
Timeout = Annotated[
    float | None,
    typer.Option(help=f"Deadline of each request in seconds. [{number(limits.TIMEOUT_S)}]", show_default=False),
]
MaxWait = Annotated[
    float | None,
    typer.Option(help=f"Seconds to wait for a busy service, in all. [{number(limits.MAX_WAIT_S)}]", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


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
            for field in FIELDS
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
    creator: Annotated[str | None, typer.Option(help=f"Who makes it. [{limits.CREATOR}]", show_default=False)] = None
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


@dataclass(frozen=True)
class ServiceOptions(OptionGroup):
    """How to reach the service."""

    url: Url = None
    timeout: Timeout = None
    max_wait: MaxWait = None

    @property
    def settings(self) -> dict[str, object]:
        """The options by the names of their settings."""
        return {"url": self.url, "timeout": self.timeout, "max_wait": self.max_wait}


@dataclass(frozen=True)
class LocalOptions(OptionGroup):
    """Whether to run a model in this process, and how."""

    local: Local = None
    model: ModelOption = None
    engine: EngineOption = None
    device: Device = None
    precision: Precision = None

    def load_settings(self, **others: object) -> "Settings":
        """
        Load the settings.

        Args:
            others: Further options by the names of their settings; None where one wasn't given.

        Raises:
            UsageError: An option of a local model was given without `--local`.
            InvalidValueError: As `settings.load`.
        """
        from musicgen_cli import settings
        from musicgen_cli.actions.engines import check_local_options

        loaded = settings.load({"local": self.local, "model": self.model, **others})
        check_local_options(loaded, {"model": self.model, **self.engine_options})
        return loaded

    def configure(self, settings: "Settings") -> "EngineConfig":
        """Return the engine configuration of these options and the settings."""
        from musicgen_cli.actions.engines import configure

        return configure(settings, **self.engine_options)

    @property
    def engine_options(self) -> dict[str, str | None]:
        """The options that have no setting."""
        return {"engine": self.engine, "device": self.device, "precision": self.precision}

"""Options of commands that open an engine: a model in this process, or the service."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.engine import registry

if TYPE_CHECKING:
    from musicgen_cli.actions.engines import EngineConfig
    from musicgen_cli.settings import Settings

ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="A model's name or folder. [auto]", show_default=False),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="|".join(registry.ENGINES),
        help="What computes the model; torch can use GPUs. [native for int8 where it can, else onnx]",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="|".join(registry.DEVICES), help="Where it computes; native and onnx: cpu only. [auto]",
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


@dataclass(frozen=True)
class ServiceOptions(OptionGroup):
    """How to reach the service."""

    url: options.Url = None
    timeout: options.Timeout = None
    max_wait: options.MaxWait = None

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

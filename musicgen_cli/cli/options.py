"""Options that more than one command takes, as Annotated types."""

from pathlib import Path
from typing import Annotated

import typer

from musicgen_cli import limits


def _help(what: str, allowed: limits.Range) -> str:
    return f"{what} [{limits.number(allowed.default)}; {allowed}]"


StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The store's folder; else MUSICGEN_STORE.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on stdout; errors as JSON on stderr.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Ids alone on stdout, no talk.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="The service; else MUSICGEN_URL, else http://127.0.0.1:2006.", show_default=False),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="A model's name or folder. [auto]", show_default=False),
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", metavar="onnx|torch", help="torch is for GPUs. [onnx]", show_default=False)
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="auto|cpu|cuda|mps", help="onnx has the CPU alone. [auto]", show_default=False),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="int8|fp32|bf16",
        help="[int8; torch: bf16 on CUDA, else fp32]",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

# What a take should be.
Duration = Annotated[
    float | None, typer.Option("-d", "--duration", help=_help("Length", limits.DURATION), show_default=False)
]
Temperature = Annotated[
    float | None, typer.Option(help=_help("Higher is wilder", limits.TEMPERATURE), show_default=False)
]
TopK = Annotated[int | None, typer.Option(help=_help("Choose among so many; 0: all", limits.TOP_K), show_default=False)]
TopP = Annotated[
    float | None, typer.Option(help=_help("Choose among this share; 1: all", limits.TOP_P), show_default=False)
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(
        "-g",
        "--guidance-scale",
        help=_help("How closely to follow the prompt", limits.GUIDANCE_SCALE),
        show_default=False,
    ),
]
DoSample = Annotated[
    bool | None, typer.Option("--sample/--greedy", help="Draw, or take the likeliest. [sample]", show_default=False)
]
Seed = Annotated[
    int | None, typer.Option(help="Same seed, same take; else one is drawn and recorded.", show_default=False)
]
Variations = Annotated[
    int,
    typer.Option(
        "-n", "--variations", help=_help("How many takes, seeds counting up", limits.VARIATIONS), show_default=False
    ),
]
Tag = Annotated[list[str] | None, typer.Option("-t", "--tag", help="A tag (repeatable).", show_default=False)]
Creator = Annotated[str | None, typer.Option(help=f"[{limits.CREATOR}]", show_default=False)]
Parent = Annotated[str | None, typer.Option(metavar="ID", help="The take this one comes from.", show_default=False)]
VariationSet = Annotated[str | None, typer.Option(metavar="ID", help="Join this variation set.", show_default=False)]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="ID",
        help="Prompt and parameters of that take, but for what else is given.",
        show_default=False,
    ),
]
Local = Annotated[
    bool | None, typer.Option("--local/--no-local", help="Run the model in this process.", show_default=False)
]
Timeout = Annotated[float | None, typer.Option(help="Deadline of each request in seconds. [600]", show_default=False)]
MaxWait = Annotated[float | None, typer.Option(help="Seconds to spend on a busy service. [120]", show_default=False)]

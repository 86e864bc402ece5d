"""Options that more than one command takes, as Annotated types."""

from pathlib import Path
from typing import Annotated

import typer

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
EngineOption = Annotated[str | None, typer.Option("--engine", metavar="onnx|torch", help="[onnx]", show_default=False)]
Device = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="[auto]", show_default=False)]
Precision = Annotated[
    str | None, typer.Option("--precision", metavar="int8|fp32|bf16", help="[fp32]", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

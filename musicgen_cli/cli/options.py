"""
Options that many commands take, as Annotated types.

This file loads little, because nearly every command imports it.
"""

from pathlib import Path
from typing import Annotated

import typer

from musicgen_cli import limits
from musicgen_cli.text import number

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="The store's folder; else MUSICGEN_STORE.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines; errors are JSON, too.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print ids alone, and no progress or notes.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help=f"The service's address; else MUSICGEN_URL. [{limits.DEFAULT_URL}]", show_default=False),
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

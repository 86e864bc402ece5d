"""What makes the takes of a command: the service or the model that its options and the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from musicgen_cli import settings
from musicgen_cli.errors import UsageError
from musicgen_cli.extras import needs

if TYPE_CHECKING:
    from musicgen_cli.cli.output import Output


def choose(given: Mapping[str, Any], loading: Mapping[str, str | None]) -> settings.Settings:
    """
    Load the settings.

    Args:
        given: Options by the name of their setting; None where they weren't given.
        loading: How to load a local model: `engine`, `device` and `precision`; no settings, so options alone.

    Raises:
        UsageError: An option that says something of a local model stands without `--local`.
        InvalidValueError: As `settings.load`.
    """
    chosen = settings.load(given)
    for option, value in {"model": given.get("model"), **loading}.items():
        if value is not None and not chosen.local:
            raise UsageError(f"--{option} needs --local", hint="a service chooses its model when it starts")
    return chosen


def ensure(
    name: str,
    out: Output,
    *,
    engine: str | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> None:
    """Pull a model that was asked for by name and isn't on this machine."""
    with needs("local"):
        from musicgen_cli.checkpoint.checkpoint import is_absent
    if not is_absent(name, settings.models_dir()):
        return
    from musicgen_cli.actions.models.pull import pull_absent
    from musicgen_cli.engine.registry import open_local

    needs_weights = engine == "torch"
    if needs_weights:  # what can't run here isn't worth fetching; of the other engine a pull finds it out itself
        open_local("nano", engine=engine, device=device, precision=precision, note=out.note).close()
        precision = None
    with out.transfer(f"pulling {name}") as listener:
        pull_absent(name, settings.models_dir(), listener, precision=precision, keep_weights=needs_weights)

"""Commands for the user's shell: the one that generates a stored take again, and the one that tags it."""

from __future__ import annotations

from musicgen_cli.actions.library.made_from import CONTINUE, sound_names
from musicgen_cli.actions.library.quoting import SHELL, PowerShell, Shell
from musicgen_cli.actions.library.takes import fields_of
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError
from musicgen_cli.request_fields import PARAMETERS, SOUND_FIELDS
from musicgen_cli.store import Artifact

KEEPER = "keeper"  # the tag of takes to keep
_MODEL_OPTIONS = ("model", "engine", "precision", "device")


def generate_command(take: Artifact, shell: Shell = SHELL) -> str | None:
    """
    Return the command that generates a take again, with all the parameters and engine options of its record.

    Where PowerShell can't pass on the prompt, the command takes it from the store, and the parameters with it.

    Returns:
        None if the record has no parameters, or if `generate` would refuse them.
    """
    try:
        values = GenerateRequest.checked(fields_of(take)).model_dump()
    except InvalidValueError:
        return None
    words = []
    for field in PARAMETERS:
        if field.name in take.params or (field.name == "seed" and take.seed is not None):
            words += field.words(values[field.name])
    sounds = sound_names(take)
    if words:
        words += [word for field in SOUND_FIELDS if field.name in sounds for word in field.words(sounds[field.name])]
    engine_options = _engine_options(take)
    if not words or not all(map(shell.can_quote, engine_options)):
        return None
    if shell is PowerShell and take.prompt and not shell.can_quote(take.prompt):
        return _line(["generate", "--from", take.id, *engine_options], shell)
    words += engine_options
    if take.prompt == "-":  # as an argument it would mean stdin
        standard_input = "'-'" if shell is PowerShell else "printf %s -"
        return f"{standard_input} | {_line(['generate', '-', *words], shell)}"
    if take.prompt.startswith("-"):
        return _line(["generate", *words, "--", take.prompt], shell)
    has_prompt = take.prompt or CONTINUE in sounds  # without any, it would be that of what the take goes on from
    return _line(["generate", *([take.prompt] if has_prompt else []), *words], shell)


def tag_command(take: Artifact, shell: Shell = SHELL) -> str:
    """Return the command that tags a take."""
    return _line(["tag", take.id, "--add", KEEPER], shell)


def _line(words: list[str], shell: Shell) -> str:
    return " ".join(["musicgen", *map(shell.quote, words)])


def _engine_options(take: Artifact) -> list[str]:
    """Return the options that choose the engine that made a take: a service, or a model in this process."""
    origin = {name: value for name, value in take.origin.items() if isinstance(value, str) and value}
    if "url" in origin:
        return _option("url", origin["url"])
    words = [word for name in _MODEL_OPTIONS if name in origin for word in _option(name, origin[name])]
    return ["--local", *words] if "model" in origin else []


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]

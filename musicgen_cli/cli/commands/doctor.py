"""`musicgen doctor`: one screen that tells what works here and what doesn't."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from musicgen_cli._version import __version__
from musicgen_cli.cli import options
from musicgen_cli.errors import MusicgenError

if TYPE_CHECKING:
    from musicgen_cli.settings import Settings

_PACKAGES = ("typer", "rich", "httpx", "pydantic", "filelock", "onnxruntime", "numpy", "fastapi")


def command(store: options.StoreOption = None, url: options.Url = None, json_: options.Json = False) -> None:
    """Look at store, service, models, extras and settings; exit 1 if something is broken."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_)
    chosen = settings.load({"store": store, "url": url})
    broken = 0
    for name, state, text in _findings(chosen):
        broken += state == "broken"
        if json_:
            out.json({"name": name, "state": state, "text": text})
        else:
            out.pairs({name: text if state == "ok" else f"{state}: {text}"})
    if broken:
        raise typer.Exit(1)


def _findings(chosen: "Settings") -> Iterator[tuple[str, str, str]]:
    """Yield what was looked at, `ok`, `absent` or `broken`, and a sentence."""
    import platform
    from importlib.util import find_spec

    from musicgen_cli import extras

    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    yield "version", "ok", f"musicgen-cli {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield "command", *_command()
    yield "packages", "ok", versions
    yield "store", *_store(chosen.store)
    local = all(find_spec(package) for package in extras.PACKAGES["local"])
    yield "service", *_service(chosen, local=local)
    yield "models", *_models(local=local)
    for extra, packages in extras.PACKAGES.items():
        absent = [package for package in packages if find_spec(package) is None]
        state, text = ("absent", extras.install_command(extra)) if absent else ("ok", "installed")
        yield f"extra {extra}", state, text
    yield "player", *_player()
    yield "device", "ok", f"cpu, {_processors()} processor(s)"
    for name, source in chosen.sources.items():
        value = getattr(chosen, name)
        shown = ("set" if value else "not set") if name == "api_key" else value
        yield f"setting {name}", "ok", f"{shown} ({source})"


def _command() -> tuple[str, str]:
    """Tell whether `musicgen` on PATH is this program: other packages install a command of that name."""
    import shutil

    found = shutil.which("musicgen")
    own = Path(sys.argv[0]).resolve()
    if found is None:
        return "absent", "`musicgen` is not on PATH; `python -m musicgen_cli` works"
    if own.name == "musicgen" and Path(found).resolve() != own:
        return "broken", f"`musicgen` on PATH is another program: {found}"
    return "ok", found


def _store(where: Path) -> tuple[str, str]:
    from musicgen_cli.store import Store
    from musicgen_cli.text import size

    warnings: list[str] = []
    try:
        stats = Store(where, warn=warnings.append).stats()
    except MusicgenError as err:
        return "broken", str(err)
    if warnings:
        return "broken", "; ".join(warnings)
    existing = where
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        return "broken", f"{existing} can't be written"
    return "ok", f"{where}: {stats.artifacts} takes, {size(stats.blob_bytes)} of sound"


def _service(chosen: "Settings", *, local: bool) -> tuple[str, str]:
    from musicgen_cli.engine.client import RemoteEngine

    try:
        engine = RemoteEngine(chosen.url, timeout_s=3, max_wait_s=0, api_key=chosen.api_key)
        said = engine.health()
    except MusicgenError as err:
        # Nobody asked for the default address: its silence is no fault where the model can run here.
        wanted = chosen.sources["url"] != "default" or not local
        return ("broken" if wanted else "absent"), str(err)
    return "ok", f"{engine.url}: {said.get('model') or 'model unknown'}, version {said.get('version') or 'unknown'}"


def _player() -> tuple[str, str]:
    from musicgen_cli.audio import player

    try:
        return "ok", ", ".join(found.name for found in player.find())
    except MusicgenError as err:
        return "absent", f"{err}; {err.hint}"


def _models(*, local: bool) -> tuple[str, str]:
    if not local:
        return "absent", "`--local` needs the extra local"
    from musicgen_cli.checkpoint.checkpoint import find_checkpoint
    from musicgen_cli.settings import models_dir

    try:
        chosen = find_checkpoint("auto", models_dir())
    except MusicgenError as err:
        return "broken", str(err)
    return "ok", f"auto is {chosen.name} ({chosen.directory})"


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

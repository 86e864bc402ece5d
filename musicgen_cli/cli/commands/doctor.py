"""`musicgen doctor`: checks on one screen what works on this machine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from musicgen_cli._version import __version__
from musicgen_cli.cli import options
from musicgen_cli.errors import MusicgenError
from musicgen_cli.text import without_user_info

if TYPE_CHECKING:
    from musicgen_cli.settings import Settings

_PACKAGES = ("typer", "rich", "httpx", "pydantic", "filelock", "onnxruntime", "numpy", "fastapi")


def command(store_path: options.StoreOption = None, url: options.Url = None, json_: options.Json = False) -> None:
    """
    Check the installation; exit 1 if something is broken.

    Shows versions, store, service, models, extras and player, and where each setting comes from.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_)
    config = settings.load({"store": store_path, "url": url})
    broken = 0
    for name, state, text in _findings(config):
        broken += state == "broken"
        if json_:
            out.json({"name": name, "state": state, "text": text})
        else:
            out.pairs({name: text if state == "ok" else f"{state}: {text}"})
    if broken:
        raise typer.Exit(1)


def _findings(config: "Settings") -> Iterator[tuple[str, str, str]]:
    """Yield for each thing that is checked its name, its state (`ok`, `absent` or `broken`) and a description."""
    import platform
    from importlib.util import find_spec

    from musicgen_cli import extras

    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    yield "version", "ok", f"musicgen-cli {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield "command", *_command()
    yield "packages", "ok", versions
    yield "store", *_store(config)
    has_local = all(find_spec(package) for package in extras.PACKAGES["local"])
    yield "service", *_service(config, has_local=has_local)
    yield "models", *_models(has_local=has_local)
    for extra, packages in extras.PACKAGES.items():
        absent = [package for package in packages if find_spec(package) is None]
        state, text = ("absent", extras.install_command(extra)) if absent else ("ok", "installed")
        if "onnxruntime" in absent and (platform_ := extras.platform_without_onnx_runtime()) is not None:
            text = f"ONNX Runtime has no package for {platform_}"
        yield f"extra {extra}", state, text
    yield "player", *_player()
    yield "device", "ok", _device()
    if has_local:
        yield "decoder", *_decoder()
    for name, source in config.sources.items():
        value = getattr(config, "store_folder" if name == "store" else name)
        shown = ("set" if value else "not set") if name == "api_key" else value
        if name == "url":
            shown = without_user_info(value)
        yield f"setting {name}", "ok", f"{shown} ({source})"
    for variable, text in _unknown_variables():
        yield f"variable {variable}", "absent", text


def _unknown_variables() -> Iterator[tuple[str, str]]:
    """Yield the variables that look like settings and are none: a misspelt one has no other trace."""
    from musicgen_cli.settings import NAMES
    from musicgen_cli.text import nearest

    known = [f"MUSICGEN_{name.upper()}" for name in NAMES]
    for variable in sorted(os.environ):
        if variable.startswith("MUSICGEN_") and variable not in known:
            yield variable, f"there is no such setting, {nearest(variable, known)}"


def _command() -> tuple[str, str]:
    """Check that `musicgen` on PATH is this program, as other packages install a command of the same name."""
    import shutil

    on_path = shutil.which("musicgen")
    running = Path(sys.argv[0]).resolve()
    if on_path is None:
        return "absent", "`musicgen` is not on PATH; `python -m musicgen_cli` works"
    if running.stem == "musicgen" and Path(on_path).resolve() != running:
        return "broken", f"`musicgen` on PATH is another program: {on_path}"
    return "ok", on_path


def _store(config: "Settings") -> tuple[str, str]:
    from musicgen_cli.store import Store
    from musicgen_cli.text import size

    warnings: list[str] = []
    try:
        root = config.store
        stats = Store(root, warn=warnings.append).stats()
    except MusicgenError as err:
        return "broken", str(err)
    if warnings:
        return "broken", "; ".join(warnings)
    existing = root
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        return "broken", f"{existing} can't be written"
    if not root.is_dir():
        return "absent", f"{root}: the first take creates it"
    return "ok", f"{root}: {stats.artifacts} takes, {size(stats.blob_bytes)} of audio"


def _service(config: "Settings", *, has_local: bool) -> tuple[str, str]:
    from musicgen_cli.engine.client import RemoteEngine

    try:
        engine = RemoteEngine(config.url, timeout_s=3, max_wait_s=0, api_key=config.api_key)
        health = engine.health()
    except MusicgenError as err:
        # A service at the default address is optional where models can run on this machine.
        is_needed = config.sources["url"] != "default" or not has_local
        return ("broken" if is_needed else "absent"), str(err)
    model, version = health.get("model") or "model unknown", health.get("version") or "unknown"
    return "ok", f"{engine.url}: {model}, version {version}"


def _player() -> tuple[str, str]:
    from musicgen_cli.audio import player

    try:
        return "ok", ", ".join(program.name for program in player.find())
    except MusicgenError as err:
        return "absent", f"{err}; {err.hint}"


def _models(*, has_local: bool) -> tuple[str, str]:
    if not has_local:
        return "absent", "`--local` needs the extra local"
    from musicgen_cli.checkpoint.checkpoint import find_checkpoint
    from musicgen_cli.settings import models_dir

    try:
        checkpoint = find_checkpoint("auto", models_dir())
    except MusicgenError as err:
        return "broken", str(err)
    return "ok", f"auto is {checkpoint.name} ({checkpoint.directory})"


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _decoder() -> tuple[str, str]:
    """Say what computes the steps of a local model in int8, which is most of the time that a take needs."""
    from musicgen_cli.engine.native import library

    try:
        return "ok", f"native, {library.instruction_set()}"
    except library.UnavailableError as err:
        return "absent", f"native; ONNX Runtime computes int8, more slowly: {err}"


def _device() -> str:
    """Describe the processors: those that this process may use, and how much of their time."""
    from musicgen_cli.engine import hardware

    usable, allowed, threads = len(hardware.processors()), hardware.allowance(), hardware.cores()
    limit = "" if allowed is None else f", of which a control group allows {allowed:.3g}"
    return f"cpu, {usable} processor{'s' * (usable > 1)}{limit}; {threads} thread{'s' * (threads > 1)}"

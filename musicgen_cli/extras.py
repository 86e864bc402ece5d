"""Extras (groups of optional packages): which one a missing package belongs to, and the command that installs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musicgen_cli.errors import MissingExtraError
from musicgen_cli.text import without_user_info

DISTRIBUTION = "musicgen-cli"
PACKAGES = {
    "local": ("onnxruntime", "numpy", "tokenizers", "onnx", "threadpoolctl", "huggingface_hub", "yaml", "soxr"),
    "torch": ("torch", "transformers"),
    "audio": ("soundfile",),
    "mcp": ("mcp",),
    "cluster": ("ray",),
    "serve": ("fastapi", "starlette", "uvicorn", "prometheus_client"),
}

_ON_ONNX_RUNTIME = {"local", "serve", "cluster"}
_64_BITS = {"x86_64", "amd64", "aarch64", "arm64"}


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """
    Explain an import that fails because `extra` is not installed.

    Raises:
        MissingExtraError: One of the extra's own packages is absent. Any other failed import passes through.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        package = (err.name or "").partition(".")[0]
        if package not in PACKAGES[extra]:
            raise
        if extra in _ON_ONNX_RUNTIME and (platform := platform_without_onnx_runtime()) is not None:
            raise MissingExtraError(
                f"this needs ONNX Runtime, of which there is no package for {platform}",
                hint="without --local, a service that runs on another machine makes the takes: --url names it",
            ) from err
        raise MissingExtraError(
            f"this needs the extra {extra!r} ({package} is not installed)",
            hint=f"`{install_command(extra)}` installs it",
        ) from err


def platform_without_onnx_runtime(
    system: str = sys.platform, machine: str | None = None, abi: str | None = None, *, bits: int = sys.maxsize
) -> str | None:
    """
    Name the kind of platform that this is if ONNX Runtime has no package for it; None if it has.

    Args:
        system: As `sys.platform`.
        machine: As `platform.machine()`.
        abi: The ABI of extension modules, which on Linux names the C library.
        bits: As `sys.maxsize`: the largest size of this Python.

    Source:
        The files of onnxruntime 1.32 on the package index.
    """
    import platform
    import sysconfig

    machine = (machine or platform.machine()).lower()
    abi = abi or sysconfig.get_config_var("SOABI") or ""
    if bits < 2**32:
        return "32-bit programs"
    if machine not in _64_BITS:
        return f"{machine} processors"
    if system == "darwin" and machine == "x86_64":
        return "Intel Macs"
    return "Linux with musl, such as Alpine" if system == "linux" and "musl" in abi else None


def install_command(extra: str) -> str:
    """Return the shell command that adds an extra to the copy of this program that is running."""
    from importlib.util import find_spec

    program = installer(Path(sys.prefix), sys.executable, has_pip=find_spec("pip") is not None)
    return _shell([*program, *requirement(extra, direct_url())])


def direct_url() -> Mapping[str, Any] | None:
    """
    Return where this copy was installed from; None is a package index.

    A checkout that runs without being installed counts as an editable one.

    Source:
        `direct_url.json` in the installed metadata, by the PyPA specification "Recording the Direct URL Origin of
        installed distributions".
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        content = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        checkout = Path(__file__).resolve().parents[1]
        return {"url": checkout.as_uri(), "dir_info": {"editable": True}}
    record = json.loads(content) if content else None
    return record if isinstance(record, dict) else None


def requirement(extra: str, origin: Mapping[str, Any] | None) -> list[str]:
    """
    Return the arguments that make pip, pipx and uv install this program with an extra.

    Args:
        extra: The extra.
        origin: Where this copy was installed from, as `direct_url` returns it.
    """
    if origin is None:
        return [f"{DISTRIBUTION}[{extra}]"]
    url = without_user_info(str(origin["url"]))
    if vcs := origin.get("vcs_info"):
        revision = vcs.get("requested_revision") or vcs["commit_id"]
        folder = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
        return [f"{DISTRIBUTION}[{extra}] @ {vcs['vcs']}+{url}@{revision}{folder}"]
    if not url.startswith("file:"):
        return [f"{DISTRIBUTION}[{extra}] @ {url}"]

    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    words = [f"{url2pathname(urlsplit(url).path)}[{extra}]"]
    return ["-e", *words] if origin.get("dir_info", {}).get("editable") else words


def installer(prefix: Path, python: str, *, has_pip: bool) -> list[str]:
    """
    Return the command that installs packages into an environment, without the packages.

    Args:
        prefix: The environment's folder; pipx and `uv tool` mark those that they manage by a file in it.
        python: The environment's interpreter.
        has_pip: The environment has pip, which uv doesn't install.
    """
    if (prefix / "pipx_metadata.json").is_file():
        return ["pipx", "install", "--force"]
    if (prefix / "uv-receipt.toml").is_file():
        return ["uv", "tool", "install", "--force"]
    return [python, "-m", "pip", "install"] if has_pip else ["uv", "pip", "install", "--python", python]


def _shell(words: Sequence[str]) -> str:
    if os.name == "nt":
        from subprocess import list2cmdline

        return list2cmdline(words)
    import shlex

    return shlex.join(words)

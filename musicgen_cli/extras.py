"""Turns an absent optional package into a sentence that says which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from musicgen_cli.errors import MissingExtraError

PACKAGES = {
    "local": ("onnxruntime", "numpy", "tokenizers", "onnx", "huggingface_hub"),
    "torch": ("torch", "transformers"),
    "audio": ("soundfile",),
    "mcp": ("mcp",),
    "cluster": ("ray",),
    "serve": ("fastapi", "starlette", "uvicorn", "prometheus_client"),
}


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
        raise MissingExtraError(
            f"this needs the extra {extra!r} ({package} is not installed)",
            hint=f'pipx install --force "musicgen-cli[{extra}]", or pip install "musicgen-cli[{extra}]"',
        ) from err

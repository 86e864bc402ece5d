"""The only door to an engine: the chosen one is imported on demand, the others not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from musicgen_cli import settings as places
from musicgen_cli.engine.base import Engine
from musicgen_cli.errors import AbsentError, InvalidValueError
from musicgen_cli.extras import needs
from musicgen_cli.settings import Settings

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint

ENGINES = ("onnx", "torch")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("int8", "fp32", "bf16")


def open_remote(settings: Settings) -> Engine:
    """Open the HTTP service that the settings name; nothing is sent yet."""
    from musicgen_cli.engine.client import RemoteEngine

    return RemoteEngine(
        settings.url, timeout_s=settings.timeout, max_wait_s=settings.max_wait, api_key=settings.api_key
    )


def open_local(
    model: str,
    *,
    engine: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    slots: int | None = None,
    threads: int | None = None,
    note: Callable[[str], None],
) -> Engine:
    """
    Load a model into this process.

    Args:
        model: A name or the path of a checkpoint.
        engine: Of ENGINES; None means onnx.
        device: Of DEVICES; None means auto.
        precision: Of PRECISIONS; None means int8 with onnx, with torch bf16 on CUDA and else fp32.
        slots: Clips made side by side; None leaves it to the engine.
        threads: For one operation of onnx; None means one for each physical core. Torch has settings of its own.
        note: Hears which model was chosen and what is being prepared.

    Raises:
        InvalidValueError: There is no such engine, device or precision.
        AbsentError: What was asked for isn't in this installation, or not on this machine.
        EngineError: The checkpoint can't be loaded.
    """
    check(engine, device, precision)
    device = device or "auto"
    if engine == "torch":
        with needs("torch"), needs("local"):
            from musicgen_cli.engine.torch.engine import TorchEngine
        return TorchEngine(_resolved(model, note), precision=precision, device=device, slots=slots)
    if device not in {"auto", "cpu"}:
        raise AbsentError(
            f"the engine onnx has no {device!r}", hint=f"`--engine torch --device {device}`, or `--device cpu`"
        )
    if precision == "bf16":
        # It would only be slower: there is no product of bfloat16 among its kernels for x86, and none is used on ARM.
        raise AbsentError("ONNX Runtime has no bf16 on this processor", hint="`--precision int8` is the fast one")
    # Since 1.29 the official ONNX Runtime reports to its maker and leaves a device id in the cache folder; nothing but
    # this, before it is imported, stops all of it (its docs/Privacy.md). Whoever wants that can set 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with needs("local"):
        from musicgen_cli.engine.onnx.engine import OnnxEngine
    checkpoint = _resolved(model, note)
    home = checkpoint.home(places.cache_dir())
    return OnnxEngine(
        checkpoint,
        cache_dir=home,
        precision=precision or "int8",
        device="cpu",
        threads=threads,
        slots=slots,
        note=note,
    )


def check(engine: str | None, device: str | None, precision: str | None) -> None:
    """
    See that there are engines, devices and precisions of these names; None stands for none in particular.

    Raises:
        InvalidValueError: There is none of that name.
    """
    for kind, name, known in (
        ("engine", engine, ENGINES),
        ("device", device, DEVICES),
        ("precision", precision, PRECISIONS),
    ):
        if name is not None and name not in known:
            raise InvalidValueError(f"{kind} must be one of {', '.join(known)}, got {name[:40]!r}")


def _resolved(model: str, note: Callable[[str], None]) -> Checkpoint:
    """Find a model, and tell which it is if that was left to us."""
    from musicgen_cli.checkpoint.checkpoint import resolve

    checkpoint = resolve(model, places.models_dir(), places.cache_dir())
    if model == "auto":
        note(
            f"model: {checkpoint.name}, the small one that comes with musicgen; "
            "for full quality: musicgen model pull small"
            if checkpoint.name == "nano"
            else f"model: {checkpoint.name}"
        )
    return checkpoint

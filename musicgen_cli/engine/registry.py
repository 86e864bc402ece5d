"""
The backends that run a model in this process: one row each, imported only when it is chosen.

A new backend is a new file with a subclass of `LocalEngine`, and a row here. Names, devices and precisions in help
texts, in checks and in messages come from the rows.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musicgen_cli import atomic
from musicgen_cli.errors import AbsentError, InvalidValueError, NativeUnsuitedError
from musicgen_cli.extras import needs
from musicgen_cli.settings import cache_dir, models_dir, state_dir

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint
    from musicgen_cli.engine.base import Engine

Note = Callable[[str], None]

_PULL_ADVICE = ", the small one that comes with musicgen; for full quality: musicgen model pull small"
DEFAULT_PRECISION = "int8"  # of DEFAULT_BACKEND
_COMPILER_ADVICE = (
    "this installation has no native decoder, so ONNX Runtime makes the takes, more slowly; "
    "to get it, install musicgen again where there is a C compiler"
)
_DAY_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model; None leaves a choice to the backend."""

    device: str = "auto"
    precision: str | None = None
    slots: int | None = None  # clips that are made at once
    clips: int | None = None  # the most that will be wanted at once
    threads: int | None = None  # per operation on the CPU


@dataclass(frozen=True, slots=True)
class Backend:
    """A runtime that computes a model in this process."""

    name: str
    extra: str  # the optional extra that brings its packages
    devices: tuple[str, ...]  # beside "auto"
    precisions: tuple[str, ...]
    needs_weights: bool  # False: graphs that were prepared from the weights are enough
    load: Callable[[str, LoadOptions, Note], Engine]


def _load_onnx(model: str, options: LoadOptions, note: Note) -> Engine:
    # Since 1.29 the official ONNX Runtime reports usage to its maker and leaves a device id in the cache folder. Only
    # this variable, set before the import, stops all of it (its docs/Privacy.md). A user who wants it can set 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with needs("local"):
        from musicgen_cli.engine.onnx.engine import OnnxEngine
    checkpoint = resolve_model(model, note)
    return OnnxEngine(
        checkpoint,
        cache_dir=checkpoint.graph_cache_dir(cache_dir()),
        precision=options.precision or checkpoint.precision or DEFAULT_PRECISION,
        threads=options.threads,
        slots=options.slots,
        clips=options.clips,
        note=note,
    )


def _load_native(model: str, options: LoadOptions, note: Note) -> Engine:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as for onnx, which computes all but the decoder
    with needs("local"):
        from musicgen_cli.engine.native.engine import NativeEngine
    checkpoint = resolve_model(model, note)
    if obstacle := native_obstacle(checkpoint):
        raise AbsentError(
            f"the native decoder can't compute {checkpoint.name} here: {obstacle}", hint="use `--engine onnx`"
        )
    return NativeEngine(
        checkpoint,
        cache_dir=checkpoint.graph_cache_dir(cache_dir()),
        threads=options.threads,
        slots=options.slots,
        clips=options.clips,
        note=note,
    )


def _load_torch(model: str, options: LoadOptions, note: Note) -> Engine:
    with needs("torch"), needs("local"):
        from musicgen_cli.engine.torch.engine import TorchEngine
    return TorchEngine(
        resolve_model(model, note), precision=options.precision, device=options.device, slots=options.slots
    )


BACKENDS = {
    backend.name: backend
    for backend in (
        # No bf16: ONNX Runtime's CPU kernels have no product of bfloat16 for x86 and use none on ARM.
        Backend("onnx", "local", ("cpu",), ("int8", "fp32"), needs_weights=False, load=_load_onnx),
        Backend("native", "local", ("cpu",), ("int8",), needs_weights=False, load=_load_native),
        Backend("torch", "torch", ("cpu", "cuda", "mps"), ("fp32", "bf16"), needs_weights=True, load=_load_torch),
    )
}
DEFAULT_BACKEND = "onnx"
ENGINES = tuple(BACKENDS)
DEVICES = ("auto", *dict.fromkeys(device for backend in BACKENDS.values() for device in backend.devices))
PRECISIONS = tuple(dict.fromkeys(precision for backend in BACKENDS.values() for precision in backend.precisions))


def backend_of(engine: str | None, device: str | None = None, precision: str | None = None) -> Backend:
    """
    Return the backend of that name, if it has the device and the precision; None stands for the default.

    Raises:
        InvalidValueError: No backend has that name, device or precision.
        AbsentError: Only another backend has the device or precision.
    """
    for kind, name, names in (("engine", engine, ENGINES), ("device", device, DEVICES),
                              ("precision", precision, PRECISIONS)):  # fmt: skip
        if name is not None and name not in names:
            raise InvalidValueError(f"{kind} must be one of {', '.join(names)}, got {name[:40]!r}")
    backend = BACKENDS[engine or DEFAULT_BACKEND]
    for kind, name, supported in (
        ("device", device, ("auto", *backend.devices)),
        ("precision", precision, backend.precisions),
    ):
        if name is not None and name not in supported:
            other = next(row.name for row in BACKENDS.values() if name in row.devices + row.precisions)
            raise AbsentError(
                f"the engine {backend.name} has no {kind} {name!r}",
                hint=f"use `--engine {other} --{kind} {name}`, or `--{kind} {supported[0]}`",
            )
    return backend


def open_local(
    model: str,
    *,
    engine: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    slots: int | None = None,
    clips: int | None = None,
    threads: int | None = None,
    note: Note,
) -> Engine:
    """
    Load a model into this process.

    Args:
        model: A name or the path of a checkpoint.
        engine: One of ENGINES; None means native for int8 where it can be used, else onnx.
        device: One of DEVICES; None means auto.
        precision: One of PRECISIONS; None means with native and onnx what the model's pull chose, else int8, and with
            torch bf16 on CUDA, else fp32.
        slots: Clips that are made at once; None leaves it to the engine.
        clips: The most that will be wanted at once: `note` says what they take; None is unknown.
        threads: For one operation; None means `hardware.cores`. Torch has settings of its own.
        note: Called with a line about which model was chosen, and what is being prepared.

    Raises:
        InvalidValueError: There is no such engine, device or precision.
        AbsentError: The engine's packages, the device, the precision or the model are not on this machine.
        EngineError: The checkpoint can't be loaded.
    """
    backend = backend_of(engine, device, precision)
    options = LoadOptions(device or "auto", precision, slots, clips, threads)
    if engine is not None:
        return _keeping_codes(backend.load(model, options, note))
    with needs("local"):
        from musicgen_cli.checkpoint.checkpoint import find_checkpoint
    default = default_backend(find_checkpoint(model, models_dir(), cache_dir()), precision)
    if default is backend and precision != "fp32":
        _note_absent_library(note)
    try:
        return _keeping_codes(default.load(model, options, note))
    except NativeUnsuitedError as err:
        note(f"{err}; ONNX Runtime makes its takes instead")
        return _keeping_codes(backend.load(model, options, note))


def _keeping_codes(engine: Engine) -> Engine:
    """Have an engine keep what it has made of long clips in the cache, so that it is not lost with its process."""
    from musicgen_cli.engine.local import LocalEngine
    from musicgen_cli.engine.unfinished import UnfinishedClips

    if isinstance(engine, LocalEngine) and cache_dir().is_absolute():  # it is not if there is no home directory
        engine.unfinished = UnfinishedClips(cache_dir() / "unfinished")
    return engine


def default_backend(checkpoint: Checkpoint, precision: str | None) -> Backend:
    """Return the backend that computes a model on the CPU if none was named."""
    native = BACKENDS["native"]
    precision = precision or checkpoint.precision or DEFAULT_PRECISION
    is_native = precision in native.precisions and native_obstacle(checkpoint) is None
    return native if is_native else BACKENDS[DEFAULT_BACKEND]


def native_obstacle(checkpoint: Checkpoint) -> str | None:
    """
    Return why the native decoder can't compute a model on this machine, as a clause; None if it can.

    Raises:
        CheckpointError: The config is damaged.
    """
    from musicgen_cli.checkpoint.shape import Shape
    from musicgen_cli.engine.native import library, weights
    from musicgen_cli.engine.onnx.graph_cache import NATIVE_VARIANT, NEEDS_BLOCKS, graph_folder
    from musicgen_cli.engine.onnx.graph_folders import is_unsuited

    try:
        library.instruction_set()
    except library.UnavailableError as err:
        return str(err)
    folder = graph_folder(checkpoint.graph_cache_dir(cache_dir()), checkpoint.digest, NATIVE_VARIANT)
    if is_unsuited(folder):
        return NEEDS_BLOCKS
    if not checkpoint.weights and not folder.is_dir():
        return "it was prepared for ONNX Runtime, and its weights weren't kept"
    return weights.unsupported(Shape.of(checkpoint.config).decoder)


def resolve_model(model: str, note: Note) -> Checkpoint:
    """Find a model's files; for `auto`, also note which model was chosen."""
    from musicgen_cli.checkpoint.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(model, models_dir(), cache_dir())
    if model == "auto":
        is_advised = checkpoint.name == "nano" and _is_due(state_dir() / "pull-advised")
        note(f"model: {checkpoint.name}{_PULL_ADVICE if is_advised else ''}")
    return checkpoint


def _note_absent_library(note: Note) -> None:
    """Say once that this installation was made without a C compiler, where one would have made takes faster."""
    from musicgen_cli.engine.native import library

    if library.could_be_compiled() and _is_due(state_dir() / "native-decoder-advised", every_s=math.inf):
        note(_COMPILER_ADVICE)


def _is_due(stamp: Path, *, every_s: float = _DAY_S) -> bool:
    """
    Return whether something that is said now and then is to be said now, and take note of it as far as possible.

    Args:
        stamp: A file whose time is when it was last said.
        every_s: How often it is said; infinite means once.
    """
    if not stamp.is_absolute():  # there is no home directory
        return True
    with suppress(OSError):
        if abs(time.time() - stamp.stat().st_mtime) < every_s:  # a time in the future comes from a clock set back
            return False
    with suppress(OSError):
        atomic.make_private_folder(stamp.parent)
        stamp.touch(atomic.PRIVATE)
    return True

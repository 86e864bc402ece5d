"""
Music from text; `musicgen` is the command.

The public API is `generate`, `batch` and `Store`, with `Artifact`, `Filter`, and `MusicgenError` and all its kinds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from musicgen_cli._version import __version__

if TYPE_CHECKING:
    from musicgen_cli.api import batch, generate
    from musicgen_cli.errors import (
        AbsentError,
        AmbiguousIdError,
        ArtifactNotFoundError,
        BadAnswerError,
        CheckpointError,
        DamagedError,
        EngineError,
        InvalidRowsError,
        InvalidValueError,
        InvalidWavError,
        JobFailedError,
        JobNotFoundError,
        MemoryNeededError,
        MissingExtraError,
        ModelAbsentError,
        ModelBusyError,
        ModelsFolderError,
        MusicgenError,
        NativeUnsuitedError,
        NewerStoreError,
        NoAudioEncoderError,
        NoServiceError,
        NotFoundError,
        NotOfferedError,
        OutOfTimeError,
        PartlyFailedError,
        PartlyImportedError,
        PartlyMadeError,
        PlayerAbsentError,
        PlayerError,
        ProblemsFoundError,
        RunnerDiedError,
        ServiceBusyError,
        ServiceError,
        ServiceUnreachableError,
        SourceGoneError,
        StillPendingError,
        StoppedError,
        StoreBusyError,
        StoreError,
        TargetError,
        TryAgainError,
        UnknownModelError,
        UsageError,
    )
    from musicgen_cli.store import Artifact, Filter, Store

__all__ = [
    "AbsentError",
    "AmbiguousIdError",
    "Artifact",
    "ArtifactNotFoundError",
    "BadAnswerError",
    "CheckpointError",
    "DamagedError",
    "EngineError",
    "Filter",
    "InvalidRowsError",
    "InvalidValueError",
    "InvalidWavError",
    "JobFailedError",
    "JobNotFoundError",
    "MemoryNeededError",
    "MissingExtraError",
    "ModelAbsentError",
    "ModelBusyError",
    "ModelsFolderError",
    "MusicgenError",
    "NativeUnsuitedError",
    "NewerStoreError",
    "NoAudioEncoderError",
    "NoServiceError",
    "NotFoundError",
    "NotOfferedError",
    "OutOfTimeError",
    "PartlyFailedError",
    "PartlyImportedError",
    "PartlyMadeError",
    "PlayerAbsentError",
    "PlayerError",
    "ProblemsFoundError",
    "RunnerDiedError",
    "ServiceBusyError",
    "ServiceError",
    "ServiceUnreachableError",
    "SourceGoneError",
    "StillPendingError",
    "StoppedError",
    "Store",
    "StoreBusyError",
    "StoreError",
    "TargetError",
    "TryAgainError",
    "UnknownModelError",
    "UsageError",
    "__version__",
    "batch",
    "generate",
]


def __getattr__(name: str) -> Any:
    """Import the public API on first use, because the command line imports this package at every start."""
    from importlib import import_module

    if name in __all__:
        room = "api" if name in {"batch", "generate"} else "errors" if name.endswith("Error") else "store"
        return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name the public API to completion and `help`, although it may not be imported yet."""
    return sorted({*globals(), *__all__})

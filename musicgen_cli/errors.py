"""
Every failure we can explain: its code, its exit code, its hint.

    MusicgenError               failed                1
    ├── UsageError              usage                 2   wrong words, or words that don't go together
    │   └── InvalidValueError   invalid-value         2   a value out of range or of the wrong form
    ├── NotFoundError           not-found             3
    │   ├── ArtifactNotFoundError  artifact-not-found 3
    │   └── UnknownModelError   unknown-model         3
    ├── AmbiguousIdError        ambiguous-id          3
    ├── ServiceUnreachableError service-unreachable   4
    ├── TryAgainError           try-again             5   trying again later can help
    │   ├── ServiceBusyError    service-busy          5
    │   ├── OutOfTimeError      out-of-time           5
    │   ├── StoreBusyError      store-busy            5
    │   └── ModelBusyError      model-busy            5
    ├── ServiceError            service-error         6   the service answered with an error
    │   └── BadAnswerError      bad-answer            6   … with something that isn't its contract
    ├── DamagedError            damaged               7   stored bytes are damaged
    ├── AbsentError             absent                8   something optional isn't here
    │   ├── MissingExtraError   missing-extra         8
    │   ├── PlayerAbsentError   player-absent         8
    │   └── ModelAbsentError    model-absent          8
    ├── StoreError              store-error           1   no permission, disk full, not a store
    │   └── NewerStoreError     newer-store           1
    ├── ModelsFolderError       models-folder         1   no permission or no room for a model
    ├── InvalidWavError         invalid-wav           1   bytes that are not a WAV we keep
    ├── TargetError             target                1   an export target that exists or can't be written
    ├── PlayerError             player                1   no player could play the sound
    ├── EngineError             engine                1   the model in this process failed
    │   ├── CheckpointError     checkpoint            1   model files that are damaged or don't fit
    │   └── MemoryNeededError   memory-needed         1
    └── StoppedError            interrupted         130

A message is one line, lower case, without a full stop; the hint says what to do next. Errors neither print nor
exit: the command line does both, in one place.
"""

from __future__ import annotations

from typing import ClassVar


class MusicgenError(Exception):
    """A failure we can explain: `str(err)` is one line, `hint` is what to do next."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MusicgenError):
    """Wrong words on the command line, or words that don't go together."""

    code = "usage"
    exit_code = 2


class InvalidValueError(UsageError):
    """A value is out of its range or of the wrong form."""

    code = "invalid-value"


class NotFoundError(MusicgenError):
    """Nothing answers to the given name."""

    code = "not-found"
    exit_code = 3


class ArtifactNotFoundError(NotFoundError):
    """No stored artifact answers to the given id."""

    code = "artifact-not-found"

    def __init__(self, wanted: str) -> None:
        super().__init__(f"no artifact answers to {wanted!r}", hint="`musicgen list` shows what is stored")
        self.wanted = wanted


class UnknownModelError(NotFoundError):
    """No model has the given name."""

    code = "unknown-model"


class AmbiguousIdError(MusicgenError):
    """More than one stored artifact answers to the given prefix."""

    code = "ambiguous-id"
    exit_code = 3

    def __init__(self, wanted: str, candidates: list[str]) -> None:
        shown = ", ".join(candidates[:8]) + (", …" if len(candidates) > 8 else "")
        super().__init__(f"{wanted!r} could be any of {shown}", hint="give more of the id")
        self.candidates = candidates


class ServiceUnreachableError(MusicgenError):
    """No connection to the service could be made."""

    code = "service-unreachable"
    exit_code = 4


class TryAgainError(MusicgenError):
    """Busy or out of time: trying again later can help."""

    code = "try-again"
    exit_code = 5


class ServiceBusyError(TryAgainError):
    """The service was busy until our patience was spent."""

    code = "service-busy"


class OutOfTimeError(TryAgainError):
    """The deadline round a request passed."""

    code = "out-of-time"


class StoreBusyError(TryAgainError):
    """Another process held the store's lock for too long."""

    code = "store-busy"


class ModelBusyError(TryAgainError):
    """Another process is writing the model."""

    code = "model-busy"


class ServiceError(MusicgenError):
    """The service answered with an error."""

    code = "service-error"
    exit_code = 6


class BadAnswerError(ServiceError):
    """The service answered with something that isn't its contract."""

    code = "bad-answer"


class DamagedError(MusicgenError):
    """Stored bytes are not what their record says."""

    code = "damaged"
    exit_code = 7


class AbsentError(MusicgenError):
    """Something optional isn't on this machine."""

    code = "absent"
    exit_code = 8


class MissingExtraError(AbsentError):
    """A package of an optional extra is not installed."""

    code = "missing-extra"


class ModelAbsentError(AbsentError):
    """A model that exists is not on this machine."""

    code = "model-absent"


class PlayerAbsentError(AbsentError):
    """There is nothing that plays sound on this machine."""

    code = "player-absent"


class StoreError(MusicgenError):
    """The store can't be read or written as asked."""

    code = "store-error"


class NewerStoreError(StoreError):
    """The store was written by a newer version of this tool."""

    code = "newer-store"


class ModelsFolderError(MusicgenError):
    """A model can't be written or removed: no permission, or no room."""

    code = "models-folder"


class InvalidWavError(MusicgenError):
    """The bytes are not a WAV that can be kept."""

    code = "invalid-wav"


class TargetError(MusicgenError):
    """An export target exists already or can't be written."""

    code = "target"


class PlayerError(MusicgenError):
    """A player could not play the sound."""

    code = "player"

    def __init__(self, message: str, *, at_once: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.at_once = at_once  # before anything was heard: another one may be tried


class EngineError(MusicgenError):
    """The model in this process failed."""

    code = "engine"


class CheckpointError(EngineError):
    """A model's files are damaged, incomplete or of a kind that isn't supported."""

    code = "checkpoint"


class MemoryNeededError(EngineError):
    """The model needs more memory than is free."""

    code = "memory-needed"


class StoppedError(MusicgenError):
    """Ctrl-C."""

    code = "interrupted"
    exit_code = 130

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message)


def line(err: Exception) -> str:
    """Return what a foreign error says, in one line that isn't long."""
    return " ".join(str(err).split())[:200]

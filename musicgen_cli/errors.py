"""
Every failure that the program can explain, with its code, its exit code and its hint.

    MusicgenError               failed                1
    ├── UsageError              usage                 2   wrong options, or options that don't go together
    │   ├── NoAudioEncoderError no-audio-encoder      2   the model can't go on from a sound
    │   ├── InvalidValueError   invalid-value         2   a value is out of range or of the wrong form
    │   ├── NoAudioEncoderError  no-audio-encoder     2   the model can't go on from a sound
    │   ├── NotOfferedError     not-offered           2   a service can't make what is asked of it
    │   └── InvalidRowsError    invalid-rows          2   rows of a batch are wrong; nothing was made
    ├── NotFoundError           not-found             3
    │   ├── SourceGoneError     source-gone           3   what a take is to be made from was removed
    │   ├── ArtifactNotFoundError  artifact-not-found 3
    │   ├── SourceGoneError     source-gone           3   what a take is made from isn't in the store any more
    │   ├── JobNotFoundError    job-not-found         3
    │   └── UnknownModelError   unknown-model         3
    ├── AmbiguousIdError        ambiguous-id          3   more than one take or job matches
    ├── ServiceUnreachableError service-unreachable   4   there is no connection to the service
    │   └── NoServiceError      no-service            4   … to any of several services
    ├── TryAgainError           try-again             5   trying again later can help
    │   ├── ServiceBusyError    service-busy          5
    │   ├── OutOfTimeError      out-of-time           5
    │   ├── StoreBusyError      store-busy            5
    │   ├── ModelBusyError      model-busy            5
    │   └── StillPendingError   still-pending         5   jobs have not ended yet
    ├── ServiceError            service-error         6   the service answered with an error
    │   └── BadAnswerError      bad-answer            6   … with something that isn't its contract
    ├── DamagedError            damaged               7   stored bytes are damaged
    ├── AbsentError             absent                8   something optional isn't installed
    │   ├── MissingExtraError   missing-extra         8
    │   ├── PlayerAbsentError   player-absent         8
    │   ├── ModelAbsentError    model-absent          8
    │   └── NativeUnsuitedError native-unsuited       8
    ├── StoreError              store-error           1   no permission, disk full, not a store
    │   └── NewerStoreError     newer-store           1
    ├── ProblemsFoundError      problems-found        1   `store check` found something wrong
    ├── ModelsFolderError       models-folder         1   no permission or no room for a model
    ├── InvalidWavError         invalid-wav           1   bytes are not a WAV that can be stored
    ├── TargetError             target                1   an export target exists or can't be written
    ├── PlayerError             player                1   no player could play the sound
    ├── EngineError             engine                1   the model in this process failed
    │   ├── CheckpointError     checkpoint            1   model files are damaged or not supported
    │   └── MemoryNeededError   memory-needed         1
    ├── JobFailedError          job-failed            1   a job that was waited for has no take
    ├── RunnerDiedError         runner-died           1   the process that ran a job died
    ├── PartlyMadeError         partly-made           1   some variations were made, then one failed
    ├── PartlyFailedError       partly-failed         1   some takes of a batch failed
    ├── PartlyImportedError     partly-imported       1   some files could not be imported
    └── StoppedError            interrupted         130   Ctrl-C

A message is one line, lower case, without a full stop; the hint says what to do next. Errors neither print nor
exit: the command line does both, in one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

# For a command, a Python program and the MCP server alike.
NO_SERVICE_HINT = (
    "start one with `musicgen serve`, or run the model in this process: `--local` (local=True in Python), "
    "for good MUSICGEN_LOCAL=true or `local = true` in config.toml"
)

_CANDIDATES = 8  # ids that the message for an ambiguous one lists at most


class MusicgenError(Exception):
    """A failure that the program can explain: `str(err)` is one line, `hint` is what to do next."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MusicgenError):
    """Options or arguments are wrong, or don't go together."""

    code = "usage"
    exit_code = 2


class NoAudioEncoderError(UsageError):
    """The model can't go on from a sound: it has no audio encoder, and can't make the sound again."""

    code = "no-audio-encoder"


class InvalidValueError(UsageError):
    """A value is out of its range or of the wrong form."""

    code = "invalid-value"


class NotOfferedError(UsageError):
    """A service doesn't make what is asked of it; nothing was sent."""

    code = "not-offered"


class InvalidRowsError(UsageError):
    """Rows of a batch are wrong, and nothing was made."""

    code = "invalid-rows"

    def __init__(self, count: int, *, has_valid: bool) -> None:
        rows = "1 row is" if count == 1 else f"{count} rows are"
        hint = "`--skip-invalid` makes the valid ones" if has_valid else None
        super().__init__(f"{rows} wrong, nothing was made", hint=hint)


class NotFoundError(MusicgenError):
    """Nothing matches the given name or id."""

    code = "not-found"
    exit_code = 3


class SourceGoneError(NotFoundError):
    """A take from which another one is to be made isn't in the store any more, or has another sound."""

    code = "source-gone"


class ArtifactNotFoundError(NotFoundError):
    """No stored take matches the given id."""

    code = "artifact-not-found"

    def __init__(self, id_: str) -> None:
        if id_ == "last":
            super().__init__("there is no last take: the store is empty", hint="`musicgen generate` makes a take")
            return
        super().__init__(f"no take matches {id_!r}", hint="`musicgen list` shows what is stored")


class JobNotFoundError(NotFoundError):
    """No job matches the given id."""

    code = "job-not-found"

    def __init__(self, id_: str) -> None:
        if id_ == "last":
            super().__init__("there is no last job", hint="`musicgen generate --detach` queues one")
            return
        super().__init__(f"no job matches {id_!r}", hint="`musicgen job list` shows the jobs of the last 7 days")


class UnknownModelError(NotFoundError):
    """No model has the given name."""

    code = "unknown-model"


class AmbiguousIdError(MusicgenError):
    """More than one take or job matches the given start of an id."""

    code = "ambiguous-id"
    exit_code = 3

    def __init__(self, prefix: str, candidates: list[str], *, hint: str = "give more of the id") -> None:
        shown = ", ".join(candidates[:_CANDIDATES]) + (", …" if len(candidates) > _CANDIDATES else "")
        super().__init__(f"{prefix!r} could be any of {shown}", hint=hint)
        self.candidates = candidates


class ServiceUnreachableError(MusicgenError):
    """No connection to the service could be made."""

    code = "service-unreachable"
    exit_code = 4


class NoServiceError(ServiceUnreachableError):
    """None of several services could be reached for as long as was allowed."""

    code = "no-service"


class TryAgainError(MusicgenError):
    """Something was busy or took too long; trying again later can help."""

    code = "try-again"
    exit_code = 5


class ServiceBusyError(TryAgainError):
    """The service was busy for longer than it was waited for."""

    code = "service-busy"


class OutOfTimeError(TryAgainError):
    """A request's deadline passed."""

    code = "out-of-time"


class StoreBusyError(TryAgainError):
    """Another process held the store's lock for too long."""

    code = "store-busy"


class ModelBusyError(TryAgainError):
    """Another process is writing the model."""

    code = "model-busy"


class StillPendingError(TryAgainError):
    """The time to wait for jobs is over, and they have not ended."""

    code = "still-pending"


class ServiceError(MusicgenError):
    """The service answered with an error."""

    code = "service-error"
    exit_code = 6
    connection_broke: ClassVar[bool] = False  # after the request was sent


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


class NativeUnsuitedError(AbsentError):
    """The native decoder would compute a model less well than ONNX Runtime."""

    code = "native-unsuited"


class PlayerAbsentError(AbsentError):
    """No program that plays sound is on this machine."""

    code = "player-absent"


class StoreError(MusicgenError):
    """The store can't be read or written."""

    code = "store-error"


class NewerStoreError(StoreError):
    """The store was written by a newer version of this program."""

    code = "newer-store"


class ProblemsFoundError(MusicgenError):
    """A check found something wrong."""

    code = "problems-found"

    def __init__(self, count: int, *, hint: str) -> None:
        problems = "1 problem was" if count == 1 else f"{count} problems were"
        super().__init__(f"{problems} found", hint=hint)


class ModelsFolderError(MusicgenError):
    """A model can't be written or removed: no permission, or no room."""

    code = "models-folder"


class InvalidWavError(MusicgenError):
    """The bytes are not a WAV that can be stored."""

    code = "invalid-wav"


class TargetError(MusicgenError):
    """An export target exists already or can't be written."""

    code = "target"

    def __init__(self, message: str, *, hint: str | None = None, exists: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.exists = exists  # a file is in the way, which `--force` would replace


class PlayerError(MusicgenError):
    """A player could not play the sound."""

    code = "player"

    def __init__(self, message: str, *, at_once: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.at_once = at_once  # it failed before any sound, so another player may be tried


class EngineError(MusicgenError):
    """The model in this process failed."""

    code = "engine"


class CheckpointError(EngineError):
    """A model's files are damaged, incomplete or of a kind that isn't supported."""

    code = "checkpoint"


class MemoryNeededError(EngineError):
    """The model needs more memory than is free."""

    code = "memory-needed"


class JobFailedError(MusicgenError):
    """A job that was waited for failed or was cancelled, and has no take."""

    code = "job-failed"


class RunnerDiedError(MusicgenError):
    """The process that ran a job ended before the take was made."""

    code = "runner-died"

    def __init__(self, pid: int | None, log: Path) -> None:
        super().__init__(
            f"its runner (process {pid}) ended before the take was made",
            hint=f"{log} may say why; the same command queues it again",
        )


class PartlyMadeError(MusicgenError):
    """Some variations were made and are stored, then one failed."""

    code = "partly-made"

    def __init__(self, made: int, variations: int, err: MusicgenError) -> None:
        super().__init__(f"made {made} of {variations}, then: {err}", hint=err.hint)


class PartlyFailedError(MusicgenError):
    """Some takes of a batch could not be made; the others are stored."""

    code = "partly-failed"

    def __init__(
        self, failed: int, takes: int, *, is_stopped: bool, unwritable: int = 0, in_the_way: int = 0, refused: int = 0
    ) -> None:
        """
        Say how many takes failed, and what helps.

        Args:
            unwritable: Those of them whose output could not be written.
            in_the_way: Those of these where a file is that only `--force` replaces.
            refused: Those that will fail again, such as those that go on from a sound that the model can't hear.
        """
        stopped = ", no more were begun" if is_stopped else ""
        files = "the files that are" if in_the_way > 1 else "the file that is"
        hint = "the same command again makes what is missing"
        if in_the_way == failed:
            hint = f"`--force` replaces {files} there"
        elif refused == failed:
            hint = "they fail again as they are: other rows help, or another model"
        elif in_the_way:
            hint += f", with `--force` also over {files} there"
        elif unwritable == failed:
            hint = "once these rows are changed, the same command again makes what is missing"
        super().__init__(f"{failed} of {takes} failed{stopped}", hint=hint)


class PartlyImportedError(MusicgenError):
    """Some sounds could not be imported; the others are stored."""

    code = "partly-imported"

    def __init__(self, failed: int, imported: int) -> None:
        super().__init__(f"{failed} failed, {imported} imported")


class StoppedError(MusicgenError):
    """The user pressed Ctrl-C."""

    code = "interrupted"
    exit_code = 130

    def __init__(self, message: str = "interrupted") -> None:
        super().__init__(message)


def system_reason(err: OSError) -> str:
    """Return why a system call failed, in lower case: `permission denied`."""
    return (err.strerror or str(err)).lower()


def short_reason(err: Exception) -> str:
    """Return a foreign error's message as one line of at most 200 characters."""
    return " ".join(str(err).split())[:200]

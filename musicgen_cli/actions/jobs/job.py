"""One take that is made in the background: what is asked for, by which means, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import PlannedTake, planned_take
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, MusicgenError
from musicgen_cli.store import Artifact

PENDING, RUNNING, COMPLETE, FAILED, CANCELLED = STATES = ("pending", "running", "complete", "failed", "cancelled")
ENDED = frozenset({COMPLETE, FAILED, CANCELLED})


@dataclass(frozen=True, slots=True)
class Job:
    """A take in the background, as its file tells; moments are RFC 3339 UTC."""

    id: str  # a UUID 4, which is also the `client_job_id` of the take
    state: str  # of STATES
    place: int  # in the queue: the lower, the earlier
    created: str
    request: Mapping[str, Any]
    known: Mapping[str, Any]  # what else of the record is known: tags, creator, lineage
    engine_config: EngineConfig
    started: str | None = None
    finished: str | None = None
    runner_pid: int | None = None
    steps: int = 0  # decoder steps made, of `total`; 0 of 0 where the engine doesn't tell
    total: int = 0
    result: Mapping[str, Any] | None = None  # of a complete one
    error: Mapping[str, Any] | None = None  # of a failed one: code, message, hint, exit_code

    @property
    def planned(self) -> PlannedTake:
        """
        The take to make.

        Raises:
            InvalidValueError: The file was changed into what can't be asked for.
        """
        known = dict(self.known)
        return planned_take(GenerateRequest.checked(self.request), tags=tuple(known.pop("tags")), **known)

    @property
    def prompt(self) -> str:
        """What it should sound like."""
        return str(self.request.get("prompt", ""))

    @property
    def outcome(self) -> str:
        """The take's id, or why there is none; "" while nobody knows."""
        return str((self.result or {}).get("artifact_id") or (self.error or {}).get("message") or "")

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ENDED

    def failed(self, err: MusicgenError, at: str) -> Job:
        """Return the job as it is after a failure."""
        said = {"code": err.code, "message": str(err), "hint": err.hint, "exit_code": err.exit_code}
        return replace(self, state=FAILED, finished=at, error=said)

    def complete(self, artifact: Artifact, at: str) -> Job:
        """Return the job as it is once its take is stored."""
        result = {
            "status": "success",
            "output_hash": artifact.content_hash,
            "artifact_id": artifact.id,
            "duration": artifact.duration,
            "sample_rate": artifact.sample_rate,
        }
        return replace(self, state=COMPLETE, finished=at, result=result, steps=self.total)

    def cancelled(self, at: str) -> Job:
        """Return the job as it is after somebody took it back."""
        return replace(self, state=CANCELLED, finished=at)


def new_job(asked: PlannedTake, engine_config: EngineConfig, *, place: int, created: str) -> Job:
    """Make the pending job of an order that was checked."""
    draft = asked.draft
    known = {
        "tags": [*draft.tags],
        "creator": draft.creator,
        "parent_id": draft.parent_id,
        "variation_set_id": draft.variation_set_id,
        "variation_index": draft.variation_index,
    }
    assert asked.request.client_job_id is not None
    return Job(
        id=asked.request.client_job_id,
        state=PENDING,
        place=place,
        created=created,
        request=asked.request.model_dump(),
        known=known,
        engine_config=engine_config,
    )


def to_record(job: Job) -> dict[str, Any]:
    """Return what is written to the job's file."""
    return {_ON_DISK.get(name, name): value for name, value in asdict(job).items()}


def from_record(record: object) -> Job:
    """
    Read what a job's file holds.

    Raises:
        InvalidValueError: It isn't a job.
    """
    try:
        job = _JOB.validate_python(_renamed(record))
        datetime.fromisoformat(job.created)
    except ValueError as err:  # a ValidationError is one
        raise InvalidValueError("a job's file doesn't hold a job") from err
    if job.state not in STATES:
        raise InvalidValueError("a job's file doesn't hold a job")
    return job


def _renamed(record: object) -> object:
    """Give the members of a record the names of the fields."""
    if not isinstance(record, dict):
        return record
    fields = {on_disk: name for name, on_disk in _ON_DISK.items()}
    return {fields.get(name, name): value for name, value in record.items()}


_ON_DISK = {"engine_config": "means"}  # fields whose name in a job's file is another one
_JOB = TypeAdapter(Job)

"""A take that is made in the background: its request, its engine, its progress and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import PlannedTake, planned_take
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.errors import InvalidValueError, MusicgenError
from musicgen_cli.store import Artifact
from musicgen_cli.store.lines import timestamp

PENDING, RUNNING, COMPLETE, FAILED, CANCELLED = STATES = ("pending", "running", "complete", "failed", "cancelled")
ENDED = frozenset({COMPLETE, FAILED, CANCELLED})


@dataclass(frozen=True, slots=True)
class Job:
    """A take in the background, as its file describes it; moments are RFC 3339 UTC."""

    id: str  # a UUID 4, which is also the `client_job_id` of the take
    state: str  # of STATES
    place: int  # in the queue: the lowest is next
    created: str
    request: Mapping[str, Any]
    metadata: Mapping[str, Any]  # what else the take's record will hold: tags, creator, lineage, sounds it is made from
    engine_config: EngineConfig
    started: str | None = None
    finished: str | None = None
    runner_pid: int | None = None
    steps: int = 0  # decoder steps that are done, of `total`; 0 of 0 where the engine doesn't report them
    total: int = 0
    result: Mapping[str, Any] | None = None  # of a complete job
    error: Mapping[str, Any] | None = None  # of a failed job: code, message, hint, exit_code
    key_proof: str | None = None  # that it was queued with an API key; see `api_key`

    @property
    def planned(self) -> PlannedTake:
        """
        The take to make.

        Raises:
            InvalidValueError: The file was edited, and its request has a value out of range.
        """
        metadata = dict(self.metadata)
        if not isinstance(metadata.get("extra", {}), Mapping):
            raise InvalidValueError("a job's file doesn't hold a job")
        return planned_take(GenerateRequest.checked(self.request), tags=tuple(metadata.pop("tags")), **metadata)

    @property
    def prompt(self) -> str:
        """The request's prompt."""
        return str(self.request.get("prompt", ""))

    @property
    def outcome(self) -> str:
        """The id of the take, or the message of the failure; "" where there is neither."""
        return str((self.result or {}).get("artifact_id") or (self.error or {}).get("message") or "")

    @property
    def explanation(self) -> str:
        """The message of the failure with its hint; "" where there is no failure."""
        error = self.error or {}
        hint = f" ({error['hint']})" if error.get("hint") else ""
        return f"{error.get('message') or ''}{hint}"

    @property
    def has_ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ENDED

    def ended_before(self, moment: str) -> bool:
        """Tell whether the job ended before a moment."""
        return self.has_ended and (self.finished or "") < moment

    def running(self, pid: int) -> Job:
        """Return the job as it is once the runner with this process id has claimed it."""
        return replace(self, state=RUNNING, started=_now(), runner_pid=pid)

    def failed(self, err: MusicgenError, moment: str | None = None) -> Job:
        """Return the job as it is after a failure, which happened at `moment`, or now."""
        error = {"code": err.code, "message": str(err), "hint": err.hint, "exit_code": err.exit_code}
        return replace(self, state=FAILED, finished=moment or _now(), error=error)

    def complete(self, artifact: Artifact, warnings: Sequence[str] = ()) -> Job:
        """Return the job as it is once its take is stored."""
        result: dict[str, Any] = {
            "status": "success",
            "output_hash": artifact.content_hash,
            "artifact_id": artifact.id,
            "duration": artifact.duration,
            "sample_rate": artifact.sample_rate,
        }
        if warnings:
            result["warnings"] = [*warnings]
        return replace(self, state=COMPLETE, finished=_now(), result=result, steps=self.total)

    def cancelled(self) -> Job:
        """Return the job as it is once it was cancelled."""
        return replace(self, state=CANCELLED, finished=_now())


def new_job(planned: PlannedTake, engine_config: EngineConfig, *, place: int) -> Job:
    """Return the pending job of a planned take."""
    draft = planned.draft
    metadata: dict[str, Any] = {
        "tags": [*draft.tags],
        "creator": draft.creator,
        "parent_id": draft.parent_id,
        "variation_set_id": draft.variation_set_id,
        "variation_index": draft.variation_index,
    }
    if draft.extra:
        metadata["extra"] = draft.extra
    assert planned.request.client_job_id is not None
    return Job(
        id=planned.request.client_job_id,
        state=PENDING,
        place=place,
        created=_now(),
        request=planned.request.model_dump(),
        metadata=metadata,
        engine_config=engine_config,
    )


def to_record(job: Job) -> dict[str, Any]:
    """Return the JSON object that a job's file holds."""
    return {_MEMBER_OF.get(name, name): value for name, value in asdict(job).items()}


def from_record(record: object) -> Job:
    """
    Check the JSON value that a job's file holds, and return the job.

    Raises:
        InvalidValueError: It isn't a job.
    """
    if isinstance(record, dict):
        record = {_FIELD_OF.get(name, name): value for name, value in record.items()}
    try:
        job = _JOB.validate_python(record)
        datetime.fromisoformat(job.created)
    except ValueError as err:  # a ValidationError is one
        raise InvalidValueError("a job's file doesn't hold a job") from err
    if job.state not in STATES:
        raise InvalidValueError("a job's file doesn't hold a job")
    return job


def _now() -> str:
    return timestamp(datetime.now(UTC))


_MEMBER_OF = {"metadata": "known", "engine_config": "means"}  # fields that have another name in a job's file
_FIELD_OF = {member: field for field, member in _MEMBER_OF.items()}
_JOB = TypeAdapter(Job)

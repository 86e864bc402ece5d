"""
The tools of the MCP server: what each takes, and what it does.

Schemas state bounds, but values are checked by the actions, so that an assistant reads the same messages as a person.
Takes are made as jobs, which go on after the assistant has disconnected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musicgen_cli import limits
from musicgen_cli import settings as configuration
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.generate import GenerateOptions, expected_bytes, plan
from musicgen_cli.actions.jobs.job import Job
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.actions.jobs.poll import MODES, poll
from musicgen_cli.actions.library.export import export, resolve_target
from musicgen_cli.errors import InvalidValueError, TargetError, UsageError, system_reason
from musicgen_cli.request_fields import FIELDS, RequestField
from musicgen_cli.settings import Settings
from musicgen_cli.store import Artifact, Filter, Store

LISTED = limits.Range(1, 1000, default=20)  # takes in one answer

_STARTED = "MusicGen generation started. Use job_poll() to retrieve results."
_REQUEST_FIELDS = tuple(field for field in FIELDS if field.name != "client_job_id")  # a job has an id of its own
_JSON_TYPES = {str: "string", float: "number", int: "integer", bool: "boolean"}

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool returns: a JSON object, and the audio of a take if it was requested."""

    content: dict[str, Any]
    audio: bytes | None = None
    mime: str = ""  # of the audio


@dataclass(frozen=True, slots=True)
class Tool:
    """How a tool is presented to an assistant; `Tools` has a method of its name."""

    name: str
    description: str
    properties: Mapping[str, Mapping[str, Any]]  # the JSON schemas of its arguments
    required: tuple[str, ...] = ()
    reads: bool = False  # changes nothing

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of all its arguments."""
        return {
            "type": "object",
            "properties": self.properties,
            "required": [*self.required],
            "additionalProperties": False,
        }

    def check_names(self, arguments: Arguments) -> None:
        """
        Check that the tool has arguments with these names.

        Raises:
            InvalidValueError: There is no argument with one of the names.
        """
        if unknown := arguments.keys() - self.properties.keys():
            raise InvalidValueError(f"{self.name} has no argument {sorted(unknown)[0][:40]!r}")


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools: each method is one, and takes its arguments unchecked."""

    settings: Settings
    engine_config: EngineConfig
    store: Store
    jobs: Jobs

    def musicgen_generate(self, arguments: Arguments) -> Answer:
        """Queue one take."""
        options = GenerateOptions(
            {field.name: arguments[field.name] for field in _REQUEST_FIELDS if arguments.get(field.name) is not None},
            creator=configuration.label("creator", _text(arguments, "creator") or self.settings.creator),
            tags=_texts(arguments, "tags"),
            parent_id=_text(arguments, "parent_id"),
            variation_set_id=(name := _text(arguments, "variation_set_id"))
            and configuration.label("variation_set_id", name),
        )
        planned_takes = plan(options, self.store)
        self.store.check_free_space(sum(map(expected_bytes, planned_takes)))
        (job,) = self.jobs.add(planned_takes, self.engine_config)
        return Answer({"job_id": job.id, "status": job.state, "message": _STARTED})

    def job_poll(self, arguments: Arguments) -> Answer:
        """Wait for jobs."""
        timeout_ms = arguments.get("timeout_ms", int(limits.POLL_MS.default))
        mode = _text(arguments, "mode") or MODES[0]
        polled = poll(self.jobs.list, _texts(arguments, "job_ids"), timeout_ms=timeout_ms, mode=mode)
        return Answer(asdict(polled))

    def job_list(self, _: Arguments) -> Answer:
        """List all jobs."""
        return Answer({"jobs": [_job(job) for job in reversed(self.jobs.list())]})

    def job_cancel(self, arguments: Arguments) -> Answer:
        """Cancel jobs."""
        return Answer({"jobs": [_job(job) for job in self.jobs.cancel(_required_texts(arguments, "job_ids"))]})

    def artifact_list(self, arguments: Arguments) -> Answer:
        """List stored takes."""
        limit = arguments.get("limit", int(LISTED.default))
        if isinstance(limit, bool) or not isinstance(limit, int) or limit not in LISTED:
            raise InvalidValueError(f"limit must be a whole number, {LISTED}, got {str(limit)[:40]}")
        tag = _text(arguments, "tag")
        filter_ = Filter(
            tags=(tag,) if tag else (),
            creator=_text(arguments, "creator"),
            variation_set_id=_text(arguments, "set"),
            search=_text(arguments, "search"),
        )
        return Answer({"artifacts": [artifact.record for artifact in self.store.newest(limit, filter_)]})

    def artifact_get(self, arguments: Arguments) -> Answer:
        """Show one take, with its audio if `audio` is set."""
        artifact = self._artifact(arguments)
        audio = self.store.read_blob(artifact) if _flag(arguments, "audio") else None
        return Answer({"artifact": artifact.record, "path": str(self.store.blob_path(artifact))}, audio, artifact.mime)

    def artifact_tag(self, arguments: Arguments) -> Answer:
        """Change a take's tags."""
        (artifact,) = self.store.tag(
            [self._artifact(arguments).id], add=_texts(arguments, "add"), rm=_texts(arguments, "remove")
        )
        return Answer({"artifact": artifact.record})

    def artifact_export(self, arguments: Arguments) -> Answer:
        """Copy a take to a file below the export folder of the settings."""
        if self.settings.export_dir is None:
            raise UsageError(
                "there is no folder to export to", hint="MUSICGEN_EXPORT_DIR, or export_dir in config.toml, names one"
            )
        artifact = self._artifact(arguments)
        target = _below(self.settings.export_dir, _text(arguments, "path"))
        path = export(artifact, self.store, resolve_target(target, force=_flag(arguments, "force")), set())
        return Answer({"artifact_id": artifact.id, "path": str(path)})

    def _artifact(self, arguments: Arguments) -> Artifact:
        artifact_id = _text(arguments, "artifact_id")
        if not artifact_id:
            raise InvalidValueError("artifact_id is missing")
        return self.store.get(artifact_id)


def _job(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "status": job.state,
        "created": job.created,
        "steps": job.steps,
        "total": job.total,
        "prompt": job.prompt,
        "result": job.result,
        "error": job.error and job.outcome,
    }


def _below(folder: Path, relative: str | None) -> str:
    """
    Return the path of a file in the export folder.

    Raises:
        TargetError: The path leads out of the folder, also through a symbolic link, or the folder doesn't exist.
    """
    with _explained(folder):
        top = folder.resolve(strict=True)
        if not relative:
            return f"{top}{os.sep}"
        path = Path(os.path.normpath(top / relative))
        is_below = path.is_relative_to(top) and path.resolve().is_relative_to(top)
    if not is_below or "\0" in relative or ".." in Path(relative).parts:
        raise TargetError(f"path must lie below the export folder, got {relative[:80]!r}")
    return f"{path}{os.sep}" if path == top else str(path)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise TargetError(f"can't use the export folder {str(folder)!r}: {system_reason(err)}") from err
    except (ValueError, RuntimeError) as err:  # NUL in the name; links in a circle
        raise TargetError(f"path is not the name of a file: {err}") from err


def _text(arguments: Arguments, name: str) -> str | None:
    value = arguments.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidValueError(f"{name} must be text, got {str(value)[:40]}")
    return value


def _texts(arguments: Arguments, name: str) -> list[str]:
    value = arguments.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidValueError(f"{name} must be a list of texts, got {str(value)[:40]}")
    return value


def _required_texts(arguments: Arguments, name: str) -> list[str]:
    if not (values := _texts(arguments, name)):
        raise InvalidValueError(f"{name} must name at least one")
    return values


def _flag(arguments: Arguments, name: str) -> bool:
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise InvalidValueError(f"{name} must be true or false, got {str(value)[:40]}")
    return value


def _string(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _strings(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": description, **more}


def _boolean(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description, "default": False}


def _integer(description: str, allowed: limits.Range) -> dict[str, Any]:
    bounds = {"minimum": int(allowed.low), "maximum": int(allowed.high), "default": int(allowed.default)}
    return {"type": "integer", "description": description, **bounds}


def _request_field(field: RequestField) -> dict[str, Any]:
    """Return the JSON schema of a request field."""
    schema: dict[str, Any] = {"type": _JSON_TYPES[field.type], "description": f"{field.meaning}."}
    if field.type is str:
        schema["maxLength"] = limits.PROMPT_CHARS
    if field.range is not None:
        schema |= {"minimum": field.type(field.range.low), "maximum": field.type(field.range.high)}
    return schema if field.default is None else schema | {"default": field.default}


_ARTIFACT_ID = {"artifact_id": _string("A take's id, the start of one, or `last`.")}
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "musicgen_generate",
            "Start making music from text. Answers at once with a job's id; job_poll waits for the take.",
            {field.name: _request_field(field) for field in _REQUEST_FIELDS}
            | {
                "variation_set_id": _string(
                    "The variation set to join.", minLength=1, maxLength=configuration.LABEL_CHARS
                ),
                "parent_id": _string("The take that this one comes from."),
                "tags": _strings("Tags of the take.", maxItems=limits.MAX_TAGS - len(limits.TAGS)),
                "creator": _string(
                    "Creator name.",
                    minLength=1,
                    maxLength=configuration.LABEL_CHARS,
                    default=limits.CREATOR,
                ),
            },
        ),
        Tool(
            "job_poll",
            "Wait for jobs. Unknown and cancelled jobs count as failed; `results` name the takes.",
            {
                "job_ids": _strings("Ids of jobs; without any: all that haven't ended."),
                "timeout_ms": _integer("The longest wait in milliseconds.", limits.POLL_MS),
                "mode": _string("Wait until one job has ended, or all of them.", enum=[*MODES], default=MODES[0]),
            },
            reads=True,
        ),
        Tool("job_list", "List the jobs of the last 7 days, newest first, with their progress.", {}, reads=True),
        Tool(
            "job_cancel",
            "Cancel jobs; a running one stops.",
            {"job_ids": _strings("Ids of jobs.", minItems=1)},
            required=("job_ids",),
        ),
        Tool(
            "artifact_list",
            "List stored takes, newest first.",
            {
                "tag": _string("Only takes with this tag."),
                "creator": _string("Only takes of this creator."),
                "set": _string("Only takes of this variation set."),
                "search": _string("Only takes with this text in their prompt; upper and lower case are the same."),
                "limit": _integer("The largest number of takes to list.", LISTED),
            },
            reads=True,
        ),
        Tool(
            "artifact_get",
            "Show the record of a take, the path of its audio and, with `audio`, the audio itself.",
            _ARTIFACT_ID | {"audio": _boolean("Return the audio as well, as a WAV.")},
            required=("artifact_id",),
            reads=True,
        ),
        Tool(
            "artifact_tag",
            "Add tags to a take, or remove them.",
            _ARTIFACT_ID | {"add": _strings("Tags to add."), "remove": _strings("Tags to remove.")},
            required=("artifact_id",),
        ),
        Tool(
            "artifact_export",
            "Copy a take to a WAV file below the export folder, never over an existing file unless forced.",
            _ARTIFACT_ID
            | {
                "path": _string("A file or folder below the export folder; by default a name is made from the take."),
                "force": _boolean("Replace a file that exists."),
            },
            required=("artifact_id",),
        ),
    )
}

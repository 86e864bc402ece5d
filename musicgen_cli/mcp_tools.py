"""
The tools of the MCP server: what each takes, and what it does.

Schemas state bounds, but values are checked by the actions, so that an assistant reads the same messages as a person.
Takes are made as jobs, which go on after the assistant has disconnected.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from musicgen_cli import limits
from musicgen_cli import settings as configuration
from musicgen_cli.actions.engines import EngineConfig, for_jobs
from musicgen_cli.actions.generate import GenerateOptions, expected_bytes, plan
from musicgen_cli.actions.jobs.job import Job
from musicgen_cli.actions.jobs.jobs import CANCEL_POLL_S, CANCEL_WAIT_S, Jobs
from musicgen_cli.actions.jobs.poll import MODES, Poll
from musicgen_cli.actions.library.export import FORMATS, export, resolve_target
from musicgen_cli.actions.library.loops import LoopOptions
from musicgen_cli.actions.library.takes import find_take, restored, take_ids
from musicgen_cli.actions.source_finder import SoundOptions
from musicgen_cli.errors import InvalidValueError, TargetError, UsageError, system_reason
from musicgen_cli.mcp_arguments import (
    Arguments,
    check_texts,
    flag,
    number,
    required_texts,
    text,
    texts,
    typed,
    whole_number,
)
from musicgen_cli.request_fields import FIELDS, LENGTH_FIELDS, SOUND_FIELDS, RequestField
from musicgen_cli.settings import Settings
from musicgen_cli.store import Artifact, Filter, Store

LISTED = limits.Range(1, 1000, default=20)  # takes in one answer

_STARTED = "MusicGen generation started. Use job_poll() to retrieve results."
_REQUEST_FIELDS = tuple(field for field in FIELDS if field.name != "client_job_id")  # a job has an id of its own
_JSON_TYPES = {str: "string", float: "number", int: "integer", bool: "boolean"}


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
    destroys: bool = False  # takes something away

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of all its arguments."""
        return {
            "type": "object",
            "properties": self.properties,
            "required": [*self.required],
            "additionalProperties": False,
        }

    def parse(self, arguments: Arguments) -> dict[str, Any]:
        """
        Return the arguments in the types of their schemas, without those that are empty; values aren't checked.

        Many clients send everything as text: "0.5" for a number, '["a"]' for a list, "" for what is absent.

        Raises:
            InvalidValueError: The tool has no argument of that name, or one holds text that nothing can store.
        """
        for name in arguments:
            if name not in self.properties:
                nearest = difflib.get_close_matches(name, self.properties, n=1)
                raise InvalidValueError(
                    f"{self.name} has no argument {name[:40]!r}",
                    hint=f"the nearest is {nearest[0]!r}" if nearest else f"it has {', '.join(self.properties)}",
                )
        for name, value in arguments.items():
            check_texts(name, value)
        parsed = {name: typed(value, self.properties[name]["type"]) for name, value in arguments.items()}
        return {name: value for name, value in parsed.items() if value is not None and value != ""}


@dataclass(frozen=True, slots=True)
class Tools:
    """
    The tools: each method is one, and takes the arguments that `Tool.parse` returns.

    Those that wait are coroutines, so that waiting takes no thread; the others are to be called in a thread.
    """

    settings: Settings
    engine_config: EngineConfig
    store: Store
    jobs: Jobs

    def musicgen_generate(self, arguments: Arguments) -> Answer:
        """Queue takes."""
        engine_config = self._engine_config(text(arguments, "model"))
        names = [field.name for field in (*_REQUEST_FIELDS, *LENGTH_FIELDS)]
        options = GenerateOptions(
            {name: arguments[name] for name in names if arguments.get(name) is not None},
            creator=configuration.label("creator", text(arguments, "creator") or self.settings.creator),
            tags=texts(arguments, "tags"),
            variations=whole_number(arguments, "variations", limits.VARIATIONS),
            parent_id=text(arguments, "parent_id"),
            variation_set_id=(name := text(arguments, "variation_set_id"))
            and configuration.label("variation_set_id", name),
            sounds=SoundOptions(text(arguments, "continue"), text(arguments, "melody"), number(arguments, "overlap")),
        )
        notes: list[str] = []
        planned_takes = plan(options, self.store, note=notes.append)
        self.store.check_free_space(sum(map(expected_bytes, planned_takes)))
        jobs = self.jobs.add(planned_takes, engine_config)
        content: dict[str, Any] = {"job_id": jobs[0].id, "status": jobs[0].state, "message": _STARTED}
        if len(jobs) > 1:
            set_id = planned_takes[0].draft.variation_set_id
            content |= {"job_ids": [job.id for job in jobs], "variation_set_id": set_id}
        return Answer(content | ({"notes": notes} if notes else {}))

    async def job_poll(self, arguments: Arguments) -> Answer:
        """Wait for jobs."""
        timeout_ms = whole_number(arguments, "timeout_ms", limits.POLL_MS)
        mode = text(arguments, "mode") or MODES[0]
        waiting = Poll(self.jobs.list, texts(arguments, "job_ids"), timeout_ms=timeout_ms, mode=mode)
        while isinstance(result := await asyncio.to_thread(waiting.look), float):
            await asyncio.sleep(result)
        return Answer(asdict(result))

    def job_list(self, _: Arguments) -> Answer:
        """List all jobs."""
        return Answer({"jobs": [_job(job) for job in reversed(self.jobs.list())]})

    async def job_cancel(self, arguments: Arguments) -> Answer:
        """Cancel jobs, and wait for running ones to stop, as `Jobs.cancel` does."""
        deadline = time.monotonic() + CANCEL_WAIT_S
        ids = await asyncio.to_thread(self.jobs.request_cancel, required_texts(arguments, "job_ids"))
        while True:
            jobs = await asyncio.to_thread(self.jobs.named, ids)
            if all(job.has_ended for job in jobs) or time.monotonic() > deadline:
                return Answer({"jobs": [_job(job) for job in jobs]})
            await asyncio.sleep(CANCEL_POLL_S)

    def artifact_list(self, arguments: Arguments) -> Answer:
        """List stored takes."""
        limit = whole_number(arguments, "limit", LISTED)
        tag = text(arguments, "tag")
        filter_ = Filter(
            tags=(tag,) if tag else (),
            creator=text(arguments, "creator"),
            variation_set_id=text(arguments, "set"),
            search=text(arguments, "search"),
        )
        return Answer({"artifacts": [artifact.record for artifact in self.store.newest(limit, filter_)]})

    def artifact_get(self, arguments: Arguments) -> Answer:
        """Show one take, with its audio if `audio` is set."""
        with_audio = flag(arguments, "audio")
        artifact = self._artifact(arguments)
        audio = self.store.read_blob(artifact) if with_audio else None
        return Answer({"artifact": artifact.record, "path": str(self.store.blob_path(artifact))}, audio, artifact.mime)

    def artifact_tag(self, arguments: Arguments) -> Answer:
        """Change a take's tags."""
        (artifact,) = self.store.tag(
            [self._artifact(arguments).id], add=texts(arguments, "add"), rm=texts(arguments, "remove")
        )
        return Answer({"artifact": artifact.record})

    def artifact_remove(self, arguments: Arguments) -> Answer:
        """Remove takes, or restore removed ones."""
        ids = required_texts(arguments, "artifact_ids")
        is_undo = flag(arguments, "undo")
        artifacts = [*restored(ids, self.store)] if is_undo else self.store.remove([*take_ids(ids, self.store)])
        return Answer({"artifacts": [artifact.record for artifact in artifacts]})

    def artifact_export(self, arguments: Arguments) -> Answer:
        """Copy a take to a file below the export folder of the settings."""
        if self.settings.export_dir is None:
            raise UsageError(
                "there is no folder to export to", hint="MUSICGEN_EXPORT_DIR, or export_dir in config.toml, names one"
            )
        artifact = self._artifact(arguments)
        path = _below(self.settings.export_dir, text(arguments, "path"))
        target = resolve_target(
            path,
            force=flag(arguments, "force"),
            format_=text(arguments, "format"),
            loop=_loop(arguments),
        )
        notes = [*target.warnings]
        exported = export(artifact, self.store, target, set(), note=notes.append)
        return Answer({"artifact_id": artifact.id, "path": str(exported)} | ({"notes": notes} if notes else {}))

    def _engine_config(self, model: str | None) -> EngineConfig:
        """Return what makes takes: that of the server, with another local model if one is named."""
        if model is None:
            return self.engine_config
        if not self.engine_config.local:
            raise UsageError("model needs `musicgen mcp --local`", hint="a service chooses its model when it starts")
        return for_jobs(replace(self.engine_config, model=model))

    def _artifact(self, arguments: Arguments) -> Artifact:
        artifact_id = text(arguments, "artifact_id")
        if not artifact_id:
            raise InvalidValueError("artifact_id is missing")
        return find_take(artifact_id, self.store)


def _job(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "status": job.state,
        "created": job.created,
        "steps": job.steps,
        "total": job.total,
        "prompt": job.prompt,
        "result": job.result,
        "error": job.error and job.explanation,
    }


def _loop(arguments: Arguments) -> LoopOptions | None:
    """
    Return how a take is to be cut into a loop, None if it isn't.

    Raises:
        InvalidValueError: A value is out of its range.
        UsageError: There are details of a loop, but no loop is wanted.
    """
    bpm, bars = number(arguments, "bpm"), number(arguments, "bars", whole=True)
    if flag(arguments, "loop"):
        return LoopOptions(bpm, None if bars is None else int(bars))
    if bpm is not None or bars is not None:
        raise UsageError(f"{'bars' if bpm is None else 'bpm'} needs loop")
    return None


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


def _string(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _strings(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": description, **more}


def _boolean(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description, "default": False}


def _whole_number(description: str, allowed: limits.Range) -> dict[str, Any]:
    bounds = {"minimum": int(allowed.low), "maximum": int(allowed.high), "default": int(allowed.default)}
    return {"type": "integer", "description": description, **bounds}


def _request_field(field: RequestField) -> dict[str, Any]:
    """Return the JSON schema of a request field."""
    schema: dict[str, Any] = {"type": _JSON_TYPES[field.type], "description": f"{field.meaning.replace('--', '')}."}
    if field.name == "prompt":
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
            "Start making music: from text, by going on from a sound (`continue`), or on a tune (`melody`). Answers at "
            "once with a job's id, or `job_ids`; job_poll waits for them.",
            {field.name: _request_field(field) for field in (*_REQUEST_FIELDS, *LENGTH_FIELDS, *SOUND_FIELDS)}
            | {
                "variation_set_id": _string(
                    "The variation set to join.", minLength=1, maxLength=configuration.LABEL_CHARS
                ),
                "parent_id": _string("The take that this one comes from."),
                "variations": _whole_number("How many takes to make, with seeds counting up.", limits.VARIATIONS),
                "model": _string("A model on this machine; without one that of the settings. A service has its own."),
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
                "timeout_ms": _whole_number("The longest wait in milliseconds.", limits.POLL_MS),
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
            destroys=True,
        ),
        Tool(
            "artifact_list",
            "List stored takes, newest first.",
            {
                "tag": _string("Only takes with this tag."),
                "creator": _string("Only takes of this creator."),
                "set": _string("Only takes of this variation set."),
                "search": _string("Only takes with this text in their prompt; upper and lower case are the same."),
                "limit": _whole_number("The largest number of takes to list.", LISTED),
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
            "artifact_remove",
            "Remove takes, or restore removed ones; their audio stays until the user cleans up the store.",
            {
                "artifact_ids": _strings("Ids of takes or sets, the starts of ids, or `last`.", minItems=1),
                "undo": _boolean("Restore these takes."),
            },
            required=("artifact_ids",),
            destroys=True,
        ),
        Tool(
            "artifact_export",
            "Copy a take to a file below the export folder, never over an existing file unless forced.",
            _ARTIFACT_ID
            | {
                "path": _string("A file or folder below the export folder; by default a name is made from the take."),
                "format": _string("The file's format; without one that of the path, else wav.", enum=[*FORMATS]),
                "loop": _boolean("Cut whole bars that repeat without a seam, or cross-fade a take without a beat."),
                "bpm": {"type": "number", "description": "Tempo of the loop; by default the prompt's, or measured."},
                "bars": {"type": "integer", "description": "Bars of four beats in the loop; by default all that fit."},
                "force": _boolean("Replace a file that exists."),
            },
            required=("artifact_id",),
        ),
    )
}

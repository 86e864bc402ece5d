"""
The actions as MCP tools over stdio; the only file that imports mcp.

Schemas tell bounds, but what is wrong is found by the actions, so that an assistant reads the same sentences as a
person does. Takes are made as jobs, which go on when the assistant has gone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from musicgen_cli import limits, settings
from musicgen_cli._version import __version__
from musicgen_cli.actions.generate import GenerateOptions, expected_bytes, plan
from musicgen_cli.actions.jobs.job import EngineConfig, Job
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.actions.jobs.poll import MODES, poll
from musicgen_cli.actions.library.export import export, target
from musicgen_cli.contract import RANGES
from musicgen_cli.errors import InvalidValueError, MusicgenError, TargetError, UsageError
from musicgen_cli.settings import Settings
from musicgen_cli.store import Artifact, Filter, Store
from musicgen_cli.text import escaped_json

STARTED = "MusicGen generation started. Use job_poll() to retrieve results."
_LISTED = limits.Range(1, 1000, default=20)
_URI = "artifact://"
_VALUES = ("prompt", "duration", "temperature", "top_k", "top_p", "guidance_scale", "do_sample", "seed")

Arguments = Mapping[str, Any]
Answer = tuple[dict[str, Any], list[types.ContentBlock]]  # an object, and what else is to be heard


@dataclass(frozen=True, slots=True)
class Tools:
    """What the tools work on; each method is one, and takes the arguments as they came."""

    chosen: Settings
    engine_config: EngineConfig
    store: Store
    jobs: Jobs

    def musicgen_generate(self, given: Arguments) -> Answer:
        """Queue one take."""
        wish = GenerateOptions(
            {name: given[name] for name in _VALUES if given.get(name) is not None},
            creator=settings.label("creator", _text(given, "creator") or self.chosen.creator),
            tags=_texts(given, "tags"),
            parent_id=_text(given, "parent_id"),
            variation_set_id=(name := _text(given, "variation_set_id")) and settings.label("variation_set_id", name),
        )
        planned_takes = plan(wish, self.store)
        self.store.check_room(sum(map(expected_bytes, planned_takes)))
        (job,) = self.jobs.add(planned_takes, self.engine_config)
        return {"job_id": job.id, "status": job.state, "message": STARTED}, []

    def job_poll(self, given: Arguments) -> Answer:
        """Wait for jobs."""
        timeout_ms = given.get("timeout_ms", int(limits.POLL_MS.default))
        mode = _text(given, "mode") or MODES[0]
        return asdict(poll(self.jobs, _texts(given, "job_ids"), timeout_ms=timeout_ms, mode=mode)), []

    def job_list(self, _: Arguments) -> Answer:
        """Show all jobs."""
        return {"jobs": [_job(job) for job in reversed(self.jobs.reconcile())]}, []

    def job_cancel(self, given: Arguments) -> Answer:
        """Take jobs back."""
        return {"jobs": [_job(job) for job in self.jobs.cancel(_needed(given, "job_ids"))]}, []

    def artifact_list(self, given: Arguments) -> Answer:
        """Show what is stored."""
        limit = given.get("limit", int(_LISTED.default))
        if isinstance(limit, bool) or not isinstance(limit, int) or limit not in _LISTED:
            raise InvalidValueError(f"limit must be a whole number, {_LISTED}, got {str(limit)[:40]}")
        tag = _text(given, "tag")
        where = Filter(
            tags=(tag,) if tag else (),
            creator=_text(given, "creator"),
            variation_set_id=_text(given, "set"),
            search=_text(given, "search"),
        )
        return {"artifacts": [artifact.record for artifact in self.store.newest(limit, where)]}, []

    def artifact_get(self, given: Arguments) -> Answer:
        """Show one take, and play it if that is asked for."""
        artifact = self._artifact(given)
        answer = {"artifact": artifact.record, "path": str(self.store.blob_path(artifact))}
        if not _flag(given, "audio"):
            return answer, []
        data = base64.b64encode(self.store.read_blob(artifact)).decode()
        return answer, [types.AudioContent(data=data, mime_type=artifact.mime)]

    def artifact_tag(self, given: Arguments) -> Answer:
        """Change a take's tags."""
        (artifact,) = self.store.tag([self._artifact(given).id], add=_texts(given, "add"), rm=_texts(given, "remove"))
        return {"artifact": artifact.record}, []

    def artifact_export(self, given: Arguments) -> Answer:
        """Copy a take to a file below the one folder that the settings name."""
        if self.chosen.export_dir is None:
            raise UsageError(
                "there is no folder to export to", hint="MUSICGEN_EXPORT_DIR, or export_dir in config.toml, names one"
            )
        artifact = self._artifact(given)
        where = _below(self.chosen.export_dir, _text(given, "path"))
        path = export(artifact, self.store, target(where, force=_flag(given, "force")), set())
        return {"artifact_id": artifact.id, "path": str(path)}, []

    def _artifact(self, given: Arguments) -> Artifact:
        wanted = _text(given, "artifact_id")
        if not wanted:
            raise InvalidValueError("artifact_id is missing")
        return self.store.get(wanted)


def serve(chosen: Settings, engine_config: EngineConfig, warn: Callable[[str], None]) -> None:
    """Answer on stdin and stdout until the client leaves; nothing else may be written to stdout."""
    store = Store(chosen.store, warn=warn)
    tools = Tools(chosen, engine_config, store, Jobs(store, settings.state_dir()))
    asyncio.run(_serve(tools))


async def _serve(tools: Tools) -> None:
    server = make_server(tools)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def make_server(tools: Tools) -> Server[Any]:
    """Make the MCP server of these tools."""

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[*TOOLS.values()])

    async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        if asked.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"no tool is called {asked.name[:40]!r}")
        try:
            given = asked.arguments or {}
            if unknown := given.keys() - TOOLS[asked.name].input_schema["properties"].keys():
                raise InvalidValueError(f"{asked.name} has no {sorted(unknown)[0][:40]!r}")
            answer, heard = await asyncio.to_thread(getattr(tools, asked.name), given)
        except MusicgenError as err:
            hint = f" ({err.hint})" if err.hint else ""
            return types.CallToolResult(content=[types.TextContent(text=f"{err}{hint}")], is_error=True)
        text = types.TextContent(text=escaped_json(json.dumps(answer, ensure_ascii=False)))
        return types.CallToolResult(content=[text, *heard], structured_content=answer)

    async def list_resources(_: Any, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        artifacts = await asyncio.to_thread(lambda: [*tools.store.newest(int(_LISTED.default))])
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    name=take.id, uri=_URI + take.id, description=take.prompt, mime_type=take.mime, size=take.bytes
                )
                for take in artifacts
            ]
        )

    async def list_templates(_: Any, __: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            name="artifact",
            uri_template=_URI + "{id}",
            description="The sound of a stored take.",
            mime_type="audio/wav",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(_: Any, asked: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(asked.uri)
        try:
            if not uri.startswith(_URI):
                raise InvalidValueError(f"resources are {_URI}ID, got {uri[:80]!r}")
            artifact = await asyncio.to_thread(tools.store.get, uri.removeprefix(_URI))
            data = base64.b64encode(await asyncio.to_thread(tools.store.read_blob, artifact)).decode()
        except MusicgenError as err:
            raise MCPError(types.INVALID_PARAMS, str(err)) from err
        contents = types.BlobResourceContents(uri=uri, mime_type=artifact.mime, blob=data)
        return types.ReadResourceResult(contents=[contents])

    return Server(
        "musicgen",
        version=__version__,
        instructions="Makes music from text. Start takes with musicgen_generate, wait with job_poll.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


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


def _below(folder: Path, wanted: str | None) -> str:
    """
    Return where in the folder a file is to go.

    Raises:
        TargetError: It would be elsewhere, also by way of a symbolic link, or the folder isn't there.
    """
    with _explained(folder):
        top = folder.resolve(strict=True)
        if not wanted:
            return f"{top}{os.sep}"
        path = Path(os.path.normpath(top / wanted))
        is_below = path.is_relative_to(top) and path.resolve().is_relative_to(top)
    if not is_below or "\0" in wanted or ".." in Path(wanted).parts:
        raise TargetError(f"path must lie below the export folder, got {wanted[:80]!r}")
    return f"{path}{os.sep}" if path == top else str(path)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise TargetError(f"can't use the export folder {str(folder)!r}: {(err.strerror or str(err)).lower()}") from err
    except (ValueError, RuntimeError) as err:  # NUL in the name; links in a circle
        raise TargetError(f"path is no file's name: {err}") from err


def _text(given: Arguments, name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidValueError(f"{name} must be text, got {str(value)[:40]}")
    return value


def _texts(given: Arguments, name: str) -> list[str]:
    value = given.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidValueError(f"{name} must be a list of texts, got {str(value)[:40]}")
    return value


def _needed(given: Arguments, name: str) -> list[str]:
    if not (values := _texts(given, name)):
        raise InvalidValueError(f"{name} must name at least one")
    return values


def _flag(given: Arguments, name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise InvalidValueError(f"{name} must be true or false, got {str(value)[:40]}")
    return value


def _string(what: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": what, **more}


def _strings(what: str, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": what, **more}


def _number(name: str, what: str, allowed: limits.Range | None = None, kind: str = "number") -> dict[str, Any]:
    allowed = allowed or RANGES[name]
    bounds = {"minimum": allowed.low, "maximum": allowed.high, "default": allowed.default}
    if kind == "integer":
        bounds = {key: int(value) for key, value in bounds.items()}
    if name == "seed":
        del bounds["default"]
    return {"type": kind, "description": what, **bounds}


def _tool(
    name: str, what: str, required: tuple[str, ...] = (), *, reads: bool = False, **properties: Any
) -> types.Tool:
    schema = {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}
    return types.Tool(
        name=name,
        description=what,
        input_schema=schema,
        annotations=types.ToolAnnotations(read_only_hint=reads, destructive_hint=name == "job_cancel"),
    )


_ID = _string("A take's id, the start of it, or `last`.")
TOOLS = {
    tool.name: tool
    for tool in (
        _tool(
            "musicgen_generate",
            "Start making music from text. Answers at once with a job's id; job_poll waits for the take.",
            prompt=_string(
                "What it should sound like; empty: unconditional.", maxLength=limits.PROMPT_CHARS, default=""
            ),
            duration=_number("duration", "Length in seconds."),
            temperature=_number("temperature", "Higher is wilder."),
            top_k=_number("top_k", "Choose among so many; 0: all.", kind="integer"),
            top_p=_number("top_p", "Choose among this share; 1: all."),
            guidance_scale=_number("guidance_scale", "How closely to follow the prompt."),
            do_sample={"type": "boolean", "description": "Draw, or take the likeliest.", "default": True},
            seed=_number("seed", "Same seed, same take; else one is drawn and recorded.", kind="integer"),
            variation_set_id=_string("Join this variation set.", minLength=1, maxLength=settings.LABEL_CHARS),
            parent_id=_string("The take this one comes from."),
            tags=_strings("Tags of the take.", maxItems=limits.TAGS_EACH - len(limits.TAGS)),
            creator=_string("Who asks for it.", minLength=1, maxLength=settings.LABEL_CHARS, default=limits.CREATOR),
        ),
        _tool(
            "job_poll",
            "Wait for jobs. Unknown and cancelled ones count as failed; `results` name the takes.",
            reads=True,
            job_ids=_strings("Jobs; none: all that haven't ended."),
            timeout_ms=_number("timeout_ms", "The longest wait in milliseconds.", limits.POLL_MS, "integer"),
            mode=_string("Until one has ended, or all.", enum=[*MODES], default=MODES[0]),
        ),
        _tool("job_list", "Show the jobs of the last 7 days, newest first, with the steps that are done.", reads=True),
        _tool(
            "job_cancel",
            "Take jobs back; one that is running stops.",
            ("job_ids",),
            job_ids=_strings("Jobs.", minItems=1),
        ),
        _tool(
            "artifact_list",
            "Show stored takes, newest first.",
            reads=True,
            tag=_string("Those with this tag."),
            creator=_string("Those of this creator."),
            set=_string("Those of this variation set."),
            search=_string("Those with this in their prompt, upper and lower case alike."),
            limit=_number("limit", "At most so many.", _LISTED, "integer"),
        ),
        _tool(
            "artifact_get",
            "Show all that is known of a take, where its sound is, and the sound itself if asked for.",
            ("artifact_id",),
            reads=True,
            artifact_id=_ID,
            audio={"type": "boolean", "description": "The sound, too, as a WAV.", "default": False},
        ),
        _tool(
            "artifact_tag",
            "Add tags to a take, or remove them.",
            ("artifact_id",),
            artifact_id=_ID,
            add=_strings("Tags to add."),
            remove=_strings("Tags to remove."),
        ),
        _tool(
            "artifact_export",
            "Copy a take to a WAV file below the export folder, never over an existing one unless forced.",
            ("artifact_id",),
            artifact_id=_ID,
            path=_string("A file or folder, relative to the export folder; none: a name is made."),
            force={"type": "boolean", "description": "Replace a file that exists.", "default": False},
        ),
    )
}

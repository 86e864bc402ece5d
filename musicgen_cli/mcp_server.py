"""
The MCP server: the tools of `mcp_tools` over stdio, and stored takes as resources.

The only file that imports mcp.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from musicgen_cli import settings as configuration
from musicgen_cli._version import __version__
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.errors import InvalidValueError, MusicgenError
from musicgen_cli.mcp_tools import LISTED, TOOLS, Answer, Tools
from musicgen_cli.settings import Settings
from musicgen_cli.store import Store
from musicgen_cli.text import escaped_json, is_encodable, printable

_URI = "artifact://"
_LAST_ANSWERS_S = 60.0  # for answers after the input has ended; a poll of jobs takes at most 30 s

Paging = types.PaginatedRequestParams | None


def serve(settings: Settings, engine_config: EngineConfig, warn: Callable[[str], None]) -> None:
    """Serve on standard input and output until the client disconnects; nothing else may write to standard output."""
    store = Store(settings.store, warn=warn)
    jobs = Jobs(store, configuration.state_dir())
    try:
        jobs.reconcile()  # once: the tools that list jobs and wait for them only read
    except MusicgenError as err:
        warn(str(err))
    asyncio.run(_serve(_Handlers(Tools(settings, engine_config, store, jobs))))


async def _serve(handlers: _Handlers) -> None:
    server: Server[Any] = Server(
        "musicgen",
        version=__version__,
        instructions="Makes music from text. Start takes with musicgen_generate, wait with job_poll.",
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
    )
    async with stdio_server() as (reading, writing):
        requests = _OpenRequests()
        await server.run(
            _Reading(reading, requests), _Writing(writing, requests), server.create_initialization_options()
        )


class _OpenRequests:
    """The requests that have no answer yet."""

    def __init__(self) -> None:
        self._ids: set[types.RequestId] = set()
        self._all_answered = anyio.Event()

    def received(self, message: SessionMessage | Exception) -> None:
        """Take note of a message from the client; a request that it cancels gets no answer."""
        match message:
            case SessionMessage(message=types.JSONRPCRequest(id=id_)):
                self._ids.add(id_)
            case SessionMessage(
                message=types.JSONRPCNotification(method="notifications/cancelled", params={"requestId": id_})
            ):
                self._close(id_)

    def sent(self, message: SessionMessage) -> None:
        """Take note of a message to the client."""
        match message.message:
            case types.JSONRPCResponse(id=id_) | types.JSONRPCError(id=id_):
                self._close(id_)

    async def wait(self) -> None:
        """Wait until every request has its answer, for a bounded time."""
        with anyio.move_on_after(_LAST_ANSWERS_S):
            while self._ids:
                self._all_answered = anyio.Event()
                await self._all_answered.wait()

    def _close(self, id_: object) -> None:
        self._ids = {each for each in self._ids if each != id_}
        if not self._ids:
            self._all_answered.set()


class _Stream:
    """A stream of the SDK between it and the client, which is closed at the end of a `with`."""

    def __init__(self, stream: Any, requests: _OpenRequests) -> None:
        self._stream = stream
        self._requests = requests

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _Reading(_Stream):
    """
    What the client sends; it ends only when every request has its answer.

    The SDK cancels the requests that it still works on when the input ends. A client that closes its standard input
    right after its last request, such as `printf … | musicgen mcp`, wants the answer all the same.
    """

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message; the end of the input waits for the answers."""
        try:
            message: SessionMessage | Exception = await self._stream.receive()
        except anyio.EndOfStream:
            await self._requests.wait()
            raise
        if isinstance(message, Exception):
            message = _repaired(message)
        self._requests.received(message)
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


def _repaired(error: Exception) -> SessionMessage | Exception:
    """
    Return the message of a line that the SDK could not parse, so that the request in it gets an answer; else the error.

    The SDK passes over a line with a lone surrogate, and its sender would wait for ever. The tool refuses the text.
    """
    try:
        line = error.errors()[0]["input"] if isinstance(error, ValidationError) else ""
        return SessionMessage(types.JSONRPCRequest.model_validate(json.loads(line)))
    except (ValueError, TypeError, RecursionError):  # it isn't JSON, or no request
        return error


def _encodable(value: Any) -> Any:
    """Return an answer as UTF-8 can hold it: paths may have bytes that are none, which are shown as escapes."""
    if isinstance(value, dict):
        return {name: _encodable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in value]
    return printable(value) if isinstance(value, str) and not is_encodable(value, "utf-8") else value


class _Writing(_Stream):
    """What is sent to the client; takes note of the answers."""

    async def send(self, message: SessionMessage, /) -> None:
        """Send a message."""
        await self._stream.send(message)
        self._requests.sent(message)


class _Handlers:
    """Answers the requests of the protocol; slow work runs in a thread."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def list_tools(self, _: Any, __: Paging) -> types.ListToolsResult:
        """List the tools."""
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=tool.schema,
                    annotations=types.ToolAnnotations(read_only_hint=tool.reads, destructive_hint=tool.destroys),
                )
                for tool in TOOLS.values()
            ]
        )

    async def call_tool(self, _: Any, call: types.CallToolRequestParams) -> types.CallToolResult:
        """Call a tool; a failure that can be explained is its result."""
        if call.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"no tool is called {call.name[:40]!r}")
        try:
            arguments = TOOLS[call.name].parse(call.arguments or {})
            tool = getattr(self._tools, call.name)
            is_coroutine = inspect.iscoroutinefunction(tool)
            answer: Answer = await (tool(arguments) if is_coroutine else asyncio.to_thread(tool, arguments))
        except MusicgenError as err:
            hint = f" ({err.hint})" if err.hint else ""
            return types.CallToolResult(content=[types.TextContent(text=printable(f"{err}{hint}"))], is_error=True)
        structured = _encodable(answer.content)
        content: list[types.ContentBlock] = [
            types.TextContent(text=escaped_json(json.dumps(structured, ensure_ascii=False)))
        ]
        if answer.audio is not None:
            content.append(types.AudioContent(data=base64.b64encode(answer.audio).decode(), mime_type=answer.mime))
        return types.CallToolResult(content=content, structured_content=structured)

    async def list_resources(self, _: Any, __: Paging) -> types.ListResourcesResult:
        """List the newest takes."""
        artifacts = await asyncio.to_thread(lambda: [*self._tools.store.newest(int(LISTED.default))])
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    name=take.id, uri=_URI + take.id, description=take.prompt, mime_type=take.mime, size=take.bytes
                )
                for take in artifacts
            ]
        )

    async def list_templates(self, _: Any, __: Paging) -> types.ListResourceTemplatesResult:
        """Describe how takes are addressed as resources."""
        template = types.ResourceTemplate(
            name="artifact",
            uri_template=_URI + "{id}",
            description="The sound of a stored take.",
            mime_type="audio/wav",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(self, _: Any, request: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """Return the audio of a take."""
        uri = str(request.uri)
        try:
            if not uri.startswith(_URI):
                raise InvalidValueError(f"resources are {_URI}ID, got {uri[:80]!r}")
            artifact = await asyncio.to_thread(self._tools.store.get, uri.removeprefix(_URI))
            data = base64.b64encode(await asyncio.to_thread(self._tools.store.read_blob, artifact)).decode()
        except MusicgenError as err:
            raise MCPError(types.INVALID_PARAMS, printable(str(err))) from err
        contents = types.BlobResourceContents(uri=uri, mime_type=artifact.mime, blob=data)
        return types.ReadResourceResult(contents=[contents])

"""
The MCP server: the tools of `mcp_tools` over stdio, and stored takes as resources.

The only file that imports mcp.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from musicgen_cli import settings as configuration
from musicgen_cli._version import __version__
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.errors import InvalidValueError, MusicgenError
from musicgen_cli.mcp_tools import LISTED, TOOLS, Tools
from musicgen_cli.settings import Settings
from musicgen_cli.store import Store
from musicgen_cli.text import escaped_json

_URI = "artifact://"

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
        await server.run(reading, writing, server.create_initialization_options())


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
                    annotations=types.ToolAnnotations(
                        read_only_hint=tool.reads, destructive_hint=tool.name == "job_cancel"
                    ),
                )
                for tool in TOOLS.values()
            ]
        )

    async def call_tool(self, _: Any, call: types.CallToolRequestParams) -> types.CallToolResult:
        """Call a tool; a failure that can be explained is its result."""
        if call.name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"no tool is called {call.name[:40]!r}")
        arguments = call.arguments or {}
        try:
            TOOLS[call.name].check_names(arguments)
            answer = await asyncio.to_thread(getattr(self._tools, call.name), arguments)
        except MusicgenError as err:
            hint = f" ({err.hint})" if err.hint else ""
            return types.CallToolResult(content=[types.TextContent(text=f"{err}{hint}")], is_error=True)
        content: list[types.ContentBlock] = [
            types.TextContent(text=escaped_json(json.dumps(answer.content, ensure_ascii=False)))
        ]
        if answer.audio is not None:
            content.append(types.AudioContent(data=base64.b64encode(answer.audio).decode(), mime_type=answer.mime))
        return types.CallToolResult(content=content, structured_content=answer.content)

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
            raise MCPError(types.INVALID_PARAMS, str(err)) from err
        contents = types.BlobResourceContents(uri=uri, mime_type=artifact.mime, blob=data)
        return types.ReadResourceResult(contents=[contents])

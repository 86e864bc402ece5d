from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli import Store
from musicgen_cli.audio.wav import inspect
from tests.support import fakes

mcp = pytest.importorskip("mcp", reason="the extra mcp isn't installed")

Call = Callable[..., Awaitable[Any]]
pytestmark = pytest.mark.usefixtures("store_path")


def session(test: Callable[[Any, Call], Awaitable[None]], *words: str) -> None:
    """Start `musicgen mcp` and drive it with the SDK's own client."""

    async def run() -> None:
        program = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "musicgen_cli", "mcp", *words], env=dict(os.environ)
        )
        async with mcp.Client(mcp.stdio_client(program)) as client:

            async def call(tool: str, /, **arguments: Any) -> Any:
                """Return the answer of a tool, or the message of its error."""
                result = await client.call_tool(tool, arguments)
                if result.is_error:
                    return result.content[0].text
                assert json.loads(result.content[0].text) == result.structured_content
                return result.structured_content

            await test(client, call)

    asyncio.run(run())


async def make_take(call: Call, **arguments: Any) -> dict[str, Any]:
    """Make a take, and return its record."""
    started = await call("musicgen_generate", **arguments)
    assert started == {
        "job_id": started["job_id"],
        "status": "pending",
        "message": "MusicGen generation started. Use job_poll() to retrieve results.",
    }
    polled = await call("job_poll", job_ids=[started["job_id"]], timeout_ms=30_000)
    assert polled["completed"] == [started["job_id"]], polled
    answer = await call("artifact_get", artifact_id=polled["results"][started["job_id"]]["artifact_id"])
    return {**answer["artifact"], "path": answer["path"]}


def test_a_local_model_makes_takes_of_all_kinds() -> None:
    """A prompt alone; one with length, guidance and temperature; none at all."""

    async def run(_: Any, call: Call) -> None:
        calm = await make_take(call, prompt="calm ambient piano", duration=1)
        assert (calm["prompt"], calm["duration"], calm["origin"]["model"]) == ("calm ambient piano", 1.0, "nano")
        techno = await make_take(
            call,
            prompt="energetic techno beat with synthesizers",
            duration=1.5,
            guidance_scale=5.0,
            temperature=0.8,
        )
        assert techno["params"].items() >= {"duration": 1.5, "guidance_scale": 5.0, "temperature": 0.8}.items()
        free = await make_take(call, duration=5.0)
        assert (free["prompt"], free["duration"]) == ("", 5.0)
        assert inspect(Path(free["path"]).read_bytes()).frames == 160_000

    session(run, "--local", "--model", "nano")


def test_every_tool_answers(service: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes can be listed, read, tagged and exported; jobs are those of `--detach`."""
    monkeypatch.setenv("MUSICGEN_EXPORT_DIR", str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "away").symlink_to(tmp_path)

    async def run(client: Any, call: Call) -> None:
        first = await make_take(call, duration=0.5, tags=["a"], creator="me", variation_set_id="s", seed=5)
        id_ = first["id"]
        second = await make_take(call, duration=0.5, parent_id=id_, prompt="Rain")
        assert (first["creator"], first["seed"], second["parent_id"]) == ("me", 5, id_)

        for where in ({"tag": "a"}, {"creator": "me"}, {"set": "s"}):
            assert [take["id"] for take in (await call("artifact_list", **where))["artifacts"]] == [id_]
        assert len((await call("artifact_list"))["artifacts"]) == 2
        assert len((await call("artifact_list", limit=1, search="rain"))["artifacts"]) == 1

        tagged = await call("artifact_tag", artifact_id=id_, add=["b"], remove=["a"])
        assert "b" in tagged["artifact"]["tags"]
        assert "a" not in tagged["artifact"]["tags"]
        with_audio = await client.call_tool("artifact_get", {"artifact_id": id_, "audio": True})
        sound = Path(first["path"]).read_bytes()
        assert (with_audio.content[1].mime_type, base64.b64decode(with_audio.content[1].data)) == ("audio/wav", sound)
        read = await client.read_resource(f"artifact://{id_}")
        assert base64.b64decode(read.contents[0].blob) == sound
        assert f"artifact://{id_}" in {str(each.uri) for each in (await client.list_resources()).resources}
        with pytest.raises(mcp.MCPError, match="no take matches"):
            await client.read_resource("artifact://nothing")

        done = await call("artifact_export", artifact_id=id_, path="x.wav")
        assert fakes.exported(Path(done["path"])) == sound
        assert "exists" in await call("artifact_export", artifact_id=id_, path="x.wav")
        assert (await call("artifact_export", artifact_id=id_, path="x.wav", force=True))["path"] == done["path"]
        named = await call("artifact_export", artifact_id=id_)
        assert Path(named["path"]).parent == tmp_path / "out"
        for path in ("../x.wav", "away/x.wav", str(tmp_path / "x.wav"), "/etc/x.wav", "away", "a/../../x.wav", "\0"):
            assert isinstance(await call("artifact_export", artifact_id=id_, path=path), str), path
        assert [each.name for each in tmp_path.glob("*.wav")] == []

        listed = (await call("job_list"))["jobs"]
        assert [job["status"] for job in listed] == ["complete", "complete"]
        assert (await call("job_cancel", job_ids=[listed[0]["job_id"]]))["jobs"][0]["status"] == "complete"

    session(run)


def test_wrong_arguments_get_the_messages_of_the_command_line(service: HTTPServer, store_path: Path) -> None:
    """Not those of the SDK's own check of types; and nothing is queued."""

    async def run(client: Any, call: Call) -> None:
        for arguments, sentence in (
            ({"duration": 31}, "duration must be 0.5-30 s, got 31"),
            ({"duration": "long"}, "duration must be 0.5-30 s, got 'long'"),
            ({"top_k": 1.5}, "top_k must be a whole number, 0-1000, got 1.5"),
            ({"seed": 2**53}, "seed must be a whole number, 0-9007199254740991, got 9007199254740992"),
            ({"do_sample": "yes"}, "do_sample must be true or false, got 'yes'"),
            ({"prompt": 5}, "prompt must be text, got 5"),
            ({"prompt": "x" * 2001}, "prompt must be at most 2000 characters, got 2001"),
            ({"tags": "a"}, "tags must be a list of texts, got a"),
            ({"tags": ["a,b"]}, "tag 'a,b' contains one of \" \\ ,"),
            ({"creator": 5}, "creator must be text, got 5"),
            ({"variation_set_id": " x"}, "variation_set_id must be 1-128 printable characters, got ' x'"),
            ({"parent_id": "abcd"}, "no take matches 'abcd' (`musicgen list` shows what is stored)"),
            ({"lenght": 5}, "musicgen_generate has no argument 'lenght'"),
        ):
            assert await call("musicgen_generate", **arguments) == sentence
        assert "timeout_ms must be a whole number, 0-30000 ms" in await call("job_poll", timeout_ms=30_001)
        assert "mode must be one of any, all" in await call("job_poll", mode="some")
        assert "no job matches" in await call("job_cancel", job_ids=["nothing"])
        assert "at least one" in await call("job_cancel")
        assert "limit must be" in await call("artifact_list", limit=0)
        assert await call("artifact_get") == "artifact_id is missing"
        assert "there is no folder to export to" in await call("artifact_export", artifact_id="last")
        assert (await call("job_list"))["jobs"] == []
        assert (await call("job_poll", job_ids=["nothing"]))["failed"] == ["nothing"]
        with pytest.raises(mcp.MCPError, match="no tool is called"):
            await client.call_tool("nonsense", {})

    session(run)
    assert service.log == []
    assert not store_path.exists()


def test_cancelling_ends_the_request_to_the_service() -> None:
    """A request that nobody waits for would keep other clients waiting."""
    connected, disconnected = threading.Event(), threading.Event()

    def talk(connection: Any) -> None:
        connected.set()
        if not connection.recv(1):
            disconnected.set()

    async def run(_: Any, call: Call) -> None:
        id_ = (await call("musicgen_generate"))["job_id"]
        assert await asyncio.to_thread(connected.wait, 30)
        assert (await call("job_cancel", job_ids=[id_]))["jobs"][0]["status"] == "cancelled"
        assert await asyncio.to_thread(disconnected.wait, 30)

    with fakes.raw_server(talk) as url:
        session(run, "--url", url)


@pytest.mark.usefixtures("service")
def test_the_schemas_state_the_bounds() -> None:
    """Each tool, each field and each range is described."""

    async def run(client: Any, _: Call) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {
            "musicgen_generate", "job_poll", "job_list", "job_cancel", "artifact_list", "artifact_get", "artifact_tag",
            "artifact_export",
        }  # fmt: skip
        for tool in tools.values():
            assert tool.description
            assert all(field["description"] for field in tool.input_schema["properties"].values())
        schema = tools["musicgen_generate"].input_schema
        assert schema["required"] == []
        bounds = {name: (field.get("minimum"), field.get("maximum")) for name, field in schema["properties"].items()}
        assert (bounds["duration"], bounds["top_k"], bounds["seed"]) == ((0.5, 30.0), (0, 1000), (0, 2**53 - 1))

    session(run)


def test_a_job_goes_on_when_the_assistant_has_gone(service: HTTPServer, store_path: Path, musicgen: Any) -> None:
    """The command line sees the same jobs."""
    ids: list[str] = []

    async def run(_: Any, call: Call) -> None:
        ids.append((await call("musicgen_generate", duration=0.5))["job_id"])

    session(run)
    assert musicgen("job", "poll", *ids, "--timeout-ms", "30000").code == 0
    assert Store(store_path).get("last").client_job_id == ids[0]


@pytest.mark.usefixtures("service")
def test_nothing_but_the_protocol_is_on_stdout() -> None:
    """Each line of output is a JSON-RPC message, whatever the input, and it ends when standard input ends."""
    lines = ["nonsense", "{}", '{"jsonrpc":"2.0","id":1,"method":"nonsense"}']
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    lines.insert(0, json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}))
    done = subprocess.run(
        [sys.executable, "-m", "musicgen_cli", "mcp"],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["jsonrpc"] for each in messages} == {"2.0"}
    assert next(each for each in messages if each.get("id") == 0)["result"]["serverInfo"]["name"] == "musicgen"

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

from musicgen_cli import Store, settings
from musicgen_cli.actions.jobs.jobs import Jobs
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
            ({"duration": 601}, "duration must be 0.5-600 s, got 601"),
            ({"duration": "long"}, "duration must be 0.5-600 s, got 'long'"),
            ({"top_k": 1.5}, "top_k must be a whole number, 0-1000, got 1.5"),
            ({"seed": 2**53}, "seed must be a whole number, 0-9007199254740991, got 9007199254740992"),
            ({"do_sample": "maybe"}, "do_sample must be true or false, got 'maybe'"),
            ({"prompt": 5}, "prompt must be text, got 5"),
            ({"prompt": "x" * 2001}, "prompt must be at most 2000 characters, got 2001"),
            ({"tags": [5]}, "tags must be a list of texts, got [5]"),
            ({"variations": "many"}, "variations must be a whole number, 1-64, got 'many'"),
            ({"variations": 65}, "variations must be a whole number, 1-64, got 65"),
            (
                {"model": "nano"},
                "model needs `musicgen mcp --local` (a service chooses its model when it starts)",
            ),
            ({"tags": ["a,b"]}, "tag 'a,b' contains one of \" \\ ,"),
            ({"creator": 5}, "creator must be text, got 5"),
            ({"variation_set_id": " x"}, "variation_set_id must be 1-128 printable characters, got ' x'"),
            ({"parent_id": "abcd"}, "no take matches 'abcd' (`musicgen list` shows what is stored)"),
            ({"continue": "abcd"}, "no take matches 'abcd' (`musicgen list` shows what is stored)"),
            ({"continue": "/x/tune.wav"}, "there is no file '/x/tune.wav'"),
            ({"continue": "x" * 5000 + ".wav"}, f"'{'x' * 5000}.wav' can't be read: file name too long"),
            ({"melody": 5}, "melody must be text, got 5"),
            ({"overlap": "30"}, "overlap must be 1-25 s, got 30"),
            ({"overlap": "long"}, "overlap must be a number, got 'long'"),
            ({"durations": 5}, "musicgen_generate has no argument 'durations' (the nearest is 'duration')"),
        ):
            assert await call("musicgen_generate", **arguments) == sentence
        assert "timeout_ms must be a whole number, 0-30000 ms" in await call("job_poll", timeout_ms=30_001)
        assert "mode must be one of any, all" in await call("job_poll", mode="some")
        assert "no job matches" in await call("job_cancel", job_ids=["nothing"])
        assert "at least one" in await call("job_cancel")
        assert "limit must be a whole number, 1-1000, got 0" in await call("artifact_list", limit=0)
        assert "limit must be a whole number, 1-1000, got 'x'" in await call("artifact_list", limit="x")
        assert "audio must be true or false, got 'maybe'" in await call("artifact_get", artifact_id="x", audio="maybe")
        assert "at least one" in await call("artifact_remove", artifact_ids=[""])
        assert await call("artifact_get") == "artifact_id is missing"
        assert "there is no folder to export to" in await call("artifact_export", artifact_id="last")
        assert (await call("job_list"))["jobs"] == []
        assert (await call("job_poll", job_ids=["nothing"]))["failed"] == ["nothing"]
        with pytest.raises(mcp.MCPError, match="no tool is called"):
            await client.call_tool("nonsense", {})

    session(run)
    assert service.log == []
    assert not store_path.exists()


def test_arguments_that_arrive_as_text_are_read_by_their_schema(service: HTTPServer, store_path: Path) -> None:
    """Many clients send every value as text, and an empty text for what they leave out."""

    async def run(_: Any, call: Call) -> None:
        for sent, fields in (
            ({"duration": "0.5", "seed": "9007199254740991", "top_k": "50", "do_sample": "False"},
             {"duration": 0.5, "seed": 2**53 - 1, "top_k": 50, "do_sample": False}),
            ({"duration": " 1 ", "seed": 7.0, "top_k": "3.0", "temperature": "1e0", "do_sample": "yes"},
             {"duration": 1.0, "seed": 7, "top_k": 3, "temperature": 1.0, "do_sample": True}),
            ({"duration": "0.5", "seed": "3", "top_k": "", "prompt": "", "temperature": None},
             {"duration": 0.5, "seed": 3, "top_k": 250, "temperature": 1.0}),
        ):  # fmt: skip
            empty = {"creator": "", "parent_id": "", "variation_set_id": "", "tags": "", "variations": ""}
            take = await make_take(call, **sent, **empty)
            assert take["params"].items() >= fields.items()
            assert (take["creator"], "parent_id" in take) == ("agent_musicgen", False)
        assert isinstance((await call("musicgen_generate", duration=0.5, seed=""))["job_id"], str)
        for tags, stored in (('["a", "b"]', ["a", "b"]), ("mytag", ["mytag"]), ("[lofi]", ["[lofi]"]), ("7", ["7"])):
            take = await make_take(call, duration=0.5, tags=tags)
            assert take["tags"][4:] == stored
        assert len((await call("artifact_list", limit="3", tag="", search=""))["artifacts"]) == 3
        assert "audio" not in await call("artifact_get", artifact_id="last", audio="")
        for wrong in ("nan", "Infinity", "1,5", "0.5 s", "1_0", "true", "[1]"):
            message = f"duration must be 0.5-600 s, got '{wrong}'"
            assert await call("musicgen_generate", duration=wrong) == message

    session(run)


def test_variations_models_formats_and_removal_are_there_for_assistants(
    service: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command line can do with a take, an assistant can, except to delete its audio."""
    monkeypatch.setenv("MUSICGEN_EXPORT_DIR", str(tmp_path))

    async def run(_: Any, call: Call) -> None:
        started = await call("musicgen_generate", duration=4, variations="3", seed=5)
        ids = started["job_ids"]
        assert (len(ids), started["job_id"]) == (3, ids[0])
        polled = await call("job_poll", job_ids=ids, mode="all", timeout_ms=30_000)
        assert sorted(polled["completed"]) == sorted(ids), polled
        takes = (await call("artifact_list", set=started["variation_set_id"]))["artifacts"]
        assert sorted((take["seed"], take["variation_index"]) for take in takes) == [(5, 0), (6, 1), (7, 2)]

        id_ = takes[0]["id"]
        whole = await call("artifact_export", artifact_id=id_, path="whole.wav")
        loop = await call("artifact_export", artifact_id=id_, path="loop", format="wav", loop="true")
        assert inspect(Path(loop["path"]).read_bytes()).frames < inspect(Path(whole["path"]).read_bytes()).frames
        loop = await call("artifact_export", artifact_id=id_, path="bar.wav", loop=True, bpm="120.0", bars="1")
        assert inspect(Path(loop["path"]).read_bytes()).duration == pytest.approx(2.0, abs=0.05), loop
        assert loop["notes"][0].startswith("loop: ")
        assert "bars must be a whole number, got 'two'" in await call(
            "artifact_export", artifact_id=id_, loop=True, bars="two"
        )
        assert "bpm must be" in await call("artifact_export", artifact_id=id_, loop=True, bpm=1)
        assert await call("artifact_export", artifact_id=id_, bars=1) == "bars needs loop"
        gap = await call("artifact_export", artifact_id=id_, path="loop.mp3", loop=True)
        assert gap["notes"][0].startswith("mp3 adds silence at both ends")
        assert "format must be one of" in await call("artifact_export", artifact_id=id_, format="midi")

        set_id = started["variation_set_id"]
        assert len((await call("artifact_remove", artifact_ids=[set_id]))["artifacts"]) == 3
        assert len((await call("artifact_remove", artifact_ids=[set_id], undo=True))["artifacts"]) == 3
        assert "it is a variation set" in await call("artifact_get", artifact_id=set_id)
        removed = await call("artifact_remove", artifact_ids=[id_])
        assert [take["id"] for take in removed["artifacts"]] == [id_]
        assert "no take matches" in await call("artifact_get", artifact_id=id_)
        await call("artifact_remove", artifact_ids=f'["{id_}"]', undo=True)
        assert (await call("artifact_get", artifact_id=id_))["artifact"]["id"] == id_

    session(run)


def test_an_assistant_hears_what_is_wrong_with_a_take(service: HTTPServer, store_path: Path) -> None:
    """Wherever it sees the result of a job."""
    service.clear()
    service.expect_request("/predict", method="POST").respond_with_handler(fakes.shorter)

    async def run(_: Any, call: Call) -> None:
        job = (await call("musicgen_generate", duration=2))["job_id"]
        polled = await call("job_poll", job_ids=[job], timeout_ms=30_000)
        assert polled["results"][job]["warnings"] == ["requested 2 s, got 0.5 s"]
        assert (await call("job_list"))["jobs"][0]["result"]["warnings"] == ["requested 2 s, got 0.5 s"]

    session(run)


def test_an_assistant_can_name_a_length_in_bars(service: HTTPServer, store_path: Path) -> None:
    """The answer says what it comes to."""

    async def run(_: Any, call: Call) -> None:
        started = await call("musicgen_generate", prompt="house 120 bpm", bars="2")
        assert started["notes"] == ["2 bars at 120 bpm: 4 s"]
        polled = await call("job_poll", job_ids=[started["job_id"]], timeout_ms=30_000)
        assert polled["results"][started["job_id"]]["duration"] == 4
        assert "2 bars need a tempo" in await call("musicgen_generate", prompt="house", bars=2)

    session(run)


def test_an_assistant_goes_on_from_a_take(service: HTTPServer, store_path: Path, tmp_path: Path) -> None:
    """Or from a file, which is imported; the job holds what the command would send."""
    (tmp_path / "tune.wav").write_bytes(fakes.tone(1.0))

    async def run(_: Any, call: Call) -> None:
        take = await make_take(call, prompt="calm piano", duration=1, top_k=50, seed=7)
        started = [
            await call("musicgen_generate", **{"continue": "last", "duration": "1", "overlap": "5", "variations": "2"}),
            await call("musicgen_generate", melody=str(tmp_path / "tune.wav"), prompt="techno"),
        ]
        assert started[1]["notes"] == [f"imported {tmp_path / 'tune.wav'} as {Store(store_path).get('last').id}"]
        jobs = {job.id: job for job in Jobs(Store(store_path), settings.state_dir()).list()}
        first, melody = jobs[started[0]["job_id"]], jobs[started[1]["job_id"]]
        assert (first.prompt, first.request["top_k"], first.metadata["parent_id"]) == ("calm piano", 50, take["id"])
        sound = {"id": take["id"], "content_hash": take["content_hash"], "duration": 1.0}
        assert first.metadata["extra"] == {"continue": sound, "overlap": 5}
        assert (melody.prompt, [*melody.metadata["extra"]]) == ("techno", ["melody"])

    session(run)


def test_a_local_model_can_be_named() -> None:
    """One that isn't on this machine is not downloaded while the assistant waits: the answer says how to get it."""

    async def run(_: Any, call: Call) -> None:
        take = await make_take(call, duration=0.5, model="nano")
        assert take["origin"]["model"] == "nano"
        assert "musicgen model pull medium" in await call("musicgen_generate", model="medium")
        assert "no model is called 'huge'" in await call("musicgen_generate", model="huge")

    session(run, "--local")


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
            "artifact_remove", "artifact_export",
        }  # fmt: skip
        for tool in tools.values():
            assert tool.description
            assert all(field["description"] for field in tool.input_schema["properties"].values())
        schema = tools["musicgen_generate"].input_schema
        assert schema["required"] == []
        bounds = {name: (field.get("minimum"), field.get("maximum")) for name, field in schema["properties"].items()}
        assert (bounds["duration"], bounds["top_k"], bounds["seed"]) == ((0.5, 600.0), (0, 1000), (0, 2**53 - 1))

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


def test_every_request_is_answered_although_standard_input_ends_at_once(musicgen: Any) -> None:
    """A script pipes its requests in and closes the pipe; the last one may still be worked on."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    requests: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "job_poll", "arguments": {"timeout_ms": 3000}}},
        {"method": "notifications/cancelled", "params": {"requestId": 2}},  # it gets no answer, and none is waited for
        {"id": "three", "method": "tools/call", "params": {"name": "job_poll", "arguments": {"timeout_ms": 1000}}},
    ]

    def talk(connection: Any) -> None:
        connection.recv(1)  # until the client has gone

    with fakes.raw_server(talk) as url:
        job = musicgen("generate", "--detach", "--url", url).out.strip()
        done = subprocess.run(
            [sys.executable, "-m", "musicgen_cli", "mcp"],
            input="".join(json.dumps({"jsonrpc": "2.0", **each}) + "\n" for each in requests),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        musicgen("job", "cancel", job)

    answers = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stderr
    assert {1, "three"} <= answers.keys() <= {1, 2, "three"}
    assert answers["three"]["result"]["structuredContent"]["pending"] == [job]

"""`musicgen mcp` with arguments that nothing can store, with waits side by side, and with paths that aren't UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import fakes
from tests.support.command_line import Run

pytest.importorskip("mcp", reason="the extra mcp isn't installed")

pytestmark = pytest.mark.usefixtures("store_path")

HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}


class Server:
    """A process of `musicgen mcp`, spoken to line by line, as the SDK's client wouldn't send what is sent here."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "musicgen_cli", "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answers: dict[object, Any] = {}
        self.send("initialize", HELLO, id_=0)
        self.answer(0)

    def send(self, method: str, params: object, *, id_: object) -> None:
        """Send a request; what isn't ASCII is escaped, lone surrogates too."""
        assert self._process.stdin is not None
        message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def call(self, tool: str, *, id_: object = 1, **arguments: object) -> None:
        self.send("tools/call", {"name": tool, "arguments": arguments}, id_=id_)

    def answer(self, id_: object) -> Any:
        """Return the answer to a request."""
        assert self._process.stdout is not None
        while id_ not in self._answers:
            line = self._process.stdout.readline()
            assert line, "the server has ended"
            message = json.loads(line)
            self._answers[message.get("id")] = message
        return self._answers.pop(id_)

    def error_of(self, tool: str, **arguments: object) -> str:
        """Return the message of a call that fails as a tool."""
        self.call(tool, **arguments)
        result = self.answer(1)["result"]
        assert result["isError"]
        text: str = result["content"][0]["text"]
        return text

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server that may export."""
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("MUSICGEN_EXPORT_DIR", str(tmp_path / "out"))
    server = Server()
    yield server
    server.end()


@pytest.fixture
def take(musicgen: Run, store_path: Path) -> str:
    """Store a take, and return its id."""
    return musicgen("generate", "--local", "--model", "nano", "-d", "0.5", "-q").out.strip()


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("musicgen_generate", "prompt"),
        ("musicgen_generate", "tags"),
        ("musicgen_generate", "creator"),
        ("musicgen_generate", "variation_set_id"),
        ("musicgen_generate", "parent_id"),
        ("musicgen_generate", "model"),
        ("job_poll", "job_ids"),
        ("job_poll", "mode"),
        ("job_cancel", "job_ids"),
        ("artifact_list", "search"),
        ("artifact_list", "tag"),
        ("artifact_get", "artifact_id"),
        ("artifact_tag", "add"),
        ("artifact_remove", "artifact_ids"),
        ("artifact_export", "path"),
        ("artifact_export", "format"),
    ],
)
def test_text_that_nothing_can_store_is_a_tool_error(server: Server, tool: str, name: str) -> None:
    """A lone surrogate, NUL, and a text of a million characters, alone and in a list."""
    for text in ("a\ud800b", "a\0b", "a" * 1_000_000):
        message = server.error_of(tool, **{name: [text] if name.endswith("s") else text})
        assert message.startswith(f"{name} must ")
        assert len(message) < 200


def test_a_name_with_a_lone_surrogate_is_answered(server: Server) -> None:
    """Where no tool can say it, the protocol does."""
    server.call("artifact_get", **{"\ud800": "x"})
    assert "result" in (answer := server.answer(1)) or "error" in answer
    server.send("tools/call", {"name": "\udfff", "arguments": {}}, id_=2)
    assert "error" in server.answer(2)


@pytest.mark.parametrize("path", ["a" * 5000, "a/" * 2500, "a" * 300 + ".wav", "b" * 251 + ".wav", "x/" + "c" * 255])
def test_a_path_that_is_too_long_is_a_tool_error(server: Server, take: str, path: str) -> None:
    """Whichever part of it is; a name that just fits is exported, or fails with a message, too."""
    server.call("artifact_export", artifact_id=take, path=path)
    result = server.answer(1)["result"]
    text = result["content"][0]["text"]
    assert "Errno" not in text
    assert result.get("isError") or Path(json.loads(text)["path"]).exists()


def test_waiting_keeps_nobody_from_anything(server: Server, musicgen: Run) -> None:
    """Twenty polls wait; the other tools answer meanwhile."""

    def talk(connection: Any) -> None:
        connection.recv(1)  # until the client has gone

    with fakes.raw_server(talk) as url:
        job = musicgen("generate", "--detach", "--url", url).out.strip()
        for number in range(20):
            server.call("job_poll", id_=f"poll {number}", job_ids=[job], timeout_ms=30_000)
        started = time.monotonic()
        server.call("job_list")
        assert server.answer(1)["result"]["structuredContent"]["jobs"][0]["job_id"] == job
        assert time.monotonic() - started < 15  # less than the polls wait

        server.call("job_cancel", id_=2, job_ids=[job])
        assert server.answer(2)["result"]["structuredContent"]["jobs"][0]["status"] == "cancelled"
        for number in range(20):
            assert server.answer(f"poll {number}")["result"]["structuredContent"]["failed"] == [job]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system of bytes")
def test_a_store_whose_path_is_not_utf8_is_shown_with_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, musicgen: Run
) -> None:
    """The answer could not be sent otherwise, and the server would end."""
    monkeypatch.setenv("MUSICGEN_STORE", os.fsdecode(os.fsencode(tmp_path) + b"/st\xf6re"))
    musicgen("generate", "--local", "--model", "nano", "-d", "0.5", "-q")
    server = Server()

    server.call("artifact_get", artifact_id="last")

    assert "st\\udcf6re" in server.answer(1)["result"]["structuredContent"]["path"]
    server.end()

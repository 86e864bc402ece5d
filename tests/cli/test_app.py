from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli import __version__
from musicgen_cli.store import ArtifactDraft, Store
from tests.support import fakes
from tests.support.command_line import MUSICGEN, Run
from tests.support.terminal import on_terminal

TOP = Path(__file__).parents[2]


def test_version_names_the_distribution(musicgen: Run) -> None:
    """Other packages install a command of the same name, so the version says of which package it is."""
    assert musicgen("--version").out == f"musicgen-cli {__version__}\n"


def test_no_arguments_show_the_help(musicgen: Run) -> None:
    """`musicgen` alone is not an error."""
    done = musicgen()

    assert done.code == 0
    assert "generate" in done.out


@pytest.mark.parametrize("words", [["bogus"], ["\x1b[2Jbogus"], ["store"], ["list", "--\x1b[31m"], ["generate", "-d"]])
def test_wrong_usage_is_exit_2_and_printable(musicgen: Run, words: list[str]) -> None:
    """Messages about wrong arguments hold no control characters of these."""
    done = musicgen(*words)

    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.replace("\n", "").isprintable()


def test_the_documentation_shows_the_help(musicgen: Run) -> None:
    """The list of commands in docs/README.md is what `--help` prints."""
    assert musicgen("--help").out.strip() in (TOP / "docs" / "README.md").read_text()


HEAVY = ("torch", "transformers", "onnxruntime", "onnx", "numpy", "fastapi", "uvicorn", "ray", "mcp", "httpx")


def modules_of(words: list[str]) -> set[str]:
    """Run a command line in a process of its own, and return the modules that it imports."""
    code = f"import sys; from musicgen_cli.cli.app import run; run({words!r}); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return {line for line in done.stdout.splitlines() if re.fullmatch(r"[\w.]+", line)}


def test_help_loads_nothing_heavy() -> None:
    """`musicgen --help` imports no command, and none of what commands need."""
    loaded = modules_of(["--help"])

    assert "musicgen_cli.cli.app" in loaded
    assert not loaded & {*HEAVY, "pydantic", "pydantic_core", "rich", "platformdirs", "json"}


def test_list_loads_nothing_heavy(store_path: Path) -> None:
    """`musicgen list` imports the store, but no models, no HTTP client and no tables."""
    Store(store_path).put(fakes.tone(), ArtifactDraft(tags=(), prompt="x", params={}, creator="me", origin={}))
    loaded = modules_of(["list"])

    assert "musicgen_cli.store" in loaded
    assert not loaded & {
        *HEAVY,
        "pydantic",
        "pydantic_core",
        "rich",
        "filelock",
        "asyncio",
        "musicgen_cli.engine.registry",
    }


def test_a_closed_pipe_is_no_error(store_path: Path) -> None:
    """`musicgen list | head -1` is exit 0 and prints no message."""
    store = Store(store_path)
    for seed in range(50):
        store.put(fakes.tone(seed=seed), ArtifactDraft(tags=(), prompt="x" * 900, params={}, creator="me", origin={}))
    for words in (["list", "--all", "--json"], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([*MUSICGEN, *words], stdout=write, stderr=subprocess.PIPE, check=False, text=True)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_full_standard_output_is_an_error(store_path: Path) -> None:
    """If data can't be written, the exit code is 1."""
    Store(store_path).put(fakes.tone(), ArtifactDraft(tags=(), prompt="x", params={}, creator="me", origin={}))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*MUSICGEN, "list"], stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: can't write to standard output: No space left on device\n"


def test_ctrl_c_while_waiting_is_130_at_once(store_path: Path) -> None:
    """A service that doesn't answer delays Ctrl-C by nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        child = subprocess.Popen(
            [*MUSICGEN, "generate", "x", "--url", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        connection, _ = silent.accept()
        connection.recv(65536)
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
        connection.close()
    assert (child.returncode, out, err) == (130, "", "error: interrupted\n")
    assert time.monotonic() - started < 5
    assert not store_path.exists()


@pytest.mark.usefixtures("store_path")
def test_a_terminal_shows_tables(service: HTTPServer) -> None:
    """Tables have headings, and control characters and Rich markup of prompts are shown as text."""
    code, shown = on_terminal("-m", "musicgen_cli", "generate", "calm \u202e[bold]piano", "-d", "0.5")

    assert code == 0
    assert "prompt" in shown
    assert r"\u202e[bold]piano" in shown
    assert "\u202e" not in shown
    code, shown = on_terminal("-m", "musicgen_cli", "show", "last")
    assert code == 0
    assert re.search(r"origin\.model:\s+nano", shown)


@pytest.mark.usefixtures("store_path")
def test_sound_is_not_written_to_a_terminal(service: HTTPServer) -> None:
    """`-o -` on a terminal is refused before anything is made."""
    code, shown = on_terminal("-m", "musicgen_cli", "generate", "x", "-o", "-")

    assert code == 2
    assert "pipe it" in shown
    assert service.log == []


@pytest.mark.usefixtures("store_path")
def test_doctor_reports_what_is_broken(musicgen: Run, service: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is exit 0 if everything works, and 1 if the service of `--url` isn't there; the API key is never shown."""
    service.expect_request("/health").respond_with_json({"status": "ok", "model": "nano", "version": "9"})
    done = musicgen("doctor")
    assert done.code == 0, done.out
    assert "nano, version 9" in done.out

    monkeypatch.setenv("MUSICGEN_API_KEY", "s3cret")
    done = musicgen("doctor", "--url", "http://127.0.0.1:9", "--json")
    assert done.code == 1
    assert '"name":"service","state":"broken"' in done.out
    assert "s3cret" not in done.out
    assert "set (MUSICGEN_API_KEY)" in done.out


@pytest.mark.usefixtures("store_path")
def test_doctor_names_a_misspelt_variable(musicgen: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else does, and the setting that was meant isn't in force."""
    monkeypatch.setenv("MUSICGEN_SOTRE", "/somewhere")
    done = musicgen("doctor")

    line = "absent: there is no such setting, the nearest known one is 'MUSICGEN_STORE'"
    assert f"variable MUSICGEN_SOTRE\t{line}" in done.lines
    assert done.out.count("no such setting") == 1

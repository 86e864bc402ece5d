from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli.actions.library.quoting import PosixShell, PowerShell
from musicgen_cli.actions.library.reproduce import generate_command, tag_command
from musicgen_cli.store import Artifact, ArtifactDraft, Store
from tests.support import fakes

PARAMS = {"duration": 1.0, "temperature": 0.7, "top_k": 50, "top_p": 0.95, "guidance_scale": 4.5, "do_sample": True}
AWKWARD = [
    "calm ambient piano", "", "-", "--", "-rf --yes", "it's \"quoted\" \\ $(reboot) `reboot` !! %s ${IFS}",
    "two\nlines\n", "\ttab\t", "\u202eright to left\u2066", "\x85next \x9b31m", "*?[a]~#;&|<>", "ünïcödé 🎹", "\n",
]  # fmt: skip


def take(store: Store, prompt: str = "x", **more: Any) -> Artifact:
    fields: dict[str, Any] = {"params": PARAMS, "seed": 7, "origin": {"kind": "local", "model": "nano"}} | more
    return store.put(fakes.tone(), ArtifactDraft(tags=(), prompt=prompt, creator="me", **fields))


@pytest.fixture
def store(store_path: Path) -> Store:
    return Store(store_path)


def by_the_shell(command: str) -> tuple[list[str], str]:
    """Let a POSIX shell parse a command, and return the arguments and the standard input that `musicgen` would get."""
    program = "import json, sys; print(json.dumps([sys.argv[1:], '' if sys.stdin.isatty() else sys.stdin.read()]))"
    shell = ["/bin/sh", "-c", f'musicgen() {{ "$PYTHON" -c "$PROGRAM" "$@"; }}; {command}']
    env = {"PYTHON": sys.executable, "PROGRAM": program}
    done = subprocess.run(shell, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    words, stdin = json.loads(done.stdout)
    return words, stdin


@pytest.mark.parametrize("word", AWKWARD)
def test_a_shell_reads_a_quoted_word_as_it_was(word: str) -> None:
    """And no character but the line feed controls a terminal into which it is pasted."""
    assert by_the_shell(f"musicgen {PosixShell.quote(word)} end") == ([word, "end"], "")
    assert PosixShell.quote(word).replace("\n", "").isprintable()


def test_the_command_of_a_local_take_names_its_model(store: Store) -> None:
    """And all parameters of the record."""
    origin = {"kind": "local", "model": "my model", "engine": "onnx", "precision": "int8", "device": "cpu"}

    assert generate_command(take(store, "calm piano", origin=origin)) == (
        "musicgen generate 'calm piano' --duration 1 --temperature 0.7 --top-k 50 --top-p 0.95 --guidance-scale 4.5 "
        "--sample --seed 7 --local --model 'my model' --engine onnx --precision int8 --device cpu"
    )


def test_the_command_of_a_service_s_take_names_the_service(store: Store) -> None:
    """The service chooses the model itself."""
    origin = {"kind": "http", "model": "small", "engine": "onnx", "url": "http://gpu:2006"}
    command = generate_command(take(store, params={"duration": 1.0, "do_sample": False}, seed=None, origin=origin))

    assert command == "musicgen generate x --duration 1 --greedy --url http://gpu:2006"


@pytest.mark.parametrize(
    "more",
    [
        {"params": {}, "seed": None},
        {"params": {"duration": 9999.0}},
        {"params": {"duration": "$(reboot)"}},
        {"prompt": "escape \x1b[2J"},
        {"prompt": "NUL \0"},
        {"origin": {"kind": "local", "model": "a\0b"}},
    ],
)
def test_a_take_that_generate_would_refuse_has_no_command(store: Store, more: dict[str, Any]) -> None:
    """Nor has a take without recorded parameters."""
    assert generate_command(take(store, **more)) is None


def test_a_value_is_never_an_option(store: Store) -> None:
    """A model with the name of an option stays a value."""
    origin = {"kind": "local", "model": "--url=http://evil", "device": "; reboot"}
    command = generate_command(take(store, origin=origin)) or ""
    words, _ = by_the_shell(command)

    assert words[-3:] == ["--model=--url=http://evil", "--device", "; reboot"]
    one = take(store)
    assert by_the_shell(tag_command(one))[0] == ["tag", one.id, "--add", "keeper"]


SOURCE = {"id": "artifact_0123456789ab", "content_hash": "0" * 64, "duration": 2.0, "context_s": 2.0}


@pytest.mark.parametrize(
    ("extra", "options"),
    [
        ({"continue": SOURCE}, " --continue artifact_0123456789ab"),
        ({"continue": SOURCE, "overlap": 12.0, "windows": 3}, " --continue artifact_0123456789ab --overlap 12"),
        ({"melody": SOURCE}, " --melody artifact_0123456789ab"),
        ({"overlap": 5, "windows": 2}, " --overlap 5"),
        ({"continue": {"id": "$(reboot)"}, "melody": ["x"], "overlap": "--yes"}, ""),
    ],
)
def test_the_command_names_the_sounds_that_a_take_was_made_from(
    store: Store, extra: dict[str, Any], options: str
) -> None:
    """And an empty prompt, which would be that of the source otherwise. What isn't an id isn't shown as one."""
    command = generate_command(take(store, "", params={"duration": 1.0}, extra=extra))
    prompt = "'' " if "artifact_" in options and "melody" not in options else ""

    assert command == f"musicgen generate {prompt}--duration 1 --seed 7{options} --local --model nano"


@pytest.mark.parametrize("prompt", AWKWARD)
def test_the_command_generates_the_take_again(
    musicgen: Callable[..., Any], store: Store, service: HTTPServer, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    """Whatever the prompt is, the take has the same prompt, seed and parameters."""
    monkeypatch.setattr(sys, "stdin", None)
    url = service.url_for("/").rstrip("/")
    first = take(store, prompt, origin={"kind": "http", "url": url})
    words, stdin = by_the_shell(generate_command(first) or "")
    if stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    done = musicgen(words[0], "-q", *words[1:])

    assert done.code == 0, done.err
    second = store.get("last")
    assert (second.prompt, second.seed) == (first.prompt, 7)
    assert second.params == {**PARAMS, "seed": 7}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("calm", "musicgen generate calm --duration 1 ENGINE"),
        ("it's 5 o\u2019clock", "musicgen generate 'it''s 5 o\u2019\u2019clock' --duration 1 ENGINE"),
        ("$(reboot) `reboot %PATH%; &|", "musicgen generate '$(reboot) `reboot %PATH%; &|' --duration 1 ENGINE"),
        ("1.5", "musicgen generate 1.5 --duration 1 ENGINE"),
        ("-a.b", "musicgen generate --duration 1 ENGINE '--' '-a.b'"),
        ("-", "'-' | musicgen generate '-' --duration 1 ENGINE"),
        ("", "musicgen generate --duration 1 ENGINE"),
        ('"a"', "musicgen generate --from ID ENGINE"),
        ("a\\", "musicgen generate --from ID ENGINE"),
        ("two\nlines", "musicgen generate --from ID ENGINE"),
        ("\x85next", "musicgen generate --from ID ENGINE"),
    ],
)
def test_on_windows_the_command_is_for_powershell(store: Store, prompt: str, expected: str) -> None:
    """It never evaluates a prompt; one that some PowerShell would change is taken from the store."""
    one = take(store, prompt, params={"duration": 1.0}, seed=None)

    engine = "--local --model nano"
    assert generate_command(one, PowerShell) == expected.replace("ID", one.id).replace("ENGINE", engine)


def test_no_command_for_powershell_has_a_model_that_it_would_change(store: Store) -> None:
    """There is no command then."""
    origin = {"kind": "local", "model": 'a "b"'}
    assert generate_command(take(store, origin=origin), PowerShell) is None

"""What is shown fits the terminal: its encoding, its width, and an output that can't be written."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from musicgen_cli.cli.app import COMMANDS, build_app
from musicgen_cli.cli.completion.tree import command_of
from musicgen_cli.store import ArtifactDraft, Store
from tests.support import fakes
from tests.support.command_line import MUSICGEN, Run
from tests.support.terminal import on_terminal

PROMPT = "café 🎸 loop"
LONG_PROMPT = "a warm pad that slowly opens above a soft beat of brushes and of deep wooden percussion"
STYLE = re.compile("\x1b\\[[0-9;]*m")


def store_take(store_path: Path, prompt: str = PROMPT, *tags: str) -> str:
    origin = {"model": "facebook/musicgen-stereo-medium"}
    draft = ArtifactDraft(tags=tags, prompt=prompt, params={}, creator="me", origin=origin, seed=2**53 - 1)
    return Store(store_path).put(fakes.tone(), draft).id


def run(*words: str, encoding: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [*MUSICGEN, *words], env=env, capture_output=True, text=True, encoding=encoding, timeout=120, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "ascii:strict"])
@pytest.mark.parametrize("words", [["list"], ["show", "last"], ["list", "--wave"]])
def test_characters_that_the_encoding_lacks_are_escaped(store_path: Path, encoding: str, words: list[str]) -> None:
    """The others are printed as they are."""
    store_take(store_path)
    done = run(*words, encoding=encoding.partition(":")[0])

    assert (done.returncode, done.stderr) == (0, "")
    assert ("café" if encoding == "cp1252" else r"caf\xe9") + r" \U0001f3b8 loop" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_help_page_needs_no_character_beyond_ascii(encoding: str) -> None:
    """Nor any escape for one, whatever the encoding of a pipe."""
    for words in (["--help"], ["generate", "--help"], ["play", "--help"], ["job", "cancel", "--help"]):
        done = run(*words, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
        assert "\\" not in done.stdout


def test_no_help_page_has_a_character_beyond_ascii(musicgen: Run) -> None:
    """Those of all commands."""
    pages = [command.path for command in command_of(build_app(COMMANDS)).walk()]

    assert len(pages) > 30
    assert [path for path in pages if not musicgen(*path, "--help").out.isascii()] == []


def test_json_stays_json_in_every_encoding(store_path: Path) -> None:
    """What the encoding lacks becomes JSON's own escapes, on both streams."""
    store_take(store_path)
    done = run("list", "--json", encoding="ascii")
    failed = run("show", PROMPT, "--json", encoding="cp1252")

    assert json.loads(done.stdout)["prompt"] == PROMPT
    assert PROMPT in json.loads(failed.stderr)["error"]["message"]


@pytest.mark.parametrize("form", ["", "-q", "--json"])
def test_a_take_is_reported_whatever_its_prompt_holds(service: HTTPServer, store_path: Path, form: str) -> None:
    """A take that is stored has its id printed."""
    done = run("generate", PROMPT, "-d", "0.5", *form.split(), encoding="ascii")

    assert done.returncode == 0, done.stderr
    assert Store(store_path).get("last").id in done.stdout


def test_a_message_may_hold_any_character() -> None:
    """The same holds for standard error, and for messages about the command line itself."""
    done = run("list", "--🎸", encoding="ascii")

    assert done.returncode == 2
    assert r"--\U0001f3b8" in done.stderr


def test_a_table_fits_a_terminal_without_unicode(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Escapes are counted as wide as they are, and lines are drawn with ASCII."""
    store_take(store_path)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for words in (["list"], ["show", "last", "--tree"]):
        code, shown = on_terminal("-m", "musicgen_cli", *words, columns=60)

        assert code == 0, shown
        assert shown.isascii()
        assert "caf\\xe9" in shown
        assert {len(line) for line in STYLE.sub("", shown).splitlines() if "|" in line} <= set(range(61))


@pytest.mark.parametrize("columns", [0, 30, 40, 60, 80, 100, 200])
@pytest.mark.parametrize("words", [["list"], ["list", "--wave"]])
def test_a_table_shows_id_and_prompt_at_any_width(store_path: Path, columns: int, words: list[str]) -> None:
    """The other columns go first; no word is cut, and a width that isn't known is 80 columns."""
    id_ = store_take(store_path, LONG_PROMPT, "slow", "second")
    code, shown = on_terminal("-m", "musicgen_cli", *words, columns=columns)
    lines = [line.rstrip() for line in STYLE.sub("", shown).splitlines()]
    start = next(line.index("prompt") for line in lines if "prompt" in line)

    assert code == 0
    assert id_.removeprefix("artifact_") in shown
    assert set(LONG_PROMPT.split()) <= set(" ".join(line[start:] for line in lines).split())
    assert max(map(len, lines)) <= max(columns or 80, 37)  # of which the id and the shortest prompt take 37
    if columns in {0, 80}:
        assert ("created" in shown) != ("wave" in shown)
    if columns == 200:
        assert {"created", "seed", "model", "tags", "slow,", "second"} <= {*STYLE.sub("", shown).split()}


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["list", "--help"], ["list"], ["doctor"], ["store", "path"]]
)
def test_a_full_standard_output_is_exit_1(store_path: Path, words: list[str]) -> None:
    """Whatever is printed, the failure is one sentence."""
    store_take(store_path)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MUSICGEN, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )

    assert (done.returncode, done.stderr) == (1, "error: can't write to standard output: No space left on device\n")

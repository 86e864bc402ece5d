"""Forty strings that were made to be obeyed, through every command that prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import uuid
from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.actions.engines import EngineConfig
from musicgen_cli.actions.jobs.job import Job, to_record
from musicgen_cli.actions.jobs.jobs import Jobs
from musicgen_cli.store import Store
from tests.support.index_lines import head, name, put, sound
from tests.support.terminal import on_terminal

CORPUS = [
    # what terminals obey
    "\x1b[31mred",
    "\x1b[2J\x1b[Hcleared",
    "\x1b]0;title\x07",
    "\x1b]52;c;ZWNobyBoaQ==\x07",  # into the clipboard
    "\x1b]8;;file:///etc/passwd\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[6n",  # makes the terminal type
    '\x1bP$q"p\x1b\\',
    "\x1b_Gi=1;AAAA\x1b\\",
    "\x1b[?1049h",
    "\x1b[999;1H\x1b[1M",
    "\x1bc",
    "\x9b31mC1",
    "\x9d0;C1 title\x9c",
    "\x84\x85\x8d",
    "\b\b\b\b\b",
    "over\rwritten",
    "\x0e\x0fshift",
    "\x05\x07\x11\x13bell",
    "\x7f\x7f",
    "\x00NUL\x00",
    "a\tb\nc\x0bd\x0ce",
    # what reverses or hides
    "\u202egnp.exe",
    "\u2066a\u2069\u2067b\u2069\u2068c\u2069",
    "\u202aa\u202c\u202bb\u202c\u202dc\u202c",
    "\u200e\u200f\u061c",
    "line\u2028paragraph\u2029end",
    "العربية עברית",
    "e\u0301\u0301\u0301\u0301\u0301\u0301\u0301",
    # what Rich obeys
    "[bold red]loud[/bold red]",
    "[/]",
    "[/bold]",
    "[link=file:///etc/passwd]here[/link]",
    "[blink][conceal]x",
    ":skull: :smile:",
    "\\[bold]x\\[/bold]",
    "[@click=app.quit]x[/]",
    # what formats and shells obey
    "{id} {0} {prompt_slug.__class__} %s %n $(reboot) `reboot`",
    "../../etc/passwd",
    "-rf --yes",
    "<script>alert(1)</script>&amp;'\"",
]
ASKED = [*(text for text in CORPUS if "\0" not in text), "\udc9b31m"]  # what can be an argument, the last one no UTF-8
LITERALLY = ["[bold red]loud[/bold red]", "[link=file:///etc/passwd]here[/link]", ":skull: :smile:", r"\x1b[31mred"]
STYLE = re.compile("\x1b\\[[0-9;]*m")
_OBEYED = {"Cc", "Cs", "Zl", "Zp"}
_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_MARKS = "\u200e\u200f\u061c"
# Runs many commands in one process; a file holds them, as an argument holds no surrogates that were made by hand.
_ALL = """
import json, sys
from musicgen_cli.cli.app import run
for words in json.load(open(sys.argv[1])):
    run(words)
"""


def test_the_corpus_is_forty_strings() -> None:
    """As many as the name of this file's docstring says."""
    assert len(set(CORPUS)) == 40


def written(root: Path, texts: list[str]) -> None:
    """Write a store as another program could: each text as prompt, tag, creator, set, model and licence of one take."""
    (root / "blobs").mkdir(parents=True)
    lines = [head()]
    for number, text in enumerate(texts):
        origin = {"kind": text, "model": text, "engine": text, "precision": text, "url": text}
        more = {"variation_set_id": text, "variation_index": 0, "license": text, "parent_id": text, text: text}
        params = {"duration": 1.0, text: text}
        lines.append(
            put(name(number), prompt=text, tags=[text], creator=text, origin=origin, params=params, mime=text, **more)
        )
    (root / "index.jsonl").write_bytes(b"".join(lines))


def jobs_written(root: Path, texts: list[str]) -> None:
    """Write jobs as another program could, all of them over and lately."""
    jobs = Jobs(Store(root), settings.state_dir())
    jobs.folder.mkdir(parents=True)
    for place, text in enumerate(texts):
        id_ = str(uuid.UUID(int=place))
        job = Job(
            id_,
            "failed",
            place,
            "2026-11-22T10:00:00.000Z",
            {"prompt": text},
            {"creator": text, "tags": [text]},
            EngineConfig(local=False),
        )
        record = to_record(job) | {"finished": f"9{text}", "error": {"message": text, "code": text, text: text}}
        (jobs.folder / f"{id_}.json").write_text(json.dumps(record))


def commands(texts: list[str], folder: Path) -> list[list[str]]:
    """Return every command that prints what a record, a file or an argument says."""
    ids = [name(number) for number in range(len(texts))]
    fixed = [
        "list --all",
        "list --all --json",
        "list --all -q",
        "list --all --wave",
        "store stats",
        "store check",
        "store check --full --json",
    ]
    fixed += ["store compact --dry-run", "store repair --dry-run --adopt", "store gc", "store path", "doctor"]
    done = [words.split() for words in fixed]
    for each, text in zip(ids, texts, strict=True):
        done += [["show", each], ["show", each, "--json"], ["show", each, "--tree"], ["show", each, "--path"]]
        done += [["tag", each, "--add", "x"], ["tag", each, "--rm", "x", "--json"], ["rm", each]]
        done += [["export", each, "-o", str(folder / "out"), "--name", "{prompt_slug}-{id}", "--sidecar"]]
        asked = text.replace("\0", "")
        done += [["show", asked], ["show", "--", asked], ["list", f"--tag={asked}"], ["list", f"--since={asked}"]]
        done += [["list", f"--search={asked}", "--all"], ["list", f"--set={asked}", "--json"], [asked], ["tag", asked]]
        done += [["generate", f"--seed={asked}"], ["generate", asked, "-d", "99"], ["generate", f"--{asked}"]]
        done += [
            ["generate", "x", f"--url=ftp://{asked}/"],
            ["generate", "x", "--local", f"--model={asked}"],
        ]
        done += [["play", asked], ["play", each], ["export", ids[0], f"--format={asked}"]]
        done += [["import", str(folder / asked)], ["export", ids[0], "-o", str(folder / asked / "x.wav")]]
        done += [["gallery", "-q", f"--tag={asked}", "-o", str(folder / "pages" / asked)]]  # a bar is our own styling
        done += [["model", "show", asked], ["model", "rm", asked], ["batch", str(folder / asked)]]
        done += [["job", "show", asked], ["job", "cancel", asked], ["job", "poll", f"--mode={asked}"]]
        done += [["job", "poll", "--", asked], ["job", "poll", "--json", f"--timeout-ms={asked}"]]
        done += [["generate", asked, "--detach", "--local", f"--engine={asked}"]]
    done += [["batch", str(folder / "rows.jsonl")], ["batch", str(folder / "rows.txt"), "--sweep", texts[0]]]
    done += [["job", "list"], ["job", "list", "--json"], ["job", "show", "last"], ["job", "show", "last", "--json"]]
    done += [["import", str(folder / "found")], ["play", "last"], ["show", "last"], ["list", "--wave", "-n", "4"]]
    done += [["export", "last", "-o", f"{folder}/out/", "--format", form] for form in ("wav", "flac", "ogg", "mp3")]
    done += [["import", str(folder / "out")]]
    return [*done, ["rm", *ids, "--yes"], ["list", "--all"]]


def told(root: Path, texts: list[str], place: Path, *, terminal: bool) -> str:
    """Run all commands over a store of these texts, and return all that they printed."""
    written(root, texts)
    jobs_written(root, texts)
    folder = place / "files"
    (folder / "found").mkdir(parents=True)
    for number, text in enumerate(texts):
        file_name = text.replace("\0", "").replace("/", "_")
        (folder / "found" / f"{file_name}.wav").write_bytes(sound(number) if number % 2 else b"no sound")
        (folder / "found" / f"{file_name}.json").write_text(json.dumps({"prompt": text, "tags": [text]}))
    rows = [{"prompt": text, "seed": text, "tags": [text], "parent_id": text, text: text} for text in texts]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rows.txt").write_text("".join(text.replace("\n", " ") + "\n" for text in texts))
    listed = place / "commands.json"
    listed.write_text(json.dumps(commands(texts, folder)))
    words = ["-c", _ALL, str(listed)]
    if terminal:
        code, shown = on_terminal(*words, columns=400)
    else:
        done = subprocess.run([sys.executable, *words], capture_output=True, check=False)
        code, shown = done.returncode, (done.stdout + done.stderr).decode()
    assert code == 0, shown[-2000:]
    return shown


def obeyed(text: str) -> set[str]:
    """Return the characters in it that do something, other than to end a line."""
    return {
        char
        for char in set(text) - {"\n"}
        if unicodedata.category(char) in _OBEYED
        or unicodedata.bidirectional(char) in _BIDI
        or char in "\u200e\u200f\u061c"
    }


@pytest.mark.skipif(os.name == "nt", reason="file names there can't hold what these do")
def test_nothing_piped_is_an_instruction(store_path: Path, tmp_path: Path) -> None:
    """No control character at all, but the tabs between columns; markup and the rest stand as they were written."""
    shown = told(store_path, CORPUS, tmp_path, terminal=False)

    assert obeyed(shown) <= {"\t"}
    for text in (
        "[bold red]loud[/bold red]",
        "[link=file:///etc/passwd]here[/link]",
        ":skull: :smile:",
        r"\x1b[31mred",
    ):
        assert text in shown
    assert "Traceback" not in shown


@pytest.mark.skipif(os.name == "nt", reason="there is no pty")
def test_nothing_on_a_terminal_is_an_instruction_but_our_own_styling(store_path: Path, tmp_path: Path) -> None:
    """Only what plain words are styled with, too."""
    plain = told(store_path, ["plain"] * 3, tmp_path / "plain", terminal=True)
    shutil.rmtree(store_path)
    shutil.rmtree(settings.state_dir())
    shown = told(store_path, CORPUS, tmp_path / "hostile", terminal=True)

    assert set(STYLE.findall(shown)) <= set(STYLE.findall(plain))
    assert obeyed(STYLE.sub("", shown).replace("\r\n", "\n")) == set()
    bare = STYLE.sub("", shown)
    for text in (
        "[bold red]loud[/bold red]",
        "[link=file:///etc/passwd]here[/link]",
        ":skull: :smile:",
        r"\x1b[31mred",
    ):
        assert text in bare


@pytest.mark.parametrize("text", ASKED)
def test_what_is_typed_is_never_an_instruction(musicgen, store_path: Path, text: str) -> None:
    """Lone surrogates too, as they come from arguments that are no UTF-8."""
    for words in (
        ["show", text],
        ["list", f"--creator={text}"],
        ["generate", text, "-d", "99"],
        ["import", f"/{text}"],
    ):
        done = musicgen(*words)
        assert obeyed(done.out + done.err) == set(), words

"""No command prints control characters or obeys markup: forty hostile strings go through all of them."""

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
from tests.support.command_line import Run
from tests.support.index_lines import head, name, put, sound
from tests.support.terminal import on_terminal

CORPUS = [
    # control characters and sequences of terminals
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
    # characters that reverse or hide text
    "\u202egnp.exe",
    "\u2066a\u2069\u2067b\u2069\u2068c\u2069",
    "\u202aa\u202c\u202bb\u202c\u202dc\u202c",
    "\u200e\u200f\u061c",
    "line\u2028paragraph\u2029end",
    "العربية עברית",
    "e\u0301\u0301\u0301\u0301\u0301\u0301\u0301",
    # markup of Rich
    "[bold red]loud[/bold red]",
    "[/]",
    "[/bold]",
    "[link=file:///etc/passwd]here[/link]",
    "[blink][conceal]x",
    ":skull: :smile:",
    "\\[bold]x\\[/bold]",
    "[@click=app.quit]x[/]",
    # templates, shell commands, paths, options, HTML
    "{id} {0} {prompt_slug.__class__} %s %n $(reboot) `reboot`",
    "../../etc/passwd",
    "-rf --yes",
    "<script>alert(1)</script>&amp;'\"",
]
ARGUMENTS = [*(text for text in CORPUS if "\0" not in text), "\udc9b31m"]  # the last one is not UTF-8
# Parts of the output as they must appear.
LITERALS = ["[bold red]loud[/bold red]", "[link=file:///etc/passwd]here[/link]", ":skull: :smile:", r"\x1b[31mred"]
STYLE = re.compile("\x1b\\[[0-9;]*m")
_UNSAFE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
_UNSAFE_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_UNSAFE_MARKS = "\u200e\u200f\u061c"
# Runs many commands in one process. They come from a file, as arguments can't hold every surrogate.
_RUN_ALL = """
import json, sys
from musicgen_cli.cli.app import run
for words in json.load(open(sys.argv[1])):
    run(words)
"""


def test_the_corpus_is_forty_strings() -> None:
    """The docstring of this file and the README name that number."""
    assert len(set(CORPUS)) == 40


def write_store(root: Path, texts: list[str]) -> None:
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


def write_jobs(root: Path, texts: list[str]) -> None:
    """Write jobs as another program could; all of them failed lately."""
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
    """Return every command that prints parts of a record, a file or an argument."""
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
        arg = text.replace("\0", "")
        done += [["show", arg], ["show", "--", arg], ["list", f"--tag={arg}"], ["list", f"--since={arg}"]]
        done += [["list", f"--search={arg}", "--all"], ["list", f"--set={arg}", "--json"], [arg], ["tag", arg]]
        done += [["generate", f"--seed={arg}"], ["generate", arg, "-d", "999"], ["generate", f"--{arg}"]]
        done += [["generate", "x", f"--url=ftp://{arg}/"], ["generate", "x", "--local", f"--model={arg}"]]
        done += [["play", arg], ["play", each], ["export", ids[0], f"--format={arg}"]]
        done += [["import", str(folder / arg)], ["export", ids[0], "-o", str(folder / arg / "x.wav")]]
        done += [["gallery", "-q", f"--tag={arg}", "-o", str(folder / "pages" / arg)]]  # -q: without a bar
        done += [["model", "show", arg], ["model", "rm", arg], ["batch", str(folder / arg)]]
        done += [["job", "show", arg], ["job", "cancel", arg], ["job", "poll", f"--mode={arg}"]]
        done += [["job", "poll", "--", arg], ["job", "poll", "--json", f"--timeout-ms={arg}"]]
        done += [["generate", arg, "--detach", "--local", f"--engine={arg}"]]
    done += [["batch", str(folder / "rows.jsonl")], ["batch", str(folder / "rows.txt"), "--sweep", texts[0]]]
    done += [["job", "list"], ["job", "list", "--json"], ["job", "show", "last"], ["job", "show", "last", "--json"]]
    done += [["import", str(folder / "found")], ["play", "last"], ["show", "last"], ["list", "--wave", "-n", "4"]]
    done += [["export", "last", "-o", f"{folder}/out/", "--format", form] for form in ("wav", "flac", "ogg", "mp3")]
    done += [["import", str(folder / "out")]]
    return [*done, ["rm", *ids, "--yes"], ["list", "--all"]]


def output_of_all(root: Path, texts: list[str], place: Path, *, terminal: bool) -> str:
    """Run all commands on a store of these texts, and return what they print."""
    write_store(root, texts)
    write_jobs(root, texts)
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
    words = ["-c", _RUN_ALL, str(listed)]
    if terminal:
        code, shown = on_terminal(*words, columns=400)
    else:
        done = subprocess.run([sys.executable, *words], capture_output=True, check=False)
        code, shown = done.returncode, (done.stdout + done.stderr).decode()
    assert code == 0, shown[-2000:]
    return shown


def unsafe(text: str) -> set[str]:
    """Return the control and bidirectional characters of a text, except line ends."""
    return {
        char
        for char in set(text) - {"\n"}
        if unicodedata.category(char) in _UNSAFE_CATEGORIES
        or unicodedata.bidirectional(char) in _UNSAFE_BIDI
        or char in _UNSAFE_MARKS
    }


@pytest.mark.skipif(os.name == "nt", reason="file names there can't hold what these do")
def test_piped_output_has_no_control_characters(store_path: Path, tmp_path: Path) -> None:
    """Only tabs between columns are left; Rich markup and other text is printed as it is."""
    shown = output_of_all(store_path, CORPUS, tmp_path, terminal=False)

    assert unsafe(shown) <= {"\t"}
    for text in LITERALS:
        assert text in shown
    assert "Traceback" not in shown


@pytest.mark.skipif(os.name == "nt", reason="there is no pty")
def test_a_terminal_gets_only_our_own_styling(store_path: Path, tmp_path: Path) -> None:
    """Escape sequences are only those that plain texts get, too."""
    plain = output_of_all(store_path, ["plain"] * 3, tmp_path / "plain", terminal=True)
    shutil.rmtree(store_path)
    shutil.rmtree(settings.state_dir())
    shown = output_of_all(store_path, CORPUS, tmp_path / "hostile", terminal=True)

    assert set(STYLE.findall(shown)) <= set(STYLE.findall(plain))
    assert unsafe(STYLE.sub("", shown).replace("\r\n", "\n")) == set()
    bare = STYLE.sub("", shown)
    for text in LITERALS:
        assert text in bare


@pytest.mark.parametrize("text", ARGUMENTS)
def test_arguments_are_printed_without_control_characters(musicgen: Run, store_path: Path, text: str) -> None:
    """The arguments include a lone surrogate, which stands for a byte that is not UTF-8."""
    for words in (
        ["show", text],
        ["list", f"--creator={text}"],
        ["generate", text, "-d", "999"],
        ["import", f"/{text}"],
    ):
        done = musicgen(*words)
        assert unsafe(done.out + done.err) == set(), words

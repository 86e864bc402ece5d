from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from musicgen_cli import settings
from musicgen_cli.actions.jobs.folder import job_folder
from musicgen_cli.cli.app import ALIASES, COMMANDS, build_app
from musicgen_cli.cli.completion import SHELLS, script
from musicgen_cli.cli.completion.tree import VALUES, Command, command_of
from musicgen_cli.cli.completion.values import KINDS
from musicgen_cli.store import ArtifactDraft, Store
from tests.support import fakes
from tests.support.command_line import MUSICGEN
from tests.support.shells import COMPLETIONS, SCRIPTS, Shell, environment, needs_shell

# Each of the commands in them would create a file in the current folder of the shell.
HOSTILE = ("$(touch pwned)", "`touch pwned`", "x;touch pwned", "it's", "a b", "*", "~", "#no", "(touch pwned)", "!!")


@pytest.fixture(scope="module")
def commands() -> Command:
    return command_of(build_app(COMMANDS))


@pytest.fixture
def store(store_path: Path) -> Store:
    """Make a store of hostile takes; their ids start with different digits."""
    store = Store(store_path)
    for i, text in enumerate((*HOSTILE, "type:audio", "type:voice", "ünï")):
        draft = ArtifactDraft(
            tags=(text,),
            prompt=f"{text}\n\x1b[2J\t{text}",
            params={},
            creator=f"by {text}",
            origin={"model": "nano"},
            variation_set_id=f"set {text}",
        )
        store.put(fakes.tone(seed=i), draft)
    return store


def complete(kinds: str, *words: str) -> list[list[str]]:
    """Run musicgen as a completion script does; return values with their hints."""
    done = subprocess.run(
        [*MUSICGEN, *words],
        env=os.environ | {"_MUSICGEN_COMPLETE": kinds},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stderr == ""
    return [line.split("\t") for line in done.stdout.splitlines()]


def values_of(kinds: str, *words: str) -> list[str]:
    return [value for value, _ in complete(kinds, *words)]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts_are_up_to_date(shell: str) -> None:
    """`completions/` holds what `musicgen --show-completion` prints."""
    done = subprocess.run([*MUSICGEN, "--show-completion", shell], capture_output=True, check=True, text=True)
    name = f"completions/{SCRIPTS[shell]}"

    assert (COMPLETIONS.parent / name).read_text() == done.stdout, f"musicgen --show-completion {shell} > {name}"


def test_every_value_has_a_kind(commands: Command) -> None:
    """Every option and argument is classified, and every kind that the table of values names exists."""
    unknown = [name for command in commands.walk() for name in command.unknown]

    assert not unknown, f"what completes these? add each to VALUES in cli/completion/tree.py: {', '.join(unknown)}"
    for value in VALUES.values():
        assert not value.stored or set(value.stored.split(",")) <= set(KINDS)


def test_an_alias_completes_like_its_command(commands: Command) -> None:
    """Its options take the same values, also where those of other commands take others."""
    by_name = {command.name: command for command in commands.walk()}
    for alias, name in ALIASES.items():
        assert by_name[alias].options == by_name[name].options


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_names_every_command_and_option(shell: str, commands: Command) -> None:
    """A script without one of them would be taken for a complete one."""
    text = script(shell, build_app(COMMANDS))
    for command in commands.walk():
        for word in command.path:
            assert word in text
        for flag in (flag for option in command.options for flag in option.flags):
            assert (flag if shell != "fish" else f"-{'l' if flag[1] == '-' else 's'} {flag.lstrip('-')}") in text


@pytest.mark.parametrize("shell", SHELLS)
def test_no_script_evaluates_anything(shell: str) -> None:
    """Prompts and tags may come from anybody."""
    text = (COMPLETIONS / SCRIPTS[shell]).read_text()

    assert not re.search(r"\beval\b|\bsource\b|\$\{\(e\)|Invoke-Expression|\biex\b|ScriptBlock\]", text)


def test_the_script_for_powershell_quotes_what_it_holds() -> None:
    """PowerShell 5.1 would read other characters than ASCII in the system's code page."""
    text = (COMPLETIONS / SCRIPTS["powershell"]).read_text("ascii")

    assert "the file''s ending" in text
    assert "$values['generate --precision'] = @('', 'int8 fp32 bf16')" in text
    assert "$values['show @0'] = @('takes,sets', '')" in text


def test_an_unknown_shell_is_wrong_usage() -> None:
    """The message names the known shells."""
    done = subprocess.run([*MUSICGEN, "--show-completion", "tcsh"], capture_output=True, check=False, text=True)

    assert done.returncode == 2
    assert "bash, zsh, fish" in done.stderr


def test_ids_come_newest_first_with_their_prompts(store: Store) -> None:
    """A hint is one printable line of at most 60 characters, whatever the prompt is."""
    long = store.put(fakes.tone(seed=99), ArtifactDraft((), "x" * 900, {}, "me", {}))
    pairs = complete("takes", "show", "")

    assert pairs[0] == ["last", "x" * 59 + "…"]
    assert pairs[1] == [long.id, "x" * 59 + "…"]
    assert [value for value, _ in pairs[1:]] == [take.id for take in store.newest(None)]
    assert pairs[-1][1] == r"$(touch pwned) \x1b[2J $(touch pwned)"


def test_an_id_completes_in_the_form_in_which_it_is_typed(store: Store) -> None:
    """It has the prefix `artifact_`, or not."""
    ids = [take.id for take in store.newest(None)]

    assert values_of("takes", "show", "art")[1:] == ids
    assert values_of("takes", "show", ids[0])[1:] == ids
    assert values_of("takes", "show", "0")[1:] == [id_.removeprefix("artifact_") for id_ in ids]


def test_what_restores_completes_removed_takes(store: Store) -> None:
    """The last one removed first, for which `last` stands; what is restored again is live."""
    assert values_of("removed", "undo", "") == []
    live = [take.id for take in store.newest(None)]
    store.remove(live[2])
    store.remove(live[4:6])
    store.remove(live[0])
    store.restore(live[4])
    removed = ["last", live[0], live[5], live[2]]

    assert values_of("removed", "undo", "") == removed
    assert values_of("removable", "rm", "--undo", "") == removed
    assert values_of("removable", "rm", "")[1:] == [take.id for take in store.newest(None)]


def test_tags_sets_creators_and_models_complete_once_each(store: Store) -> None:
    """They are those of the stored takes, without removed ones."""
    texts = [*HOSTILE, "type:audio", "type:voice", "ünï"][::-1]

    assert values_of("tags", "tag", "last", "--add", "") == texts
    assert values_of("sets", "list", "--set", "") == [f"set {text}" for text in texts]
    assert values_of("creators", "list", "--creator", "") == [f"by {text}" for text in texts]
    assert values_of("makers", "list", "--model", "") == ["nano"]
    store.remove(["last"])
    assert values_of("tags", "") == texts[1:]


def test_values_that_cannot_be_typed_are_left_out(store_path: Path) -> None:
    """An escape sequence would change the line, and a value that starts with a dash would be an option."""
    for i, name in enumerate(("\x1b[31mred", "a\nb", "--yes", " blank", "good")):
        Store(store_path).put(fakes.tone(seed=i), ArtifactDraft((), "", {}, name, {}))

    assert values_of("creators", "") == ["good"]


def test_values_are_those_of_the_store_in_the_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named by either form of `--store`, else by MUSICGEN_STORE, else by config.toml."""
    monkeypatch.delenv("MUSICGEN_STORE")
    for words in (["--store", str(store.root)], [f"--store={store.root}"]):
        assert "type:audio" in values_of("tags", "list", *words, "-t", "")
        assert values_of("tags", "list", "--", *words, "") == []
    assert values_of("tags", "list", "-t", "") == []
    settings.config_file().parent.mkdir(parents=True)
    settings.config_file().write_text(f"store = {json.dumps(str(store.root))}")
    assert "type:audio" in values_of("tags", "list", "-t", "")
    assert values_of("tags", "list", "--store", str(tmp_path / "none"), "-t", "") == []


def test_what_cannot_be_read_completes_to_nothing(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store is created, and an unknown kind prints no message."""
    for kind in KINDS:
        complete(kind, "show", "")
    assert values_of("bogus", "") == values_of("takes", "") == values_of("takes") == values_of("jobs", "") == []
    assert not store_path.exists()
    assert not settings.state_dir().exists()

    store_path.write_text("a file")
    assert values_of("takes", "") == []
    monkeypatch.setenv("MUSICGEN_TIMEOUT", "soon")
    assert values_of("takes", "") == []


def test_jobs_complete_from_their_files(store: Store) -> None:
    """The newest come first, with state and prompt; no runner is started, and a damaged job has no hint."""
    folder = job_folder(store.root, settings.state_dir())
    folder.mkdir(parents=True)
    ids = [f"{i}0000000-0000-4000-8000-000000000000" for i in range(3)]
    for i, id_ in enumerate(ids):
        path = folder / f"{id_}.json"
        path.write_text(json.dumps({"state": "pending", "request": {"prompt": "a\nb"}}) if i else "torn")
        os.utime(path, (i, i))
    (folder / "runner.json").write_text("{}")

    assert complete("jobs", "job", "show", "") == [
        ["last", ""],
        [ids[2], "pending: a b"],
        [ids[1], "pending: a b"],
        [ids[0], ""],
    ]
    assert len(list(folder.iterdir())) == 4


def test_models_complete_once_each() -> None:
    """Models on this machine come first, then those that could be pulled."""
    pulled = settings.models_dir() / "owner--model"
    pulled.mkdir(parents=True)
    (pulled / "manifest.json").write_text("{}")
    (settings.models_dir() / "medium").mkdir()
    (settings.models_dir() / "unfinished").mkdir()

    assert values_of("pulled", "") == ["medium", "owner--model"]
    assert values_of("here", "") == ["nano", "medium", "owner--model"]
    assert values_of("models", "")[:5] == ["auto", "nano", "medium", "owner--model", "small"]
    assert values_of("models", "").count("medium") == 1


def test_completion_imports_little_but_the_store(store_path: Path) -> None:
    """It runs at each press of Tab."""
    Store(store_path).put(fakes.tone(), ArtifactDraft(("a",), "x", {}, "me", {}))
    code = (
        "import sys; from musicgen_cli.__main__ import main; sys.argv = ['musicgen', 'show', '']; main()\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"_MUSICGEN_COMPLETE": "takes,tags,jobs,models"},
        capture_output=True,
        check=True,
        text=True,
    )
    loaded = set(done.stderr.split())

    assert "musicgen_cli.store" in loaded
    assert not loaded & {"typer", "rich", "pydantic", "pydantic_core", "filelock", "httpx", "numpy", "asyncio"}


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[Shell]:
    needs_shell(request.param)
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(request.param, home)
    yield shell
    shell.close()
    assert not (home / "pwned").exists()


def test_tab_in_a_shell_completes_words_and_values(shell: Shell, store: Store) -> None:
    """Commands, options, choices, ids in both forms, values with colons, and paths complete, also after `=`."""
    newest = next(store.newest(1)).id
    short = newest.removeprefix("artifact_")
    (store.root.parent / "home" / "tune.wav").touch()
    for typed, completed in {
        "gen\t": "generate ",
        "job po\t": "job poll ",
        "list --al\t": "list --all ",
        "generate x --device cu\t": "generate x --device cuda ",
        "generate --device=cu\t": "generate --device=cuda ",
        f"show {newest[:14]}\t": f"show {newest} ",
        f"export last {short[:5]}\t": f"export last {short} ",
        f"generate --from {newest[:14]}\t": f"generate --from {newest} ",
        f"generate --continue {newest[:14]}\t": f"generate --continue {newest} ",
        "generate --melody tu\t": "generate --melody tune.wav ",
        "tag last --add ty\t": "tag last --add type:",
        "tag last --add type:v\t": "tag last --add type:voice ",
        "tag last --add=type:v\t": "tag last --add=type:voice ",
        "list -t ü\t": "list -t ünï ",
        "model show n\t": "model show nano ",
        "store path --store b\t": "store path --store bin/",
        "show bi\t": "show bi",
        "undo art\t": "undo art",
        "list -t type:v --store nowhere -t ty\t": "list -t type:v --store nowhere -t ty",
    }.items():
        assert shell.line_after(f"musicgen {typed}") == f"musicgen {completed}"
    assert not (store.root.parent / "home/nowhere").exists()


def test_hostile_values_are_quoted_and_never_run(shell: Shell) -> None:
    """Every tag and set is completed to one word that is quoted as the line needs it, also within open quotes."""
    for typed, completed in {
        r"\`": r"\`touch\ pwned\`",
        r"\*": r"\*",
        r"\~": r"\~",
        r"\#": r"\#no",
        r"\!": r"\!\!",
        r"\(": r"\(touch\ pwned\)",
        "x": r"x\;touch\ pwned",
        "it": r"it\'s",
        "a": r"a\ b",
        "'a": "'a b'",
        '"a': '"a b"',
        "'$": "'$(touch pwned)'",
        "'x": "'x;touch pwned'",
    }.items():
        assert shell.line_after(f"musicgen tag last --add {typed}\t") == f"musicgen tag last --add {completed} "
    assert shell.line_after("musicgen list --set set\\ x\t") == r"musicgen list --set set\ x\;touch\ pwned "


def test_the_list_shows_prompts_as_hints(shell: Shell, store: Store) -> None:
    """They are printable, and not inserted into the line."""
    typed = "musicgen rm artifact_"
    shown = shell.shown_after(f"{typed}\t\t")

    assert r"it's \x1b[2J it's" in shown
    assert "\x1b[2J" not in shown
    for take in store.newest(None):
        assert take.id in shown
    assert "(" not in shell.line_after(f"{typed}\t\t")


@pytest.fixture
def fish(store: Store, tmp_path: Path) -> Iterator[Path]:
    needs_shell("fish")
    home = tmp_path / "home"
    home.mkdir()
    yield home
    assert not (home / "pwned").exists()


def candidates(home: Path, line: str) -> list[str]:
    """Return what fish offers for a line."""
    done = subprocess.run(
        ["fish", "--no-config", "-c", 'source "$COMPLETIONS/musicgen.fish"; complete -C $argv[1]', line],
        env=environment(home),
        cwd=home,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_fish_offers_words_and_values(fish: Path, store: Store) -> None:
    """Each is offered where it belongs, with its help or its hint."""
    newest = next(store.newest(1)).id

    assert "job\tManage takes that are made in the background." in candidates(fish, "musicgen ")
    assert candidates(fish, "musicgen job po") == ["poll\tWait for jobs and print one JSON object."]
    assert candidates(fish, "musicgen list --al") == ["--all\tShow all takes."]
    assert [line.split("\t")[0] for line in candidates(fish, "musicgen generate --device c")] == ["cpu", "cuda"]
    assert candidates(fish, f"musicgen show {newest[:14]}") == [rf"{newest}{chr(9)}ünï \x1b[2J ünï"]
    assert candidates(fish, "musicgen tag last --add type:") == ["type:voice", "type:audio"]
    assert candidates(fish, "musicgen model rm ") == candidates(fish, "musicgen list ") == []
    assert candidates(fish, "musicgen store path --store b") == ["bin/\tDirectory"]
    (fish / "tune.wav").touch()
    assert [line.split("\t")[0] for line in candidates(fish, "musicgen generate --continue tu")] == ["tune.wav"]
    for line in ("tag last --add ", "tag last --add="):
        tags = [tag.removeprefix("--add=") for tag in candidates(fish, f"musicgen {line}")]
        assert {*HOSTILE} <= {*tags}
